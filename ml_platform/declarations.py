"""Every defs.yaml of a project as specs, without Dagster.

A component type `package.component.Name` is declared by the spec `package.spec.NameSpec`; that convention is
all this module knows of the stages.
"""

import difflib
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.settings import settings
from ml_platform.kernel.spec import NamedSpec, Spec
from ml_platform.kernel.yaml_places import line_of


def defs_folder() -> Path:
    """The folder of the declarations that count: of the project that is worked on."""
    return settings().declared_in.defs


def load(folder: Path | None = None) -> Catalog:
    """The catalog of all declarations below a folder, by default of the project's, read once per process."""
    return _read(folder or defs_folder())


@cache
def _read(folder: Path) -> Catalog:
    specs: dict[tuple[type[NamedSpec], str], NamedSpec] = {}
    origins: dict[tuple[type[NamedSpec], str], str] = {}
    for path in sorted(folder.rglob("defs.yaml")):
        for spec in _specs_in(path):
            key = (type(spec), spec.name)
            if key in specs:
                raise DeclarationError(
                    f"{path}: a name of its own is required; {type(spec).__name__.removesuffix('Spec')} "
                    f"{spec.name!r} is already declared in {origins[key]}; rename one of them"
                )
            specs[key], origins[key] = spec, str(path)
    return Catalog(specs, origins)


def _specs_in(path: Path) -> Iterator[NamedSpec]:
    for number, document in enumerate(_documents(path)):
        kind = spec_type(str(document.get("type", "")), path)
        if kind is not None:
            yield _parse(kind, document.get("attributes") or {}, path, number)


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        found = [document or {} for document in yaml.safe_load_all(path.read_text())]
    except yaml.YAMLError as err:
        mark = getattr(err, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise DeclarationError(f"{where}: YAML is required; {getattr(err, 'problem', None) or err}") from err
    if wrong := [document for document in found if not isinstance(document, dict)]:
        raise DeclarationError(f"{path}: `type` and `attributes` are required; got {wrong[0]!r}")
    return found


def spec_type(component: str, path: Path) -> type[NamedSpec] | None:
    """The spec class of a component type; None for components that are not the platform's."""
    module_name, _, class_name = component.rpartition(".")
    if not module_name.endswith(".component"):
        return None
    try:
        module = importlib.import_module(f"{module_name.removesuffix('.component')}.spec")
    except ModuleNotFoundError as err:
        raise DeclarationError(f"{path}: type {component!r} is required to exist; {err}") from err
    found = getattr(module, f"{class_name}Spec", None)
    return found if isinstance(found, type) and issubclass(found, NamedSpec) else None


def _parse(kind: type[NamedSpec], attributes: dict[str, Any], path: Path, document: int) -> NamedSpec:
    try:
        return kind.model_validate(attributes, context={"folder": path.parent})
    except ValidationError as err:
        raise invalid(path, kind, err, under=("attributes",), document=document) from err


def invalid(
    path: Path, kind: type[Spec], err: ValidationError, *, under: tuple[str, ...] = (), document: int = 0
) -> DeclarationError:
    """The error for a file that is not what it should be: every problem with its line and field path."""
    lines: list[str] = []
    for found in err.errors():
        fields = (*under, *found["loc"])
        number = line_of(path, fields, document=document)
        line = "" if number is None else f" (line {number})"
        hint = _near(kind, str(found["loc"][-1])) if found["type"] == "extra_forbidden" else ""
        lines.append(f"  {'.'.join(map(str, fields))}: {found['msg']}{hint}{line}")
    return DeclarationError(f"{path} is not a valid {kind.__name__}:\n" + "\n".join(lines))


def _near(kind: type[Spec], name: str) -> str:
    """Which field may have been meant by one that does not exist."""
    schema = kind.model_json_schema()
    parts = [schema, *schema.get("$defs", {}).values()]
    known = {field for part in parts for field in part.get("properties", {})}
    near = difflib.get_close_matches(name, sorted(known), n=2)
    return f"; did you mean {' or '.join(near)}?" if near else ""
