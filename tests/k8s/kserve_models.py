"""What KServe knows of its resources, read from the models that its own SDK has of them; nothing of it is run."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

from tests.k8s.tools import packages

_PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def unknown(value: Any, kind: str, *, at: str = "") -> list[str]:
    """Where a value is no `kind` of KServe: fields that it does not have, and values of another type.

    What is Kubernetes' own in it (`V1Container` and so on) is left to the schema of Kubernetes.
    """
    if found := re.fullmatch(r"list\[(.*)\]", kind):
        return _each(enumerate(value), found[1], at) if isinstance(value, list) else [f"{at}: no list"]
    if found := re.fullmatch(r"dict\(str, (.*)\)", kind):
        return _each(value.items(), found[1], at) if isinstance(value, dict) else [f"{at}: no mapping"]
    if kind in _PLAIN:
        fits = isinstance(value, _PLAIN[kind]) and (kind == "bool") == isinstance(value, bool)
        return [] if fits else [f"{at}: no {kind}"]
    fields = _fields(kind)
    if fields is None:
        return []
    if not isinstance(value, dict):
        return [f"{at}: no {kind}"]
    known = {name: given for name, given in value.items() if name in fields}
    wrong = [f"{at}.{name}: no field of {kind}" for name in value if name not in fields]
    return wrong + [
        found for name in known for found in unknown(known[name], fields[name], at=f"{at}.{name}")
    ]


def _each(items: Any, kind: str, at: str) -> list[str]:
    return [wrong for key, value in items for wrong in unknown(value, kind, at=f"{at}.{key}")]


@cache
def _fields(kind: str) -> dict[str, str] | None:
    """Type by the name of the field in YAML; None for a kind that is not KServe's."""
    module = _modules().get(kind)
    if module is None:
        return None
    tables = {
        target.id: ast.literal_eval(node.value)
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name) and target.id in {"openapi_types", "attribute_map"}
    }
    return {tables["attribute_map"][name]: kind for name, kind in tables["openapi_types"].items()}


@cache
def _modules() -> dict[str, Path]:
    folder = packages("kserve") / "models"
    imports = ast.parse((folder / "__init__.py").read_text()).body
    return {
        alias.name: folder / f"{str(node.module).rpartition('.')[2]}.py"
        for node in imports
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kserve.models.")
        for alias in node.names
    }
