"""The days that the drift benchmark judges: as they came, and with something wrong with them."""

from collections.abc import Mapping, Sequence

from sqlglot import exp

from ml_platform.drift_profiles import store
from ml_platform.drift_profiles.component import id_columns, judge_days, policy_of
from ml_platform.drift_profiles.sequence import Columns, DaySequence, LetThrough
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, day, day_range, key_of
from ml_platform.training_sets.label_drift import DayCount, LabelVerdict, judge_in_turn
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.benchmarks.home import LAST_DAY, Home
from tests.benchmarks.shifts import FRAUDS, ShiftedHome, label_counts, without_some

FIRST_JUDGED = "2018-06-06"
EVERY = 3
LOST = 0.05
Key = tuple[str, float]


class Data:
    """A home in which everything up to the drift profile is published, and the profile's rows by day."""

    def __init__(self, home: Home) -> None:
        self.home, self.catalog = home, home.catalog
        self.profile = self.catalog.get(DriftProfileSpec, "fraud", wanted_by="a benchmark")
        self.training_set = self.catalog.get(TrainingSetSpec, "fraud", wanted_by="a benchmark")
        names = self.profile.service(self.catalog).feature_names(self.catalog)
        self.gated = [name for name in names if name not in self.profile.calendar]
        self.every_day = _keys(key_of(self.profile.first_day(self.catalog)), LAST_DAY)
        self.judged = _keys(FIRST_JUDGED, LAST_DAY)
        self.some = self.judged[::EVERY]
        self.columns = store.read_days(
            home.settings, self.profile.key, self.every_day, [*names, *id_columns(self.profile, self.catalog)]
        )

    def before(self, key: str) -> list[str]:
        """The days that a stable day is compared with."""
        return self.every_day[
            self.every_day.index(key) - self.profile.reference_days : self.every_day.index(key)
        ]


def prepared(home: Home) -> Data:
    """Make sources, features and profile; a day that drifted is no reason to stop here."""
    home.publish_sources()
    home.make("features/customer_spending", "features/terminal_risk")
    spec = home.catalog.get(DriftProfileSpec, "fraud", wanted_by="a benchmark")
    home.run(spec.key, first=key_of(spec.first_day(home.catalog)), last=LAST_DAY)
    return Data(home)


def judged_once(data: Data, key: str) -> str:
    """What a step does to judge one day: it reads the days before from the lake, and compares."""
    columns = {key: data.columns[key]}
    judged, _ = judge_days(data.profile, data.catalog, data.home.settings, columns, {key: ""}, {})
    return judged[key].verdict.decision.status


def detections(
    data: Data, shifted: Mapping[Key, Mapping[str, Columns]]
) -> tuple[dict[Key, list[bool]], list[str]]:
    """Of every shift, which days it fails; and the stable days that fail. In one walk over the days, as they came."""
    policy = policy_of(data.profile, data.catalog)
    sequence = DaySequence(policy, {}, LetThrough(), read=lambda _: {})
    found: dict[Key, list[bool]] = {}
    alarms: list[str] = []
    for key, columns in data.columns.items():
        if key in data.judged:
            today = {shift: days[key] for shift, days in shifted.items() if key in days}
            if key in data.some:
                today |= {
                    ("lost", n): without_some(columns, feature, LOST) for n, feature in enumerate(data.gated)
                }
            for shift, rows in today.items():
                failed = sequence.judge(key, rows).decision.status == "failed"
                found.setdefault(shift, []).append(failed)
        decision = sequence.judge(key, columns).decision
        alarms += [key] if decision.status == "failed" else []
        sequence.remember(key, columns, decision)
    _require_same_alarms(data, alarms)
    return found, alarms


def _require_same_alarms(data: Data, alarms: list[str]) -> None:
    """The walk must have found what materializing the profile has found."""
    table = data.home.lake.table(f"{data.profile.key}_decisions")
    rows = table.answer(exp.select(PARTITION_COLUMN).where("status = 'failed'"))
    published = sorted(str(row[PARTITION_COLUMN]) for row in rows)
    if published != alarms:
        raise SystemExit(f"the asset failed {published}, the walk over the same days {alarms}")


def shifted_labels(data: Data, shifted_home: ShiftedHome) -> dict[float, list[DayCount]]:
    """Label counts of all days by how many times the frauds; those of the days as they came by 1."""
    known = key_of(day(LAST_DAY) + data.training_set.maturity_days(data.catalog) * ONE_DAY)
    counts = {size: shifted_home.labels(data.training_set, FRAUDS, size, known) for size in FRAUDS.sizes}
    return {1.0: label_counts(data.home, data.training_set, known), **counts}


def label_detections(
    data: Data, labels: Mapping[float, list[DayCount]]
) -> tuple[dict[Key, list[bool]], list[str]]:
    """The same of the labels: which days fail when they alone have more frauds, and which fail as they came."""
    found: dict[Key, list[bool]] = {}
    alarms: list[str] = []
    for n, entry in enumerate(labels[1.0]):
        if entry.day < FIRST_JUDGED:
            continue
        past = labels[1.0][:n]
        for size in FRAUDS.sizes:
            found.setdefault((FRAUDS.name, size), []).append(
                not _judged(data, [*past, labels[size][n]]).passed
            )
        alarms += [] if _judged(data, [*past, entry]).passed else [entry.day]
    return found, alarms


def _judged(data: Data, counts: Sequence[DayCount]) -> LabelVerdict:
    spec = data.training_set
    return judge_in_turn(
        counts, LetThrough(), ratio_bound=spec.label_rate_bound, reference_days=spec.reference_days
    )


def _keys(first: str, last: str) -> list[str]:
    return [key_of(date) for date in day_range(day(first), day(last))]
