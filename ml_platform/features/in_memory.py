"""Joins a frame with views whose rows fit in memory: what the `ASOF` joins of `point_in_time` give, faster.

It is left to those joins what may not fit, keys that are neither whole numbers nor text, and features of any
length, such as lists.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

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

    While one view is searched the next is read; searching needs one thread for each.
    """
    orders = [scan_times(connection, view, frame.times) for view in views]
    if not all(map(_fits, views, orders)):
        return None
    threads = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    with ThreadPoolExecutor(threads) as pool:
        searches = []
        for view, order in zip(views, orders, strict=True):
            columns = _columns(connection, answers_sql(view, order, frame.times))
            searches.append((pool.submit(_found, columns, view, frame), columns, view, order))
        found = []
        for searching, columns, view, order in searches:
            features = searching.result()
            if isinstance(features, Search):
                winners = _winners(connection, columns, features.tied, view, order, frame)
                search = features.decided(_answers(winners, view))
                features = _taken(search, _after(columns, winners), view)
            found.append(features)
    complete = [features for features in found if features is not None]
    return [column for features in complete for column in features] if len(complete) == len(found) else None


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


def _found(columns: Columns, view: ViewRead, frame: FrameRows) -> list[pa.ChunkedArray] | Search | None:
    """The features of one view; where rows tie, the search, which has to know what wins; None if not for memory."""
    asked = [frame.table.column(name) for _, name in view.keys]
    answers = _answers(columns, view)
    if not all(searchable(ours.type, theirs.type) for ours, theirs in zip(asked, answers.keys, strict=True)):
        return None
    if any(columns[name].nbytes > _CHUNK_BYTES for name in view.feature_names):
        return None
    if not len(answers.known_from):
        return [taken(columns[name], pa.nulls(len(frame.micros), pa.int64())) for name in view.feature_names]
    search = Search.of(Asking(frame.micros, asked), answers)
    return search if search is None or len(search.tied) else _taken(search, columns, view)


def _taken(search: Search, columns: Columns, view: ViewRead) -> list[pa.ChunkedArray]:
    """The features that were found; columns are freed as they are used up."""
    rows = search.positions(columns["ts"] if view.ttl else None, view.ttl)
    return [taken(columns.pop(name), rows) for name in view.feature_names]
