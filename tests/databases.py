"""Rows of one database taken over by another whose tables may be of another release."""

from collections.abc import Callable, Iterator
from typing import Any

import sqlalchemy as sa

_NOT_TAKEN = {"alembic_version"}


def take_over(source: str, target: str, *, changed: Callable[[str], str] = str) -> None:
    """Put the rows of one database in the place of those of another, in the columns that both have.

    Every text may be `changed` on the way, and numbers that the target counts up go on from there.
    """
    old, new = sa.create_engine(source), sa.create_engine(target)
    theirs, ours = sa.MetaData(), sa.MetaData()
    theirs.reflect(old)
    ours.reflect(new)
    with old.connect() as reader, new.begin() as writer:
        for table in reversed(ours.sorted_tables):
            if table.name not in _NOT_TAKEN:
                writer.execute(table.delete())
        for table in ours.sorted_tables:
            if table.name in theirs.tables and table.name not in _NOT_TAKEN:
                rows = list(_rows(reader, theirs.tables[table.name], table, changed))
                if rows:
                    writer.execute(table.insert(), rows)
                _count_on(writer, table)
    old.dispose()
    new.dispose()


def _rows(
    reader: sa.Connection, source: sa.Table, target: sa.Table, changed: Callable[[str], str]
) -> Iterator[dict[str, Any]]:
    shared = [
        column for column in target.columns if column.name in source.columns and column.computed is None
    ]
    for row in reader.execute(sa.select(*(source.columns[column.name] for column in shared))):
        values = zip(shared, row, strict=True)
        yield {
            column.name: changed(value) if isinstance(value, str) else _of(column, value)
            for column, value in values
        }


def _of(column: sa.Column[Any], value: Any) -> Any:
    """SQLite has numbers where others have truth values."""
    return bool(value) if isinstance(column.type, sa.Boolean) and value is not None else value


def _count_on(writer: sa.Connection, table: sa.Table) -> None:
    if writer.dialect.name != "postgresql":
        return
    for column in table.primary_key.columns:
        sequence = writer.scalar(sa.select(sa.func.pg_get_serial_sequence(f'"{table.name}"', column.name)))
        if sequence:
            highest = writer.scalar(sa.select(sa.func.max(column)))
            writer.execute(sa.select(sa.func.setval(sequence, (highest or 0) + 1, False)))
