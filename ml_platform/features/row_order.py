"""Finds out how a view's rows are ordered in time, and builds rows of which each is the answer from one moment on.

`known_from` is that moment: the event time, later by what the view needs to become available, and never before
the row was created when the read is as known at the entity's time. A row whose moment comes when a row of a
later event time is already there can never be an answer. Rows that were created in time and tie with no other
are in order by themselves; only the others need work.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import duckdb
import numpy as np

from ml_platform.features.view_reads import Times, ViewRead
from ml_platform.lake.dialect import quoted

_HASHES_IN_MEMORY = 16_000_000
"""Hashes that are compared here (128 MB); DuckDB groups more than that, which is slower but spills."""

_HASHES_IN_TEXT = 1_000
"""Ties that a statement names; it finds more than that for itself."""


@dataclass(frozen=True)
class RowOrder:
    """What a scan found in a view's rows: how many there are, and how their times lie.

    Every row is known `delay` microseconds after its event, unless `late` says that this differs between rows.
    `ties` is None if no rows share keys, event time and the moment they are known; else SQL that selects the
    hashes of what they share. Hashes of rows that tie with nothing may be among them: that only costs time.
    """

    rows: int
    delay: int
    late: bool = False
    ties: str | None = None


def scan(connection: duckdb.DuckDBPyConnection, view: ViewRead, times: Times) -> RowOrder:
    """Look at the times of a view's rows to learn what work they need."""
    order = scan_times(connection, view, times)
    return replace(order, ties=_ties(connection, view, order, times))


def scan_times(connection: duckdb.DuckDBPyConnection, view: ViewRead, times: Times) -> RowOrder:
    """The same without a search for ties."""
    rows = view.rows("NULL", times)
    counted = f"SELECT count(*), min(created - ts), max(created - ts) FROM ({rows})"
    return _order_if_none_tie(view, *connection.execute(counted).fetchall()[0])


def ordered_rows(name: str, view: ViewRead, order: RowOrder, times: Times) -> Iterable[str]:
    """Common table expressions ending in one called `name`, where `known_from` is unique for each key.

    Its columns are those of `ViewRead.rows`.
    """
    rows = view.rows(_known_from(view, order), times, whole=order.ties is not None)
    if order.ties is not None:
        yield f"{name}_rows AS NOT MATERIALIZED ({rows})"
        yield f"{name}_ties AS ({order.ties})"
        yield f"{name}_untied AS NOT MATERIALIZED ({_without_ties(name, view)})"
        rows = f"FROM {name}_untied"
    if not order.late:
        yield f"{name} AS NOT MATERIALIZED ({rows})"
        return
    yield f"{name}_all AS NOT MATERIALIZED ({rows})"
    yield from _without_overtaken(name, view)


def first_of_tied(view: ViewRead, order: RowOrder, tied: str, times: Times) -> str:
    """SELECT of the rows that rank first among those that share keys, event time and moment known.

    `tied` is a relation of such keys and times; further rows that tie with no other may come as well.
    """
    rows = view.rows(_known_from(view, order), times, whole=True)
    ties = f"SELECT {_shared(view)} FROM {tied}"
    columns = ", ".join(_columns(view))
    return f"SELECT {columns} FROM ({rows}) WHERE {_shared(view)} IN ({ties}) {_ranked_first(view)}"


def newest_first(view: ViewRead) -> list[str]:
    """How rows of one key and event time are ranked: greatest created time first, a missing one last.

    A full tie goes to the greater row, compared column by column in the order of the column names, nulls last.
    That depends on the rows alone, not on files, threads or the features asked for.
    """
    whole_row = [f"{quoted(column)} DESC NULLS LAST" for column in sorted(view.columns)]
    return [f"{view.created_micros} DESC NULLS LAST", *whole_row]


def _order_if_none_tie(view: ViewRead, rows: int, least: int | None, greatest: int | None) -> RowOrder:
    """The order of so many rows that are created between `least` and `greatest` after their event."""
    if not view.cuts_created or least is None or greatest is None or greatest <= view.available_after:
        return RowOrder(rows, delay=view.available_after)
    if least == greatest:
        return RowOrder(rows, delay=greatest)
    return RowOrder(rows, delay=view.available_after, late=True)


def _ties(connection: duckdb.DuckDBPyConnection, view: ViewRead, order: RowOrder, times: Times) -> str | None:
    """SQL of the hashes that several rows share, or None if there are none."""
    hashes = f"SELECT {_shared(view)} AS h FROM ({view.rows(_known_from(view, order), times)})"
    grouped = f"SELECT h FROM ({hashes}) GROUP BY h HAVING count(*) > 1"
    if order.rows > _HASHES_IN_MEMORY:
        return grouped if connection.execute(f"{grouped} LIMIT 1").fetchall() else None
    found = np.sort(connection.sql(hashes).to_arrow_table().column(0).to_numpy())
    repeated = np.unique(found[1:][found[1:] == found[:-1]])
    if len(repeated) > _HASHES_IN_TEXT:
        return grouped
    return f"SELECT unnest({repeated.tolist()}::UBIGINT[]) AS h" if len(repeated) else None


def _shared(view: ViewRead) -> str:
    """SQL of the hash of what must be unique: keys, event time and the moment a row is known."""
    return f"hash({', '.join([*view.key_names, 'ts', 'known_from'])})"


def _known_from(view: ViewRead, order: RowOrder) -> str:
    known = f"{view.event_micros} + {order.delay}"
    return f"greatest({known}, {view.created_micros})" if order.late else known


def _without_ties(name: str, view: ViewRead) -> str:
    """SELECT of the rows; of those with the same keys, event time and moment known, the one that ranks first."""
    columns = ", ".join(_columns(view))
    tied = f"{_shared(view)} IN (FROM {name}_ties)"
    plain = f"SELECT {columns} FROM {name}_rows WHERE NOT {tied}"
    return f"{plain} UNION ALL SELECT {columns} FROM {name}_rows WHERE {tied} {_ranked_first(view)}"


def _ranked_first(view: ViewRead) -> str:
    same = ", ".join([*view.key_names, "ts", "known_from"])
    whole_row = [f"o{i} DESC NULLS LAST" for i in range(len(view.columns))]
    ranked = ", ".join(["created DESC NULLS LAST", *whole_row])
    return f"QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {ranked}) = 1"


def _without_overtaken(name: str, view: ViewRead) -> Iterable[str]:
    """Take out late rows that become known when a row of a later event time already is.

    A row in time is never overtaken: whatever has a later event time is known later. So only late rows are
    compared, with each other in a window and with the rows in time in an ASOF join.
    """
    late = f"known_from > ts + {view.available_after}"
    keys = ", ".join(view.key_names)
    newest = f"max(ts) OVER (PARTITION BY {keys} ORDER BY known_from RANGE UNBOUNDED PRECEDING)"
    yield f"{name}_late AS (FROM {name}_all WHERE {late} QUALIFY ts = {newest})"
    yield f"{name}_in_time AS NOT MATERIALIZED (FROM {name}_all WHERE NOT {late})"
    same_key = " AND ".join(f"l.{key} = s.{key}" for key in view.key_names)
    columns = ", ".join(_columns(view))
    yield (
        f"{name} AS NOT MATERIALIZED (SELECT {columns} FROM {name}_in_time UNION ALL "
        f"SELECT {', '.join(f'l.{column}' for column in _columns(view))} FROM {name}_late l "
        f"ASOF LEFT JOIN {name}_in_time s ON {same_key} AND l.known_from >= s.known_from "
        f"WHERE s.known_from IS NULL OR s.known_from - {view.available_after} <= l.ts)"
    )


def _columns(view: ViewRead) -> list[str]:
    return [*view.key_names, "ts", "created", "known_from", *view.feature_names]
