"""Joins a frame with views whose rows fit in memory: what the `ASOF` joins of `point_in_time` give, faster.

It is left to those joins what may not fit, keys that are neither whole numbers nor text, and features of any
length, such as lists.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa

from ml_platform.features.entity_rows import FrameRows
from ml_platform.features.feast_sources import values_held
from ml_platform.features.point_in_time import answers_sql
from ml_platform.features.row_order import RowOrder, scan
from ml_platform.features.search import Answers, Asking, positions, searchable, taken
from ml_platform.features.view_reads import ViewRead

_VALUES = 64_000_000
"""Numbers of one view that are read into memory: half a gigabyte."""

_CHUNK_BYTES = 2**31 - 1
"""Text beyond this does not fit in one chunk of Arrow's."""


def features_in_memory(
    connection: duckdb.DuckDBPyConnection, views: Sequence[ViewRead], frame: FrameRows
) -> list[pa.ChunkedArray] | None:
    """The features of all views for the rows of a frame, in its order; None if a view is not for memory.

    While one view is searched the next is read; searching needs one thread for each.
    """
    orders = [scan(connection, view, frame.times) for view in views]
    if not all(_fits(view, order) for view, order in zip(views, orders, strict=True)):
        return None
    threads = connection.execute("SELECT current_setting('threads')").fetchall()[0][0]
    with ThreadPoolExecutor(threads) as pool:
        searches = [
            pool.submit(_found, dict(zip(rows.column_names, rows.columns, strict=True)), view, frame)
            for view, order in zip(views, orders, strict=True)
            for rows in [connection.sql(answers_sql(view, order, frame.times)).to_arrow_table()]
        ]
        found = [search.result() for search in searches]
    complete = [features for features in found if features is not None]
    return [column for features in complete for column in features] if len(complete) == len(found) else None


def _fits(view: ViewRead, order: RowOrder) -> bool:
    columns = [*(column for column, _ in view.keys), *(feature.column for feature in view.features)]
    held = [values_held(view.columns[column]) for column in columns]
    return None not in held and order.rows * (2 + sum(filter(None, held))) <= _VALUES


def _found(
    columns: dict[str, pa.ChunkedArray], view: ViewRead, frame: FrameRows
) -> list[pa.ChunkedArray] | None:
    """The features of one view, whose rows come as columns by name and are freed as they are used up."""
    asked = [frame.table.column(name) for _, name in view.keys]
    stored = [columns.pop(name) for name in view.key_names[: len(view.keys)]]
    if not all(searchable(ours.type, theirs.type) for ours, theirs in zip(asked, stored, strict=True)):
        return None
    event_times, known_from = columns.pop("ts"), columns.pop("known_from")
    if any(column.nbytes > _CHUNK_BYTES for column in columns.values()):
        return None
    answers = Answers(known_from, stored, event_times if view.ttl else None, view.ttl)
    places = positions(Asking(frame.micros, asked), answers)
    return None if places is None else [taken(column, places) for column in _emptied(columns)]


def _emptied(columns: dict[str, pa.ChunkedArray]) -> Iterator[pa.ChunkedArray]:
    """The columns one by one, each of which can be freed when the next is asked for."""
    for name in list(columns):
        yield columns.pop(name)
