"""Digests of declarations and of the code that computes: what changed, without a clock."""

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """Sixteen hex digits of a JSON-like value; key order never matters."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
