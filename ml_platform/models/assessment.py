"""What is known of how good a version is, as data that travels with it: evaluation.json.

Metrics and slices with intervals, calibration with its bins or how numbers are distributed, latency: for the model
card, for whoever compares with this version when its rows can no longer be scored, and for what is later seen in
production.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ml_platform.models.calibration import Calibration, ScoreBin, calibration, score_bins
from ml_platform.models.compute import Array
from ml_platform.models.evaluation import measurable, measure, positives
from ml_platform.models.latency import Latency, latency
from ml_platform.models.resampling import DRAWS, Interval, intervals
from ml_platform.models.slices import masks, part_of
from ml_platform.models.spec import ModelSpec, Slice
from ml_platform.training_sets.store import Arrays


@dataclass(frozen=True)
class SliceMeasure:
    """A version's metric on one slice; None where it has no value there, as without positives or with nothing else."""

    name: str
    where: str
    rows: int
    positives: int | None
    value: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Assessment:
    """Everything that was measured of one version on its test rows."""

    metric: str
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    slices: tuple[SliceMeasure, ...]
    calibration: Calibration | None
    scores: tuple[ScoreBin, ...]
    latency: Latency

    @property
    def numbers(self) -> dict[str, float]:
        """What is logged as metrics: the same rows and model give the same again, so not the latency."""
        found = self.calibration
        if found is None:
            return dict(self.metrics)
        return {**self.metrics, "calibration_error": found.error, "brier_score": found.brier_score}

    def document(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        return {
            "metric": self.metric,
            "metrics": {
                name: {"value": value, **_shown(self.intervals.get(name))}
                for name, value in self.metrics.items()
            },
            "slices": [
                {**{k: v for k, v in asdict(part).items() if k != "interval"}, **_shown(part.interval)}
                for part in self.slices
            ],
            "calibration": asdict(self.calibration) if self.calibration else {},
            "scores": [asdict(one) for one in self.scores],
            "latency": asdict(self.latency),
            "draws": DRAWS,
        }


def assess(
    spec: ModelSpec, rows: Arrays, scores: Array, onnx: bytes, *, metrics: Mapping[str, float], seed: int
) -> Assessment:
    """Say how sure the metrics of a version are on labelled test rows with its scores (n,), and measure the rest.

    `metrics` are those that `measure` gives of these scores. Raises InputError where `evaluate` does.
    """
    chosen, numbers = masks(spec.slices, rows), spec.task == "regression"
    return Assessment(
        metric=spec.metric,
        metrics=metrics,
        intervals=intervals(spec, spec.metrics, rows, scores, seed=seed),
        slices=tuple(_slice(spec, part, rows, scores, chosen[part.name], seed=seed) for part in spec.slices),
        calibration=None if numbers else calibration(rows.labels, scores),
        scores=score_bins(scores) if numbers else (),
        latency=latency(onnx, rows.features),
    )


def _slice(
    spec: ModelSpec, part: Slice, rows: Arrays, scores: Array, mask: Array, *, seed: int
) -> SliceMeasure:
    inside, mine = part_of(rows, mask), scores[mask]
    counts = (part.name, part.where, len(inside.labels), positives(spec, inside))
    if not measurable(spec, inside):
        return SliceMeasure(*counts, value=None, interval=None)
    value = measure(spec, inside, mine).get(spec.metric)
    return SliceMeasure(
        *counts, value, intervals(spec, [spec.metric], inside, mine, seed=seed).get(spec.metric)
    )


def _shown(interval: Interval | None) -> dict[str, Any]:
    return asdict(interval) if interval is not None else {}
