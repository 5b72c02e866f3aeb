"""Joins a frame with views whose rows fit in memory: what the `ASOF` joins of `point_in_time` give, faster.

It is left to those joins what may not fit, keys that are neither whole numbers nor text, and features of any
length, such as lists.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import duckdb
import numpy as np
import pyarrow as pa

from ml_platform.features.entity_rows import FrameRows
from ml_platform.features.feast_sources import values_held
from ml_platform.features.point_in_time import answers_sql, winners_sql
from ml_platform.features.row_order import RowOrder, scan_times
from ml_platform.features.search import Answers, Asking, Search, searchable, taken
from ml_platform.features.view_reads import ViewRead

_VALUES = 64_000_000
"""Numbers of one view that are read into memory: half a gigabyte."""

_CHUNK_BYTES = 2**31 - 1
"""Text beyond this does not fit in one chunk of Arrow's."""


Columns = dict[str, pa.ChunkedArray]


def features_in_memory(
    connection: duckdb.DuckDBPyConnection, views: Sequence[ViewRead], frame: FrameRows
) -> list[pa.ChunkedArray] | None:
    """The features of all views for the rows of a frame, in its order; None if a view is not for memory.

    As many views as there are threads are worked on at once: searching one needs one thread.
    """
    threads = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    cursors = [connection.cursor() for _ in views]
    with ThreadPoolExecutor(threads) as pool:
        orders = list(pool.map(scan_times, cursors, views, repeat(frame.times)))
        if not all(map(_fits, views, orders)):
            return None
        found = list(pool.map(_features, cursors, views, orders, repeat(frame)))
    complete = [features for features in found if features is not None]
    return [column for features in complete for column in features] if len(complete) == len(found) else None


def _features(
    connection: duckdb.DuckDBPyConnection, view: ViewRead, order: RowOrder, frame: FrameRows
) -> list[pa.ChunkedArray] | None:
    """The features of one view; None if it is not for memory."""
    columns = _columns(connection, answers_sql(view, order, frame.times))
    asked = [frame.table.column(name) for _, name in view.keys]
    answers = _answers(columns, view)
    if not all(searchable(ours.type, theirs.type) for ours, theirs in zip(asked, answers.keys, strict=True)):
        return None
    if any(columns[name].nbytes > _CHUNK_BYTES for name in view.feature_names):
        return None
    if not len(answers.known_from):
        return [taken(columns[name], pa.nulls(len(frame.micros), pa.int64())) for name in view.feature_names]
    search = Search.of(Asking(frame.micros, asked), answers)
    if search is None:
        return None
    if len(search.tied):
        winners = _winners(connection, columns, search.tied, view, order, frame)
        search, columns = search.decided(_answers(winners, view)), _after(columns, winners)
    rows = search.positions(columns["ts"] if view.ttl else None, view.ttl)
    return [taken(columns.pop(name), rows) for name in view.feature_names]


def _columns(connection: duckdb.DuckDBPyConnection, query: str) -> Columns:
    rows = connection.sql(query).to_arrow_table()
    return dict(zip(rows.column_names, rows.columns, strict=True))


def _winners(
    connection: duckdb.DuckDBPyConnection,
    columns: Columns,
    tied: np.ndarray,
    view: ViewRead,
    order: RowOrder,
    frame: FrameRows,
) -> Columns:
    """The rows that win ties."""
    shared = [*view.key_names, "ts", "known_from"]
    rows = pa.array(tied)
    connection.register("tied", pa.table({name: columns[name].take(rows) for name in shared}))
    return _columns(connection, winners_sql(view, order, "tied", frame.times))


def _after(columns: Columns, more: Columns) -> Columns:
    """Rows and then some more."""
    return {
        name: pa.chunked_array([*column.chunks, *more[name].chunks], column.type)
        for name, column in columns.items()
    }


def _fits(view: ViewRead, order: RowOrder) -> bool:
    columns = [*(column for column, _ in view.keys), *(feature.column for feature in view.features)]
    held = [values_held(view.columns[column]) for column in columns]
    return None not in held and order.rows * (2 + sum(filter(None, held))) <= _VALUES


def _answers(columns: Columns, view: ViewRead) -> Answers:
    return Answers(columns["known_from"], [columns[name] for name in view.key_names[: len(view.keys)]])
