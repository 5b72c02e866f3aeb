"""Digests of declarations and of the code that computes: what changed, without a clock."""

import hashlib
import importlib.util
import inspect
import json
from importlib.abc import InspectLoader
from typing import Any


def digest_of(value: Any) -> str:
    """Sixteen hex digits of a JSON-like value; key order never matters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_digest(path: str) -> str:
    """SHA-256 of the source of a function or module by import path; raises ImportError or AttributeError.

    A module is read and not imported: it may need libraries that whoever asks does without.
    """
    module, _, name = path.rpartition(".")
    try:
        spec = importlib.util.find_spec(path)
    except ModuleNotFoundError:  # what it is in is a module, no package
        spec = None
    if spec is not None and isinstance(spec.loader, InspectLoader):
        source = spec.loader.get_source(path)
        assert source is not None
    else:
        source = inspect.getsource(getattr(importlib.import_module(module), name))
    return hashlib.sha256(source.encode()).hexdigest()
