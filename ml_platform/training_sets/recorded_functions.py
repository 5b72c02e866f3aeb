"""On-demand functions as text in a manifest, and as functions again when the one of then is no longer there.

Apart from `manifest.py`, because here text from a manifest is run: one file to review for that.
"""

import builtins
import dis
import hashlib
import importlib.util
import inspect
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CodeType

from ml_platform.features.spec import OnDemandFeaturesSpec
from ml_platform.kernel.digest import source_digest
from ml_platform.kernel.errors import DeclarationError, StoreError


def source_text(spec: OnDemandFeaturesSpec) -> str:
    """The source of a declared function; DeclarationError if it would not run from its source alone."""
    from ml_platform.features.feast_objects import on_demand_function

    function = on_demand_function(spec)
    text = inspect.getsource(function)
    code = compile(_module_text(text), spec.function, "exec")
    outside = sorted(_names_from_outside(code) - set(dir(builtins)) - {function.__name__})
    if outside:
        raise DeclarationError(
            f"OnDemandFeatures {spec.name!r}: {spec.function} must run from its source alone, in Feast and when a "
            f"training set is rebuilt; it uses {outside} of its module. Import or define them inside the function"
        )
    return text


@contextmanager
def importable(sources: Mapping[str, str], digests: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """For each recorded function by its import path of then, a path to import it by until the end of the block.

    That is its own path while its source is unchanged. A function that has changed, or is gone, is run from
    the recorded text, after its digest was compared: this runs code that was recorded with a training set.
    Whoever may write manifests to the model registry can run code here, like who may write these packages.
    """
    paths: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="recorded-") as folder:
        try:
            for path, text in sources.items():
                paths[path] = (
                    path if _is_unchanged(path, digests[path]) else _load(path, text, digests[path], folder)
                )
            yield paths
        finally:
            for path in set(paths.values()) - set(sources):
                sys.modules.pop(path.rpartition(".")[0], None)


def _is_unchanged(path: str, digest: str) -> bool:
    try:
        return source_digest(path) == digest
    except (ImportError, AttributeError, OSError, TypeError):
        return False  # gone, or no longer a function with source


def _load(path: str, text: str, digest: str, folder: str) -> str:
    """Make a module of a function's text; the path to import the function by."""
    if hashlib.sha256(text.encode()).hexdigest() != digest:
        raise StoreError(
            f"{path}: source with digest {digest[:12]} is required by the manifest, and its text has another one: "
            f"the manifest was changed after it was written. Nothing was run"
        )
    name = f"recorded_{digest}"
    file = Path(folder) / f"{name}.py"
    file.write_text(_module_text(text))
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[name] = module
    return f"{name}.{path.rpartition('.')[2]}"


def _module_text(text: str) -> str:
    """A module of one function. Types in its signature may come from the module of then; nobody evaluates them."""
    return f"from __future__ import annotations\n\n{textwrap.dedent(text)}"


def _names_from_outside(code: CodeType) -> set[str]:
    """Names that code, and the functions inside it, look up and do not make: in bodies, defaults and decorators."""
    used: dict[str, set[str]] = {"LOAD": set(), "STORE": set()}
    for found in dis.get_instructions(code):
        kind, _, where = found.opname.partition("_")
        if kind in used and where in ("GLOBAL", "NAME"):
            used[kind].add(found.argval)
    inner = [_names_from_outside(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set().union(used["LOAD"] - used["STORE"], *inner)
