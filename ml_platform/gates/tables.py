"""Tables in metadata: rows of plain values, as the UI shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

_TYPES = {bool: "bool", int: "int", float: "float"}


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """A table of rows that all have the same columns, in the order of the first; without rows a text that says so."""
    if not rows:
        return dg.MetadataValue.text("none")
    columns = [dg.TableColumn(name, _type(name, rows)) for name in rows[0]]
    records = [dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in rows]
    return dg.MetadataValue.table(records, dg.TableSchema(columns))


def _type(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    values = [row[name] for row in rows if row[name] is not None]
    return _TYPES.get(type(values[0]), "string") if values else "string"


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
