"""Since when each key of a table is known: which entities a snapshot has rows of, and a digest of them.

A key counts from the first midnight at which one of its rows has happened and is known.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.partitions import CREATED_TIME, EVENT_TIME, PARTITION_COLUMN, complete_at, key_of
from ml_platform.lake.dialect import DAY, quoted
from ml_platform.lake.snapshots import Snapshot

FIRST_DAY, LAST_DAY = (np.datetime64(day, "D").astype(int) for day in ("0001-01-01", "9999-12-31"))
_MARGIN = dt.timedelta(milliseconds=2)  # the lake's log has the times of a file to the millisecond

KeyHistory = Sequence[tuple[dt.date, str]]
"""Midnights at which new keys came to be known, named by the day that they begin, each with a digest of all keys."""


def first_rows(
    table: Snapshot, column: str, start: dt.date | None, days: tuple[str, str] | None = None
) -> str:
    """SQL of every key from a day on once, with the two times of a row that is known as early as its own first one.

    Of snapshots of a range of days it gives what is known at the last one's midnight. Times are not read where they
    do not matter: a whole file that was known before the first midnight holds keys of every midnight.
    """
    started = [(PARTITION_COLUMN, ">=", key_of(start))] if start is not None else []
    if days is None:
        return _once(_counts_since(table.scan(where=started), column), column)
    midnight = complete_at(days[0])
    newest = table.newest_of_files(CREATED_TIME, [*started, (PARTITION_COLUMN, "<=", days[0])])
    settled = {file for file, time in newest.items() if time is not None and time < midnight - _MARGIN}
    read = table.files([*started, (PARTITION_COLUMN, "<=", days[1])])
    others = [file for file in read if file not in settled]
    key, known = quoted(column), since_epoch(midnight)
    early = f"SELECT {key}, {known} AS known FROM ({table.scan(sorted(settled))})"
    return _once(f"{early} UNION ALL {_counts_since(table.scan(others), column)}", column)


def key_history(answer: Callable[[str], list[tuple[Any, ...]]], first_rows: str, column: str) -> KeyHistory:
    """When new keys came to be known, of rows as `first_rows` selects them; `answer` gives the rows of a query."""
    since = f"(epoch_us({CREATED_TIME}) + {DAY - 1}) // {DAY}"
    found = answer(f"""
WITH new AS (
  SELECT DATE '1970-01-01' + CAST({since} AS INTEGER) AS midnight, count(*) AS keys,
    sum(md5_number_lower(CAST({quoted(column)} AS VARCHAR))) AS total
  FROM ({first_rows}) GROUP BY 1
)
SELECT midnight, sum(keys) OVER known, sum(total) OVER known FROM new WINDOW known AS (ORDER BY midnight)
ORDER BY midnight""")
    return [(midnight, f"{keys} {total}") for midnight, keys, total in found]


def _counts_since(rows: str, column: str) -> str:
    """SQL of each row's key with the moment since when it counts; an event at midnight is of the day that begins."""
    known = f"least(epoch_us({CREATED_TIME}), {LAST_DAY * DAY})"
    return f"SELECT {quoted(column)}, greatest(epoch_us({EVENT_TIME}) + 1, {known}) AS known FROM ({rows})"


def _once(keys: str, column: str) -> str:
    key = quoted(column)
    times = (
        f"make_timestamptz(min(known) - 1) AS {EVENT_TIME}, make_timestamptz(min(known)) AS {CREATED_TIME}"
    )
    return f"SELECT {key}, {times} FROM ({keys}) WHERE {key} IS NOT NULL GROUP BY 1"
