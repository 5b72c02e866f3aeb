"""Days on which something went wrong: source rows with a shift in them, and what models would see of such a day.

A shift is made in the published rows of a source. All days have it at once, but only as events: the snapshots that they
read are those of the days as they came, so each day is as if it alone had been shifted. From there on everything is
the platform's own: the features of an event, and the counts of a day's labels.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml_platform.drift_profiles import store as profiles
from ml_platform.drift_profiles.component import computed, id_columns
from ml_platform.drift_profiles.sequence import Columns
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.kernel.partitions import PARTITION_COLUMN, day, day_range, key_of
from ml_platform.lake.engine import connect
from ml_platform.training_sets import store as training_sets
from ml_platform.training_sets.label_drift import DayCount
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.benchmarks.home import FIRST_DAY, LAST_DAY, Home

EVENTS, LABELS = "sources/transactions", "sources/fraud_labels"
_DAY, _NIGHT = 86_400_000_000, 7 * 3_600_000_000  # microseconds; night ends at seven


@dataclass(frozen=True)
class Shift:
    """One thing that can go wrong, in several sizes; `named` is the size that has to be found."""

    name: str
    sizes: tuple[float, ...]
    named: float
    sql: Callable[[float], str]  # of the shifted rows of `days`


def _luck(salt: str) -> str:
    """SQL of a number between 0 and 1 that follows from the event alone."""
    return f"(hash(transaction_id, '{salt}') % 1000003 / 1000003.0)"


def _amounts(factor: float) -> str:
    return f"SELECT * REPLACE (amount * {factor} AS amount) FROM days"


def _missing(share: float) -> str:
    return f"SELECT * REPLACE (CASE WHEN {_luck('lost')} >= {share} THEN amount END AS amount) FROM days"


def _nights(points: float) -> str:
    """So many of all rows happen at night that happened by day."""
    night = f"epoch_us(event_timestamp) % {_DAY} < {_NIGHT}"
    by_day = f"avg(CAST(NOT {night} AS INTEGER)) OVER (PARTITION BY {PARTITION_COLUMN})"
    moved = f"NOT {night} AND {_luck('moved')} < {points} / {by_day}"
    at_night = (
        f"date_trunc('day', event_timestamp) + to_microseconds(CAST({_luck('when')} * {_NIGHT} AS BIGINT))"
    )
    time = f"CASE WHEN {moved} THEN {at_night} ELSE event_timestamp END"
    return f"SELECT * REPLACE ({time} AS event_timestamp, {time} AS created_timestamp) FROM days"


def _terminals(share: float) -> str:
    """So many of all terminals have each other's ids, each that of the next in an order by luck."""
    return f"""
WITH known AS (SELECT DISTINCT terminal_id FROM events),
     chosen AS (SELECT terminal_id AS old, hash(terminal_id, 'order') AS place FROM known
                WHERE hash(terminal_id, 'chosen') % 1000003 / 1000003.0 < {share}),
     swapped AS (SELECT old, coalesce(lead(old) OVER w, first_value(old) OVER w) AS new
                 FROM chosen WINDOW w AS (ORDER BY place))
SELECT days.* REPLACE (coalesce(new, terminal_id) AS terminal_id) FROM days LEFT JOIN swapped ON terminal_id = old"""


def _frauds(factor: float) -> str:
    """So many times the frauds of a day, the further ones by luck."""
    place = f"row_number() OVER (PARTITION BY {PARTITION_COLUMN}, is_fraud ORDER BY {_luck('fraud')}, transaction_id)"
    more = f"round(({factor} - 1) * sum(is_fraud) OVER (PARTITION BY {PARTITION_COLUMN}))"
    changed = f"CASE WHEN is_fraud = 0 AND {place} <= {more} THEN 1 ELSE is_fraud END"
    return f"SELECT * REPLACE (CAST({changed} AS BIGINT) AS is_fraud) FROM days"


SHIFTS = (
    Shift("amounts times", (1.05, 1.1, 1.2, 1.5), 1.2, _amounts),
    Shift("share of amounts missing", (0.02, 0.03, 0.05, 0.1), 0.05, _missing),
    Shift("more of the rows at night", (0.02, 0.03, 0.05, 0.1), 0.05, _nights),
    Shift("share of terminal ids permuted", (0.25, 0.5, 0.75, 1.0), 1.0, _terminals),
)
FRAUDS = Shift("frauds times", (1.25, 1.5, 2.0, 3.0), 2.0, _frauds)


@dataclass(frozen=True)
class ShiftedHome:
    """A lake beside that of a home, with its snapshots, and source rows of its own."""

    stable: Home
    root: Path

    def __post_init__(self) -> None:
        for view in ("customer_spending", "terminal_risk"):
            name = f"lake/features/{view}"
            shutil.copytree(self.stable.root / name, self.root / name)

    @property
    def home(self) -> Home:
        return Home(self.root, self.stable.declared)

    def days(
        self, spec: DriftProfileSpec, shift: Shift, size: float, days: Sequence[str]
    ) -> dict[str, Columns]:
        """The model-feature rows of days as they would be with a shift in their events."""
        self._write(EVENTS, shift.sql(size), days)
        rows = computed(spec, self.home.catalog, self.home.settings, days)
        names = [
            *spec.service(self.home.catalog).feature_names(self.home.catalog),
            *id_columns(spec, self.home.catalog),
        ]
        return profiles.split_days(rows, names)

    def labels(self, spec: TrainingSetSpec, shift: Shift, size: float, partition: str) -> list[DayCount]:
        """The label counts of all days up to a partition's newest matured one, each with a shift in it."""
        every_day = [key_of(date) for date in day_range(day(FIRST_DAY), day(LAST_DAY))]
        self._write(LABELS, shift.sql(size), every_day)
        return label_counts(self.home, spec, partition)

    def _write(self, source: str, sql: str, days: Sequence[str]) -> None:
        """Make the shifted rows of some days the only ones of a source."""
        in_days = ", ".join(f"'{key}'" for key in days)
        with connect(self.home.settings) as connection:
            connection.execute(f"CREATE TEMP VIEW events AS {self.stable.lake.table(source).scan()}")
            connection.execute(
                f"CREATE TEMP VIEW days AS SELECT * FROM events WHERE {PARTITION_COLUMN} IN ({in_days})"
            )
            rows = connection.sql(f"SELECT * FROM ({sql}) ORDER BY {PARTITION_COLUMN}, transaction_id")
            self.home.lake.table(source).replace(rows, predicate="true")


def label_counts(home: Home, spec: TrainingSetSpec, partition: str) -> list[DayCount]:
    """The label counts of all days up to a partition's newest matured one."""
    found = training_sets.daily_labels(home.settings, spec, home.catalog, partition)
    return [entry for entry in found if isinstance(entry, DayCount)]


def without_some(columns: Columns, feature: str, share: float) -> Columns:
    """A day's rows on which a feature has no value in a share of them, whatever it had."""
    lost = np.random.default_rng(0).random(len(columns[feature])) < share
    return {**columns, feature: np.where(lost, np.float32(np.nan), columns[feature])}


def changed_features(
    stable: Mapping[str, Columns], shifted: Mapping[str, Columns], names: Sequence[str]
) -> list[str]:
    """The features that a shift changes on any day."""
    return [
        name
        for name in names
        if any(not _same_values(stable[key][name], columns[name]) for key, columns in shifted.items())
    ]


def _same_values(before: np.ndarray, after: np.ndarray) -> bool:
    return np.array_equal(np.sort(before), np.sort(after), equal_nan=True)
