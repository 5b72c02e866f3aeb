"""The history of a table's keys, kept from one question to the next: it is the same as long as the table is.

A guard asks for it each time, and reading every row of a source would take longer than all else that it does.
"""

import contextlib
import json
from collections.abc import Sequence
from typing import Any

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import cadence_of
from ml_platform.lake import documents
from ml_platform.lake.engine import small_answer
from ml_platform.lake.known_keys import KeyHistory, first_rows, key_history
from ml_platform.lake.tables import Lake


def keys_of(lake: Lake, asset: str, columns: Sequence[str], start: str) -> KeyHistory:
    """The history of an asset's keys from a partition on, of all that is published now."""
    table = lake.table(asset).at()
    made_of = [table.table.metadata().id, table.version, start]
    path = f"known_keys/{asset}/{'.'.join(columns)}.json"
    kept = _read(lake, path)
    if kept.get("made_of") == made_of:
        return [(moment, digest) for moment, digest in kept["history"]]
    history = key_history(small_answer, first_rows(table, columns, start), columns, cadence_of(start))
    told = {"made_of": made_of, "history": list(history)}
    with contextlib.suppress(StoreError):  # who may only read has to read the rows
        documents.write(lake, path, json.dumps(told).encode())
    return history


def _read(lake: Lake, path: str) -> dict[str, Any]:
    content = documents.read(lake, path)
    try:
        return json.loads(content) if content is not None else {}
    except ValueError:
        return {}
