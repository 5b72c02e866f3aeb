"""Whether scores can be read as probabilities: of rows that score 0.3, are three of ten positive?"""

from dataclasses import dataclass

import numpy as np

from ml_platform.models.compute import Array
from ml_platform.models.evaluation import labels_and_scores

BINS = 10


@dataclass(frozen=True)
class Bin:
    """The rows with a score from `low` on and below `high` (the last bin has its end too): what was said, what came."""

    low: float
    high: float
    rows: int
    mean_score: float
    share_positive: float


@dataclass(frozen=True)
class ScoreBin:
    """The rows with a score from `low` on and below `high`; the last bin has its end too."""

    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """How far scores are from probabilities, on the whole and by bin; bins without rows are left out."""

    error: float
    brier_score: float
    bins: tuple[Bin, ...]


def calibration(labels: Array, scores: Array) -> Calibration:
    """Measure how well scores (n,) work as probabilities of labels 0 and 1 (n,).

    `error` is the expected calibration error: the sum over ten bins of equal width of the bin's share of rows times
    |share of positives - mean score| (Naeini, Cooper and Hauskrecht 2015, Obtaining Well Calibrated Probabilities
    Using Bayesian Binning; bins of equal width as in Guo et al. 2017, On Calibration of Modern Neural Networks).
    Where positives are rare nearly all rows are in the first bin, so it says above all whether scores add up to the
    positives there are. `brier_score` is the mean of (score - label)² (Brier 1950). Raises InputError where
    `evaluate` does.
    """
    labels, scores = labels_and_scores(labels, scores)
    places = np.clip((scores * BINS).astype(np.int64), 0, BINS - 1)
    rows = np.bincount(places, minlength=BINS)
    said, came = np.bincount(places, scores, BINS), np.bincount(places, labels, BINS)
    bins = tuple(
        Bin(i / BINS, (i + 1) / BINS, int(rows[i]), float(said[i] / rows[i]), float(came[i] / rows[i]))
        for i in np.flatnonzero(rows)
    )
    error = float(np.abs(came - said).sum() / len(labels))
    return Calibration(error, float(np.mean((scores - labels) ** 2)), bins)


def score_bins(scores: Array) -> tuple[ScoreBin, ...]:
    """How scores (n,) of any unit are distributed: in tenths of the rows, fewer where many are equal."""
    edges = np.unique(np.quantile(scores.astype(np.float64), np.linspace(0, 1, BINS + 1)))
    if len(edges) == 1:
        return (ScoreBin(float(edges[0]), float(edges[0]), len(scores)),)
    rows = np.histogram(scores, edges)[0]
    return tuple(
        ScoreBin(float(low), float(high), int(count))
        for low, high, count in zip(edges, edges[1:], rows, strict=False)
    )


def places(edges: Array, scores: Array) -> Array:
    """Between which ordered edges (k,) scores (n,) lie: 0 before the first, k beyond the last, which is inside."""
    found = np.searchsorted(edges, scores, side="right")
    return found - (scores == edges[-1])
