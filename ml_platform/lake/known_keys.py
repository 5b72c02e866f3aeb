"""Since when each key of a table is known: which entities a snapshot has rows of, and a digest of them.

A key is of one column or of several, with a value in each. It counts from the first end of a partition at which one
of its rows has happened and is known.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

from ml_platform.kernel.durations import EPOCH, since_epoch
from ml_platform.kernel.partitions import (
    CREATED_TIME,
    EVENT_TIME,
    Cadence,
    Range,
    cadence_of,
    complete_at,
)
from ml_platform.lake.dialect import quoted
from ml_platform.lake.snapshots import Snapshot

FIRST, LAST = (
    since_epoch(dt.datetime.fromisoformat(day))
    for day in ("0001-01-01T00:00+00:00", "9999-12-31T00:00+00:00")
)
"""Times that are told of, in microseconds; what is beyond them is at them."""

_MARGIN = dt.timedelta(milliseconds=2)  # the lake's log has the times of a file to the millisecond

KeyHistory = Sequence[tuple[str, str]]
"""Ends of partitions at which new keys came to be known, named as `name_of` does, each with a digest of all keys."""


def name_of(moment: int, cadence: Cadence) -> str:
    """The name of the moment so many periods after 1970: the key of the partition that begins then."""
    return cadence.key(EPOCH + moment * cadence.period)


def moment_after(time: dt.datetime, cadence: Cadence) -> str:
    """The name of the first such moment at or after a time."""
    return name_of(-((EPOCH - time) // cadence.period), cadence)


def first_rows(table: Snapshot, columns: Sequence[str], start: str, keys: Range | None = None) -> str:
    """SQL of every key from a partition on once, with the two times of a row that is known as early as its first one.

    Of a range of snapshots it gives what is known when the last one ends. Times are not read where they
    do not matter: a whole file that was known before the first one ends holds keys of every snapshot.
    """
    partition = cadence_of(start).column
    started = [(partition, ">=", start)]
    if keys is None:
        return _once(_counts_since(table.scan(where=started), columns), columns)
    end = complete_at(keys[0])
    newest = table.newest_of_files(CREATED_TIME, [*started, (partition, "<=", keys[0])])
    settled = {file for file, time in newest.items() if time is not None and time < end - _MARGIN}
    read = table.files([*started, (partition, "<=", keys[1])])
    others = [file for file in read if file not in settled]
    early = f"SELECT {_listed(columns)}, {since_epoch(end)} AS known FROM ({table.scan(sorted(settled))})"
    return _once(f"{early} UNION ALL {_counts_since(table.scan(others), columns)}", columns)


def key_history(
    answer: Callable[[str], list[tuple[Any, ...]]], first_rows: str, columns: Sequence[str], cadence: Cadence
) -> KeyHistory:
    """When new keys came to be known, of rows as `first_rows` selects them; `answer` gives the rows of a query."""
    period = cadence.microseconds
    since = f"(epoch_us({CREATED_TIME}) + {period - 1}) // {period}"
    found = answer(f"""
WITH new AS (
  SELECT {since} AS moment, count(*) AS keys,
    sum(md5_number_lower({_text(columns)})) AS total
  FROM ({first_rows}) GROUP BY 1
)
SELECT moment, sum(keys) OVER known, sum(total) OVER known FROM new WINDOW known AS (ORDER BY moment)
ORDER BY moment""")
    return [(name_of(moment, cadence), f"{keys} {total}") for moment, keys, total in found]


def _counts_since(rows: str, columns: Sequence[str]) -> str:
    """SQL of each row's key with the moment since when it counts; an event at an end is of what begins then."""
    known = f"least(epoch_us({CREATED_TIME}), {LAST})"
    return f"SELECT {_listed(columns)}, greatest(epoch_us({EVENT_TIME}) + 1, {known}) AS known FROM ({rows})"


def _once(keys: str, columns: Sequence[str]) -> str:
    key, known = _listed(columns), " AND ".join(f"{quoted(column)} IS NOT NULL" for column in columns)
    times = (
        f"make_timestamptz(min(known) - 1) AS {EVENT_TIME}, make_timestamptz(min(known)) AS {CREATED_TIME}"
    )
    return f"SELECT {key}, {times} FROM ({keys}) WHERE {known} GROUP BY {key}"


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(map(quoted, columns))


def _text(columns: Sequence[str]) -> str:
    """SQL of a key as one text, no two alike: all values but the last come after their lengths."""
    *others, last = [f"CAST({quoted(column)} AS VARCHAR)" for column in columns]
    return " || ".join([*(f"length({other}) || ':' || {other}" for other in others), last])
