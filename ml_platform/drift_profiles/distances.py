"""How far apart two samples of one feature are, and how surprising that is.

Apart from `compute` because nothing here knows a policy. Everything counts in integers until the last
division, so a sample that was put together from days gives the bits of one that was read at once.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import erfc, fsum, log, sqrt
from typing import Literal, TypeVar

import numpy as np

from ml_platform.drift_profiles.missing import is_missing, listed, present_values
from ml_platform.kernel.errors import InputError

Category = TypeVar("Category", bound=Hashable)

PSI_BINS = 10
SMALLEST_SHARE = 1e-4  # stands for an empty bin, whose logarithm would be infinite


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false alarm among them stays below the level.

    Holm, S. (1979), A simple sequentially rejective multiple test procedure, Scand. J. Statist. 6, 65-70.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def effective_size(rows: np.ndarray, *, alone: int = 0) -> float:
    """Return how many independent rows tell as much as clusters of equal rows do.

    `rows` counts each cluster's rows, `alone` the clusters of one row. (sum m)^2 / sum m^2 over the sizes m:
    Kish, L. (1965), Survey Sampling, Wiley. A share of rows is a mean over clusters, weighted with their
    sizes; its variance is that of as many clusters of one size. Without rows it is 0.
    """
    total, squares = int(rows.sum()) + alone, int(np.square(rows).sum()) + alone
    return total**2 / squares if squares else 0.0


def kolmogorov_smirnov(
    day: np.ndarray, reference: np.ndarray, *, sizes: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Return the greatest distance between two empirical distributions, and its p-value.

    Both arrays are ascending and without NaN; with an empty one there is no distance and p is 1. Between two
    of the day's values its distribution is flat and the reference's only grows, so the greatest distance is
    at, or just below, one of the day's values. The p-value is that of the limit distribution with nm/(n+m)
    for the size, n and m being the lengths or the given effective `sizes`; ties make it cautious. Smirnov, N.
    (1948), Table for estimating the goodness of fit of empirical distributions, Ann. Math. Statist. 19,
    279-281.
    """
    from scipy.special import kolmogorov

    n, m = len(day), len(reference)
    if not n or not m:
        return 0.0, 1.0
    points, starts, times = np.unique(day, return_index=True, return_counts=True)
    before = np.abs(starts * m - np.searchsorted(reference, points, "left") * n)
    upto = np.abs((starts + times) * m - np.searchsorted(reference, points, "right") * n)
    gap = int(max(before.max(), upto.max()))
    distance = gap / (n * m)
    day_size, reference_size = sizes or (n, m)
    return distance, float(
        kolmogorov(sqrt(day_size * reference_size / (day_size + reference_size)) * distance)
    )


def total_variation(
    day: Mapping[Category, int],
    reference: Mapping[Category, int],
    *,
    sizes: tuple[float, float] | None = None,
) -> tuple[float, float]:
    """Return half the summed difference of the category shares, and a chi-square p-value of homogeneity.

    Arguments count rows per category; with an empty one there is no distance and p is 1. Categories expected
    fewer than five times on a side are tested as one: Cochran, W. G. (1954), Some methods for strengthening
    the common chi-squared tests, Biometrics 10, 417-451. With effective `sizes` all counts of a side are
    scaled to its size before they are tested: Rao, J. N. K. and Scott, A. J. (1981), The analysis of
    categorical data from complex sample surveys, J. Amer. Statist. Assoc. 76, 221-230.
    """
    from scipy.special import chdtrc

    n, m = sum(day.values()), sum(reference.values())
    if not n or not m:
        return 0.0, 1.0
    pairs = [(day.get(key, 0), reference.get(key, 0)) for key in day.keys() | reference.keys()]
    distance = sum(abs(a * m - b * n) for a, b in pairs) / (2 * n * m)
    day_size, reference_size = sizes or (n, m)
    u, v = day_size / n, reference_size / m  # what one row counts
    least = 5 * (day_size + reference_size) / min(day_size, reference_size)
    common = [(a, b) for a, b in pairs if a * u + b * v >= least]
    rest = (n - sum(a for a, _ in common), m - sum(b for _, b in common))
    cells = [*common, rest] if sum(rest) else common
    chi_square = fsum((a * m - b * n) ** 2 * u * v / (n * m * (a * u + b * v)) for a, b in cells)
    return distance, float(chdtrc(len(cells) - 1, chi_square)) if len(cells) > 1 else 1.0


def missing_p_value(day: "Sample", reference: "Sample") -> float | None:
    """Return how likely such different missing shares are by chance: a pooled two-proportion z test.

    None when nothing, or everything, is missing on both sides: then there is nothing to test.
    """
    rows, missing = day.rows + reference.rows, day.missing + reference.missing
    if missing in (0, rows) or not day.rows or not reference.rows:
        return None
    n, m = day.size(present=False), reference.size(present=False)
    pooled = (day.missing * (n / day.rows) + reference.missing * (m / reference.rows)) / (n + m)
    deviation = sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return erfc(abs(day.missing_share - reference.missing_share) / deviation / sqrt(2))


def population_stability(day: Sequence[int], reference: Sequence[int]) -> float:
    """Return the population stability index of two samples counted in the same bins; 0 when one is empty.

    Sum of (p - q) ln(p / q): Siddiqi, N. (2006), Credit Risk Scorecards, Wiley. Shares below 0.0001 count as
    that much.
    """
    n, m = sum(day), sum(reference)
    if not n or not m:
        return 0.0
    shares = [
        (max(a / n, SMALLEST_SHARE), max(b / m, SMALLEST_SHARE)) for a, b in zip(day, reference, strict=True)
    ]
    return fsum((p - q) * log(p / q) for p, q in shares)


@dataclass(frozen=True)
class EntityRows:
    """The number of the entity of each row of a day, 0 for none, and whether the row has a value."""

    entities: np.ndarray
    present: np.ndarray

    def counts(self) -> np.ndarray:
        """Count the rows of each entity: shape (2, entities), all rows and rows with a value."""
        slots = int(self.entities.max(initial=0)) + 1
        parts = (self.entities, self.entities[self.present])
        return np.stack([np.bincount(part, minlength=slots) for part in parts])


def _add(first: "Sample", others: Sequence["Sample"], *, sign: int = 1) -> np.ndarray | None:
    """Rows per entity of a sample, with those of others added, or taken away with sign -1."""
    start, *counts = (sample.entity_counts() for sample in (first, *others))
    if start is None:
        return None
    known = [part for part in counts if part is not None]
    total = np.zeros((2, max(part.shape[1] for part in (start, *known))), np.int64)
    total[:, : start.shape[1]] = start
    for part in known:
        total[:, : part.shape[1]] += sign * part
    return total


@dataclass(frozen=True)
class Sample:
    """One feature of a day or of many days, in a form that days can join and leave."""

    kind: Literal["number", "category"]
    rows: int
    values: np.ndarray  # of a number: the values that are there, ascending; else empty
    counts: Counter[Hashable]  # of a category: rows per category; else empty
    clusters: EntityRows | np.ndarray | None = None  # of an entity's feature: a day's rows, or counts

    def size(self, *, present: bool) -> float:
        """Return the effective number of all rows, or of those with a value."""
        counts = self.entity_counts()
        if counts is None:
            return self.rows - self.missing if present else self.rows
        alone, rows = counts[int(present), 0], counts[int(present), 1:]
        return effective_size(rows, alone=int(alone))

    def entity_counts(self) -> np.ndarray | None:
        """Count the rows of each entity, as EntityRows does; None when every row counts for itself."""
        return self.clusters.counts() if isinstance(self.clusters, EntityRows) else self.clusters

    @property
    def missing_share(self) -> float:
        """Rows without a value over all rows; 0 without rows."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - len(self.values) - self.counts.total()

    def plus(self, *others: "Sample") -> "Sample":
        """Return this sample with others added."""
        runs = np.concatenate([self.values, *(other.values for other in others)])
        # A stable sort of two sorted runs is one merge; many runs are quicker sorted afresh.
        merged = np.sort(runs, kind="stable" if len(others) == 1 else None)
        counts = sum((other.counts for other in others), start=self.counts)
        rows = self.rows + sum(other.rows for other in others)
        return Sample(self.kind, rows, merged, counts, _add(self, others))

    def minus(self, other: "Sample") -> "Sample":
        """Return this sample without another that was added before."""
        gone = other.values
        points, starts, times = np.unique(gone, return_index=True, return_counts=True)
        places = np.repeat(np.searchsorted(self.values, points) - starts, times) + np.arange(len(gone))
        kept = np.delete(self.values, places)
        clusters = _add(self, [other], sign=-1)
        return Sample(self.kind, self.rows - other.rows, kept, self.counts - other.counts, clusters)

    def distance(self, reference: "Sample") -> tuple[float, float]:
        """Return the distance between the values that are there, and its p-value."""
        sizes = (self.size(present=True), reference.size(present=True))
        if self.kind == "category":
            return total_variation(self.counts, reference.counts, sizes=sizes)
        return kolmogorov_smirnov(self.values, reference.values, sizes=sizes)

    def psi(self, reference: "Sample") -> float:
        """Return the population stability index by category, or by decile of the reference."""
        if self.kind == "category":
            keys = list(self.counts.keys() | reference.counts.keys())
            return population_stability([self.counts[k] for k in keys], [reference.counts[k] for k in keys])
        if not len(reference.values):
            return 0.0
        edges = np.unique(
            reference.values[[len(reference.values) * n // PSI_BINS for n in range(1, PSI_BINS)]]
        )
        return population_stability(_per_bin(self.values, edges), _per_bin(reference.values, edges))


def _per_bin(ascending: np.ndarray, edges: np.ndarray) -> list[int]:
    upto = [0, *map(int, np.searchsorted(ascending, edges, "right")), len(ascending)]
    return [end - start for start, end in pairwise(upto)]


def require_columns(columns: Mapping[str, np.ndarray]) -> None:
    """Raise InputError unless every column is a plain array with one value per row of the same day."""
    masked = sorted(name for name, values in columns.items() if isinstance(values, np.ma.MaskedArray))
    if masked:
        raise InputError(
            f"Columns have to be plain arrays, got masked ones for {masked}: hidden values would count. "
            "Fill them with NaN (numbers) or None (text and categories)."
        )
    shapes = {name: values.shape for name, values in columns.items()}
    if len(set(shapes.values())) != 1 or len(next(iter(shapes.values()))) != 1:
        raise InputError(
            f"Columns need one value per row each, got arrays of shapes {shapes}: nothing was read. "
            "Give at least one column, all one-dimensional and of the same length."
        )


def read_numbers(column: np.ndarray, *, feature: str, entities: np.ndarray | None = None) -> Sample:
    """Take a column of numbers with NaN for missing; integers and booleans are taken as float64.

    `entities` numbers the entity of each row, for a feature of an entity.
    """
    if column.dtype.kind not in "fiub":
        raise InputError(
            f"Feature {feature!r} is judged as a number, got an array of {column.dtype}: "
            "nothing was compared. Declare it as a category, or give it as float32."
        )
    numbers = column if column.dtype.kind == "f" else column.astype(np.float64)
    present = ~np.isnan(numbers)
    clusters = None if entities is None else EntityRows(entities, present)
    return Sample("number", len(numbers), np.sort(numbers[present]), Counter(), clusters)


def read_categories(column: np.ndarray, *, entities: np.ndarray | None = None) -> Sample:
    """Take a column of codes or strings, with None or NaN for missing."""
    present = np.array([not is_missing(value) for value in listed(column)], np.bool_)
    clusters = None if entities is None else EntityRows(entities, present)
    return Sample("category", len(column), np.empty(0), Counter(present_values(column)), clusters)
