"""How good a version is on outcomes, measured as it was when it was evaluated, and beside that."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.feedback.compute import CHAMPION
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.models.calibration import calibration
from ml_platform.models.evaluation import measurable, measure, positives
from ml_platform.models.resampling import Interval, intervals, seed_of
from ml_platform.models.spec import ModelSpec
from ml_platform.training_sets.store import Arrays

Status = Literal["passed", "failed", "not_judged"]

PERFORMANCE = pa.schema(
    [
        ("version", pa.int64()),
        ("role", pa.string()),
        ("days", pa.int64()),  # 1: of the day alone; more: of so many matured days, the partition's the last
        ("metric", pa.string()),
        ("value", pa.float64()),  # null where it has none, as without positives or with nothing else
        ("low", pa.float64()),  # the middle 95 percent of the draws
        ("high", pa.float64()),
        ("by", pa.string()),  # the entity that was drawn
        ("rows", pa.int64()),
        ("positives", pa.int64()),  # null of numbers
        ("evaluation", pa.float64()),  # the same in the version's own evaluation
        ("evaluation_low", pa.float64()),
        ("evaluation_high", pa.float64()),
        (PARTITION_COLUMN, pa.date32()),
    ]
)


@dataclass(frozen=True)
class Scored:
    """The counted outcomes of one version in one role, in order of time."""

    version: int
    role: str
    rows: Arrays
    scores: npt.NDArray[np.float64]

    @property
    def answered(self) -> bool:
        """Whether these scores were answered; what was scored in shadow was not."""
        return self.role == CHAMPION

    def of_day(self, date: np.datetime64) -> "Scored":
        """Those of one day."""
        chosen = self.rows.days == date
        entities = {name: numbers[chosen] for name, numbers in self.rows.entities.items()}
        rows = Arrays(
            self.rows.features[chosen], self.rows.labels[chosen], (), self.rows.days[chosen], entities
        )
        return Scored(self.version, self.role, rows, self.scores[chosen])


def by_version(outcomes: pa.Table, entities: Iterable[str]) -> list[Scored]:
    """Counted outcomes of any days, told apart by version and role; entities are numbered already, -1 for none."""
    columns = {name: outcomes.column(name).to_numpy() for name in ("version", "label", "score", *entities)}
    roles, days = outcomes.column("role").to_pylist(), outcomes.column("as_of").cast(pa.timestamp("us"))
    role = np.array(roles, dtype=object)
    dates = days.to_numpy().astype("datetime64[D]")
    found: list[Scored] = []
    for version, name in sorted({*zip(columns["version"].tolist(), roles, strict=True)}):
        chosen = (columns["version"] == version) & (role == name)
        rows = Arrays(
            features=np.empty((int(chosen.sum()), 0), np.float32),
            labels=columns["label"][chosen],
            names=(),
            days=dates[chosen],
            entities={entity: columns[entity][chosen].astype(np.int64) for entity in entities},
        )
        found.append(Scored(version, name, rows, columns["score"][chosen].astype(np.float64)))
    return found


@dataclass(frozen=True)
class Measure:
    """One metric of a version on its outcomes, beside that of its own evaluation."""

    metric: str
    value: float | None
    interval: Interval | None
    rows: int
    positives: int | None
    evaluation: Mapping[str, Any]
    sign: int = 1

    @property
    def worse(self) -> float | None:
        """How much worse than in the evaluation; None without either."""
        if self.value is None or "value" not in self.evaluation:
            return None
        return self.sign * (self.evaluation["value"] - self.value)

    @property
    def loss(self) -> Interval | None:
        """The same as a 95 percent interval; None without one of the two.

        The two are of other rows, so their intervals are put together (method MOVER, equation 5 of Zou and Donner
        2008, Construction of confidence limits about effect measures, Statistics in Medicine 27, 1693-1702).
        """
        then, now = self.evaluation, self.interval
        if self.value is None or now is None or not {"value", "low", "high"} <= then.keys():
            return None
        lower = then["value"] - self.value
        below = sqrt((then["value"] - then["low"]) ** 2 + (now.high - self.value) ** 2)
        above = sqrt((then["high"] - then["value"]) ** 2 + (self.value - now.low) ** 2)
        if self.sign > 0:
            return Interval(lower - below, lower + above, now.by)
        return Interval(-lower - above, -lower + below, now.by)


def measured(
    spec: ModelSpec, found: Scored, evaluation: Mapping[str, Any] | None, *, seed: int
) -> list[Measure]:
    """Every metric of a version's outcomes, and how well its scores are probabilities; None where it has no value."""
    then = _as_evaluated(spec, evaluation)
    values: dict[str, float] = {}
    drawn: dict[str, Interval] = {}
    if measurable(spec, found.rows):
        values = measure(spec, found.rows, found.scores)
        drawn = intervals(spec, spec.metrics, found.rows, found.scores, seed=seed)
        if spec.task == "classification":
            calibrated = calibration(found.rows.labels, found.scores)
            values |= {"calibration_error": calibrated.error, "brier_score": calibrated.brier_score}
    counts = (len(found.rows.labels), positives(spec, found.rows))
    return [Measure(name, values.get(name), drawn.get(name), *counts, then[name], spec.sign) for name in then]


def _as_evaluated(spec: ModelSpec, evaluation: Mapping[str, Any] | None) -> dict[str, Mapping[str, Any]]:
    """By metric, what evaluation.json has of it; nothing where the registry does not have the version any more."""
    found = evaluation or {"metrics": {}, "calibration": {}}
    then = {name: found["metrics"].get(name, {}) for name in spec.metrics}
    if spec.task == "classification":
        calibrated = found["calibration"]
        for name, known_as in (("calibration_error", "error"), ("brier_score", "brier_score")):
            then[name] = {"value": calibrated[known_as]} if calibrated else {}
    return then


def seed_for(spec: ModelSpec, version: int, partition: str) -> int:
    """The seed of a version's draws on a day: what is measured again of the same outcomes is the same."""
    return seed_of(spec.name, version, partition)


@dataclass(frozen=True)
class ConceptDrift:
    """Whether a version is worse than it was when it was evaluated."""

    version: int
    status: Status
    reason: str
    measure: Measure


def concept_drift(
    version: int, measure: Measure, *, margin: float, minimum_positives: int, days: int
) -> ConceptDrift:
    """Judge a version by one metric of its window: it fails when even the least likely loss is past the margin."""
    told = (measure.rows, "rows") if measure.positives is None else (measure.positives, "positives")
    if told[0] < minimum_positives:
        reason = f"{told[0]} {told[1]} in {days} days: {minimum_positives} are needed"
        return ConceptDrift(version, "not_judged", reason, measure)
    worse, loss = measure.worse, measure.loss
    if worse is None or loss is None:
        return ConceptDrift(version, "not_judged", "no interval here, or none in its evaluation", measure)
    reason = (
        f"{measure.metric} {measure.value:.4f} on {days} days, {measure.evaluation['value']:.4f} when it was "
        f"evaluated: worse by {worse:.4f} ({loss.low:.4f} to {loss.high:.4f})"
    )
    return ConceptDrift(version, "failed" if loss.low > margin else "passed", reason, measure)


def performance_rows(
    found: Scored, days: int, measures: Sequence[Measure], partition: Any
) -> list[dict[str, Any]]:
    """Measures as rows of the performance table."""
    return [
        {
            "version": found.version,
            "role": found.role,
            "days": days,
            "metric": one.metric,
            "value": one.value,
            "low": one.interval.low if one.interval else None,
            "high": one.interval.high if one.interval else None,
            "by": one.interval.by if one.interval else None,
            "rows": one.rows,
            "positives": one.positives,
            "evaluation": one.evaluation.get("value"),
            "evaluation_low": one.evaluation.get("low"),
            "evaluation_high": one.evaluation.get("high"),
            PARTITION_COLUMN: partition,
        }
        for one in measures
    ]
