"""Partitions of a day or of an hour: their keys, the time that each covers, and ranges of them.

A partition covers the events of `[start, start + period)` in UTC and is complete when its period ends. A key tells by
its form which cadence it is of, and the keys of one cadence are ordered as text.
"""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from ml_platform.kernel.durations import EPOCH

EVENT_TIME = "event_timestamp"
CREATED_TIME = "created_timestamp"
ONE_DAY = dt.timedelta(days=1)
ONE_HOUR = dt.timedelta(hours=1)

CadenceName = Literal["daily", "hourly"]
Range = tuple[str, str]
"""First and last of some partitions in a row, by their keys."""


@dataclass(frozen=True)
class Cadence:
    """How often there is a partition: how long each lasts, and the column that has its keys in tables.

    A table of daily partitions has dates there, which read as text are the keys; one of hourly partitions has the
    keys themselves.
    """

    name: CadenceName
    unit: str
    period: dt.timedelta
    column: str
    column_type: Literal["date", "string"]
    example: str

    @property
    def microseconds(self) -> int:
        """The period."""
        return self.period // dt.timedelta(microseconds=1)

    @property
    def one(self) -> str:
        """A partition in words, with its article."""
        return "a day" if self.name == "daily" else "an hour"

    def key(self, time: dt.datetime) -> str:
        """The key of the partition that covers a time, which is in UTC."""
        text = time.isoformat()
        return text[:10] if self.name == "daily" else f"{text[:10]}-{text[11:13]}:00"

    def start(self, key: str) -> dt.datetime:
        """When a partition of this cadence begins; ValueError for what is no key of it."""
        if self.name == "daily":
            return dt.datetime.combine(dt.date.fromisoformat(key), dt.time(), tzinfo=dt.UTC)
        if len(key) != len(self.example) or key[10] != "-" or key[13:] != ":00":
            raise ValueError(f"an hour such as {self.example} is required; got {key!r}")
        return dt.datetime.fromisoformat(f"{key[:10]}T{key[11:13]}:00+00:00")

    def covering(self, keys: Range) -> Range:
        """The partitions of this cadence that share time with a range of any cadence."""
        if cadence_of(keys[0]) == self:
            return keys
        last = complete_at(keys[1]) - dt.timedelta(microseconds=1)
        return self.key(start_of(keys[0])), self.key(last)

    def of_days(self, first: dt.date, last: dt.date) -> Range:
        """The partitions of this cadence from a first day to the end of a last."""
        return self.covering((key_of(first), key_of(last)))


DAILY = Cadence("daily", "day", ONE_DAY, "partition_date", "date", "2018-06-01")
HOURLY = Cadence("hourly", "hour", ONE_HOUR, "partition_hour", "string", "2018-06-01-13:00")
CADENCES: dict[CadenceName, Cadence] = {"daily": DAILY, "hourly": HOURLY}

PARTITION_COLUMN = DAILY.column


def cadence_of(key: str) -> Cadence:
    """The cadence that a key is of, by its form."""
    return HOURLY if len(key) == len(HOURLY.example) else DAILY


def start_of(key: str) -> dt.datetime:
    """The instant at which a partition begins, in UTC; ValueError for what is no key."""
    return cadence_of(key).start(key)


def complete_at(key: str) -> dt.datetime:
    """The instant at which a partition is complete: its period's end, such as the midnight that ends a day, in UTC."""
    cadence = cadence_of(key)
    return cadence.start(key) + cadence.period


def shifted(key: str, periods: int) -> str:
    """The key of the partition so many periods later, or earlier where the number is negative."""
    cadence = cadence_of(key)
    return cadence.key(cadence.start(key) + periods * cadence.period) if periods else key


def key_range(first: str, last: str) -> list[str]:
    """All keys from first to last, both included; empty when last comes before first."""
    cadence = cadence_of(first)
    start = cadence.start(first)
    periods = (cadence.start(last) - start) // cadence.period
    return [cadence.key(start + i * cadence.period) for i in range(periods + 1)]


def time_of_day(key: str) -> str:
    """What two partitions have in common that are whole days apart: of hours the hour, of days nothing."""
    return key[len(DAILY.example) :]


def within(keys: Range) -> list[tuple[str, str, str]]:
    """The filters that leave a table's partitions of a range."""
    column = cadence_of(keys[0]).column
    return [(column, ">=", keys[0]), (column, "<=", keys[1])]


def contiguous(keys: Iterable[str]) -> list[list[str]]:
    """Partition keys of one cadence in order, split where one is missing."""
    numbered = enumerate(sorted(set(keys)))
    runs = groupby(numbered, key=lambda pair: _ordinal(pair[1]) - pair[0])
    return [[key for _, key in run] for _, run in runs]


def _ordinal(key: str) -> int:
    cadence = cadence_of(key)
    return (cadence.start(key) - EPOCH) // cadence.period


def span(first: str, last: str) -> str:
    """A range of partitions for people: `2018-06-01 … 2018-06-07`, or the only one."""
    return first if first == last else f"{first} … {last}"


def spans(keys: Sequence[str]) -> str:
    """Partition keys for people: `2018-06-01 … 2018-06-07, 2018-06-09`."""
    return ", ".join(span(run[0], run[-1]) for run in contiguous(keys))


def day(key: str) -> dt.date:
    """The date that a daily partition's key such as `2018-06-01` names."""
    return dt.date.fromisoformat(key)


def key_of(date: dt.date) -> str:
    """The daily partition key of a date."""
    return date.isoformat()


def day_range(first: dt.date, last: dt.date) -> list[dt.date]:
    """All dates from first to last, both included; empty when last comes before first."""
    return [first + dt.timedelta(days=i) for i in range((last - first).days + 1)]
