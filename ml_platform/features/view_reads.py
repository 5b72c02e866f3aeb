"""What is read of one feature view, and the SQL of the source rows that could be an answer.

Everything is integer microseconds since 1970 in UTC: source times are rounded up and entity times down, so
that no later row is ever seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ml_platform.lake.dialect import quoted


@dataclass(frozen=True)
class Feature:
    """One column of a view, under the name and in the type it has in the answer (None: as it is)."""

    column: str
    name: str
    type: str | None = None


@dataclass(frozen=True)
class Times:
    """First and last time in question, in microseconds (None: open); source rows outside are not read."""

    first: int | None
    last: int | None


@dataclass(frozen=True)
class ViewRead:
    """What to read of one feature view; lengths of time in microseconds.

    `relation` is a SELECT text, `columns` its columns with their DuckDB types, and `keys` pairs a column of
    the relation with a column of the entity rows. With `known_at`, a row created after the entity row's time,
    or without a created time, does not exist for it. A `ttl` of 0 is unlimited.
    """

    relation: str
    columns: Mapping[str, str]
    keys: tuple[tuple[str, str], ...]
    features: tuple[Feature, ...]
    event_time: str
    created_time: str | None = None
    ttl: int = 0
    available_after: int = 0
    known_at: bool = False

    @property
    def cuts_created(self) -> bool:
        """Whether created times decide which rows may be seen."""
        return self.known_at and self.created_time is not None

    @property
    def key_names(self) -> list[str]:
        """Names of the keys in `rows`; a view without keys has one that is the same for all rows."""
        return [f"k{i}" for i in range(len(self.keys) or 1)]

    @property
    def feature_names(self) -> list[str]:
        """Names of the features in `rows`."""
        return [f"f{i}" for i in range(len(self.features))]

    @property
    def event_micros(self) -> str:
        """SQL of the event time."""
        return microseconds(quoted(self.event_time), self.columns[self.event_time], up=True)

    @property
    def created_micros(self) -> str:
        """SQL of the created time; null if the source has none."""
        if self.created_time is None:
            return "CAST(NULL AS BIGINT)"
        return microseconds(quoted(self.created_time), self.columns[self.created_time], up=True)

    def within(self, times: Times) -> list[str]:
        """Conditions on the event time, both ends included; on the bare column where that lets files be skipped."""
        bare = {"TIMESTAMP": "make_timestamp", "TIMESTAMP WITH TIME ZONE": "make_timestamptz"}
        make = bare.get(self.columns[self.event_time])
        column = quoted(self.event_time) if make else self.event_micros
        bounds = [(">=", times.first), ("<=", times.last)]
        return [f"{column} {sign} {make or ''}({bound})" for sign, bound in bounds if bound is not None]

    def keyed(self) -> list[str]:
        """Conditions that drop rows which no entity row can match: a null equals nothing."""
        return [f"{quoted(column)} IS NOT NULL" for column, _ in self.keys]

    def rows(self, known_from: str, times: Times, *, whole: bool = False) -> str:
        """SELECT of the rows that could be an answer at the times.

        Columns are the keys `k0`…, `ts`, `created`, `known_from` (the SQL given), the features `f0`…, and with
        `whole` all columns of the source as `o0`…, in the order of their names.
        """
        keys = [f"{quoted(column)} AS k{i}" for i, (column, _) in enumerate(self.keys)] or ["0 AS k0"]
        moments = [
            f"{self.event_micros} AS ts",
            f"{self.created_micros} AS created",
            f"{known_from} AS known_from",
        ]
        features = [f"{feature_sql(feature)} AS f{i}" for i, feature in enumerate(self.features)]
        others = (
            [f"{quoted(column)} AS o{i}" for i, column in enumerate(sorted(self.columns))] if whole else []
        )
        columns = ", ".join([*keys, *moments, *features, *others])
        where = " AND ".join([*self.keyed(), f"{quoted(self.event_time)} IS NOT NULL", *self._usable(times)])
        return f"SELECT {columns} FROM ({self.relation}) WHERE {where}"

    def _usable(self, times: Times) -> list[str]:
        """Conditions that every row must pass to be an answer at any of the times."""
        first = times.first - self.ttl if self.ttl and times.first is not None else None
        last = times.last - self.available_after if times.last is not None else None
        created = self.created_micros
        known = f"{created} IS NOT NULL" if times.last is None else f"{created} <= {times.last}"
        return [*self.within(Times(first, last)), *([known] if self.cuts_created else [])]


def feature_sql(feature: Feature) -> str:
    """SQL of a feature in the type it has in the answer."""
    column = quoted(feature.column)
    return column if feature.type is None else f"CAST({column} AS {feature.type})"


def microseconds(column: str, kind: str, *, up: bool) -> str:
    """SQL for a time as microseconds since 1970 in UTC; a finer time is rounded up, or else down.

    Times without a zone, dates, and text without an offset are read as UTC.
    """
    if kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
        nanos = f"epoch_ns({column})"
        step = f"+ CAST({nanos} % 1000 > 0 AS BIGINT)" if up else f"- CAST({nanos} % 1000 < 0 AS BIGINT)"
        return f"({nanos} // 1000 {step})"
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return f"epoch_us({column})"
    return f"epoch_us(CAST({column} AS TIMESTAMPTZ))"
