"""How the values of a day and of its reference are spread: shares over common bins, and plain statistics.

Apart from `compute.py`, because nothing here is judged: it is what people look at when they ask why a day failed.
Both sides come sorted already, so a count is two searches, however many days the reference has.
"""

from dataclasses import dataclass
from math import fsum, sqrt

import numpy as np

from ml_platform.drift_profiles.distances import Sample

BINS = 24
WHOLE_NUMBER_BINS = 40
CATEGORIES = 15
OUTSIDE = 0.005  # this share of the reference, on either side, may lie beyond the bins
OTHER = "other"
_PIECE = 8192


@dataclass(frozen=True)
class Histogram:
    """Shares of a day's values, and of its reference's, bin by bin; those of one side add up to 1, or are all 0.

    Numbers have `edges`, ascending: the first bin is below the first of them, the last above the last, and every
    other holds its lower edge and not its upper one, but for the last edge. Categories have `names` instead.
    """

    day: tuple[float, ...]
    reference: tuple[float, ...]
    edges: tuple[float, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Statistics:
    """What whylogs tells of a day's column, of one side; what there is none of is None.

    `mean` and all after it are of the finite numbers.
    """

    rows: int
    missing: int
    unique: float | None = None
    mean: float | None = None
    stddev: float | None = None
    min: float | None = None
    q05: float | None = None
    q25: float | None = None
    q50: float | None = None
    q75: float | None = None
    q95: float | None = None
    max: float | None = None


def histogram(day: Sample, reference: Sample | None) -> Histogram:
    """Both sides over common bins: those of the reference, or of the day when there is none.

    Numbers: bins of equal width over the middle 99 percent, and one on either side; where they are small whole
    numbers, a bin each. Categories: the most frequent of both sides together, and one for all others.
    """
    if day.kind == "category":
        return _of_categories(day, reference)
    values = reference.values if reference is not None else np.empty(0)
    found = _edges(values if len(values) else day.values, whole=_are_whole(day.values))
    edges = found.astype(day.values.dtype)  # of another type, every search would first copy what it searches
    return Histogram(_shares(day.values, edges), _shares(values, edges), edges=tuple(edges.tolist()))


def statistics(sample: Sample) -> Statistics:
    """Exact statistics of a sample."""
    values = _finite(sample.values)
    count = len(values)
    if not count:
        return Statistics(sample.rows, sample.missing)
    mean = float(values.sum(dtype=np.float64)) / count
    stddev = sqrt(_squares(values, mean) / (count - 1)) if count > 1 else 0.0
    places = [0, *(min(count - 1, int(share * count)) for share in (0.05, 0.25, 0.5, 0.75, 0.95)), -1]
    quantiles = [float(values[place]) for place in places]
    return Statistics(sample.rows, sample.missing, None, mean, stddev, *quantiles)


def _squares(values: np.ndarray, mean: float) -> float:
    """The sum of squared deviations, a piece at a time: a copy of a month as doubles takes longer than the sum."""
    pieces = (values[start : start + _PIECE] for start in range(0, len(values), _PIECE))
    deviations = (np.subtract(piece, mean, dtype=np.float64) for piece in pieces)
    return fsum(float(np.dot(piece, piece)) for piece in deviations)


def _of_categories(day: Sample, reference: Sample | None) -> Histogram:
    counts = [day.counts, reference.counts if reference is not None else type(day.counts)()]
    totals = [max(1, count.total()) for count in counts]
    weight = {
        name: sum(count[name] / total for count, total in zip(counts, totals, strict=True))
        for name in counts[0].keys() | counts[1].keys()
    }
    ranked = sorted(weight, key=lambda name: (-weight[name], str(name)))
    shown, others = ranked[:CATEGORIES], ranked[CATEGORIES:]
    sides = [
        [count[name] / total for name in shown] + [sum(count[name] for name in others) / total] * bool(others)
        for count, total in zip(counts, totals, strict=True)
    ]
    names = [str(name) for name in shown] + [OTHER] * bool(others)
    return Histogram(tuple(sides[0]), tuple(sides[1]), names=tuple(names))


def _edges(ascending: np.ndarray, *, whole: bool) -> np.ndarray:
    """Edges of bins over the middle of sorted numbers."""
    values = _finite(ascending)
    if not len(values):
        return np.array([0.0, 1.0])
    cut = int(OUTSIDE * len(values))
    low, high = float(values[cut]), float(values[len(values) - 1 - cut])
    if whole and high - low < WHOLE_NUMBER_BINS and abs(low) < 2**20:
        return np.arange(low - 0.5, high + 1)
    if low == high:
        apart = max(0.5, abs(low) * 1e-6)
        largest = np.finfo(values.dtype).max
        return np.clip([low - apart, high + apart], -largest, largest)
    steps = np.arange(BINS + 1) / BINS
    between = low * (1 - steps) + high * steps  # a difference of the two could be more than a double holds
    return np.maximum.accumulate(np.clip(between, low, high))


def _shares(ascending: np.ndarray, edges: np.ndarray) -> tuple[float, ...]:
    count = len(ascending)
    if not count:
        return (0.0,) * (len(edges) + 1)
    upto = np.searchsorted(ascending, edges, "left")
    upto[-1] = np.searchsorted(ascending, edges[-1:], "right")[0]
    return tuple((np.diff(upto, prepend=0, append=count) / count).tolist())


def _are_whole(values: np.ndarray) -> bool:
    finite = _finite(values)
    return bool(len(finite)) and bool((finite == np.floor(finite)).all())


def _finite(ascending: np.ndarray) -> np.ndarray:
    """The part between the infinities."""
    if not len(ascending) or np.isfinite(ascending[[0, -1]]).all():
        return ascending
    return ascending[np.isfinite(ascending)]
