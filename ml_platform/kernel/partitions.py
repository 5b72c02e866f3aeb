"""Daily partitions: the keys, the instants they cover, and ranges of them.

Partition `d` covers events in `[d, d+1)` UTC and is complete at `d+1 00:00` UTC.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from itertools import groupby

PARTITION_COLUMN = "partition_date"
EVENT_TIME = "event_timestamp"
CREATED_TIME = "created_timestamp"
ONE_DAY = dt.timedelta(days=1)


def day(key: str) -> dt.date:
    """The date that a partition key such as `2018-06-01` names."""
    return dt.date.fromisoformat(key)


def key_of(date: dt.date) -> str:
    """The partition key of a date."""
    return date.isoformat()


def day_range(first: dt.date, last: dt.date) -> list[dt.date]:
    """All dates from first to last, both included; empty when last comes before first."""
    return [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]


def complete_at(key: str) -> dt.datetime:
    """The instant at which a partition is complete: the midnight that ends it, in UTC."""
    return dt.datetime.combine(day(key) + ONE_DAY, dt.time(), tzinfo=dt.UTC)


def contiguous(keys: Iterable[str]) -> list[list[str]]:
    """Partition keys in order, split where a day is missing."""
    numbered = enumerate(sorted(set(keys)))
    runs = groupby(numbered, key=lambda pair: day(pair[1]).toordinal() - pair[0])
    return [[key for _, key in run] for _, run in runs]


def span(first: str, last: str) -> str:
    """A range of days for people: `2018-06-01 … 2018-06-07`, or the only one."""
    return first if first == last else f"{first} … {last}"


def spans(keys: Sequence[str]) -> str:
    """Partition keys for people: `2018-06-01 … 2018-06-07, 2018-06-09`."""
    return ", ".join(span(run[0], run[-1]) for run in contiguous(keys))
