"""Every defs.yaml of a project as specs, without Dagster.

A component type `package.component.Name` is declared by the spec `package.spec.NameSpec`; that convention is
all this module knows of the stages.
"""

import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.spec import NamedSpec

DEFS_FOLDER = Path(__file__).parent / "defs"


@cache
def load(folder: Path = DEFS_FOLDER) -> Catalog:
    """The catalog of all declarations below a folder, read once per process."""
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
    for document in yaml.safe_load_all(path.read_text()):
        kind = spec_type(str((document or {}).get("type", "")), path)
        if kind is not None:
            yield _parse(kind, document.get("attributes") or {}, path)


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


def _parse(kind: type[NamedSpec], attributes: dict[str, Any], path: Path) -> NamedSpec:
    try:
        return kind.model_validate(attributes, context={"folder": path.parent})
    except ValidationError as err:
        raise invalid(path, kind.__name__, err, under="attributes.") from err


def invalid(path: Path, what: str, err: ValidationError, *, under: str = "") -> DeclarationError:
    """The error for a file that is not what it should be: every problem with its field path, on a line of its own."""
    lines = [f"  {under}{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()]
    return DeclarationError(f"{path} is not a valid {what}:\n" + "\n".join(lines))
