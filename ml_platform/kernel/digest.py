"""Digests of declarations and of the code that computes: what changed, without a clock."""

import hashlib
import importlib
import inspect
import json
from typing import Any


def digest_of(value: Any) -> str:
    """Sixteen hex digits of a JSON-like value; key order never matters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def source_digest(path: str) -> str:
    """SHA-256 of the source of a function or module by import path; raises ImportError or AttributeError."""
    module, _, name = path.rpartition(".")
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except AttributeError:
        found = importlib.import_module(path)
    return hashlib.sha256(inspect.getsource(found).encode()).hexdigest()
