"""How sure a measure is: the same labelled rows drawn again, a thousand times, in units that are independent.

Rows are not: those of one entity share its features, and often its labels. So whole entities are drawn
with replacement, with all their rows (Davison and Hinkley 1997, Bootstrap Methods and their Application, section 3.8;
Field and Welsh 2007, Bootstrapping clustered data). A row belongs to several entities at once; each kind is drawn in
turn, and the one that gives the widest interval counts. A precision of entities is drawn by its own entity. Two
versions are measured on the same draws, which takes out what is hard about the rows for both (paired).

A draw is a weight for each unit. Ranking measures need sums of weights between the scores of positives: a product of
a sparse matrix, made once, with all draws, where measuring every draw anew would sort all rows a thousand times.
"""
# scipy has no types.
# pyright: standard

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ml_platform.kernel.digest import digest_of
from ml_platform.models.compute import Array
from ml_platform.models.errors import error_of_draws
from ml_platform.models.spec import REGRESSION, EntityPrecision, ModelSpec
from ml_platform.training_sets.store import Arrays

DRAWS = 1_000
"""As many as an interval needs (Efron and Tibshirani 1993, An Introduction to the Bootstrap, section 19.3)."""

_ELEMENTS = 4_000_000
"""Weights of so many units and draws are held at once."""

Statistic = Callable[[Array], Array]
"""A measure of weighted rows: weights of units (units, draws) to values (draws,), NaN where it has none."""


@dataclass(frozen=True)
class Interval:
    """The middle 95 percent of the draws (Efron and Tibshirani 1993, chapter 13), and by which entity they were."""

    low: float
    high: float
    by: str

    @property
    def width(self) -> float:
        return self.high - self.low


@dataclass(frozen=True)
class Difference:
    """How much better one version is than another on the same rows; `worse` is the share of draws past the margin."""

    interval: Interval
    worse: float


def seed_of(*content: object) -> int:
    """A seed that is the same for the same content, on whatever day and machine."""
    return int(digest_of(list(content)), 16)


def intervals(
    spec: ModelSpec, metrics: Sequence[str], rows: Arrays, scores: Array, *, seed: int
) -> dict[str, Interval]:
    """The interval of each metric of a model on labelled rows with their scores (n,)."""
    found: dict[str, list[Interval]] = {metric: [] for metric in metrics}
    for entity in rows.entities:
        mine = [metric for metric in metrics if entity in _drawn_by(spec, metric, rows)]
        for metric, values in zip(
            mine, _resampled(spec, mine, rows, [scores], entity, seed=seed), strict=True
        ):
            found[metric] += _interval(values[0], by=entity)
    return {metric: max(each, key=lambda one: one.width) for metric, each in found.items() if each}


def difference(
    spec: ModelSpec, rows: Arrays, candidate: Array, champion: Array, *, margin: float, seed: int
) -> Difference | None:
    """How much better the declared metric of one version's scores (n,) is than another's, on draws of the rows.

    None when no draw has a value for both, as without any positive row.
    """
    found: list[Difference] = []
    for entity in _drawn_by(spec, spec.metric, rows):
        ((mine, theirs),) = _resampled(spec, [spec.metric], rows, [candidate, champion], entity, seed=seed)
        better = spec.sign * (mine - theirs)
        better = better[~np.isnan(better)]
        worse = float(np.mean(better < -margin)) if len(better) else 1.0
        found += [Difference(interval, worse) for interval in _interval(better, by=entity)]
    return max(found, key=lambda one: one.interval.width, default=None)


def statistic(spec: ModelSpec, metric: str, rows: Arrays, scores: Array, units: Array) -> Statistic:
    """A metric as a function of how often each unit (n, numbered from 0 without a gap) was drawn."""
    scores = scores.astype(np.float64)
    if metric in REGRESSION:
        return error_of_draws(metric, rows.labels, scores, units)
    if metric in _OF_RANKS:
        return _OF_RANKS[metric](rows.labels, scores, units)
    if metric in _OF_ALERTS:
        return _OF_ALERTS[metric](rows.labels == 1, scores >= spec.threshold, units)
    return _entity_precision(_entity_precisions(spec)[metric], rows, scores, units)


def units_of(rows: Arrays, entity: str) -> Array:
    """Which unit each row is drawn with, in the order of the entities; rows without one are drawn alone."""
    numbers = rows.entities[entity].copy()
    alone = numbers < 0
    numbers[alone] = numbers.max(initial=-1) + 1 + np.arange(alone.sum())
    return np.unique(numbers, return_inverse=True)[1]


def _entity_precisions(spec: ModelSpec) -> dict[str, EntityPrecision]:
    return {wanted.metric: wanted for wanted in spec.entity_precision_at_k}


def _drawn_by(spec: ModelSpec, metric: str, rows: Arrays) -> list[str]:
    """The kinds of entities that a metric's rows are drawn by, in turn."""
    precision = _entity_precisions(spec).get(metric)
    return list(rows.entities) if precision is None else [precision.entity]


def _resampled(
    spec: ModelSpec, metrics: Sequence[str], rows: Arrays, scores: Sequence[Array], entity: str, *, seed: int
) -> list[Array]:
    """Of each metric, the values (versions, draws) of every version's scores on the same draws of one entity."""
    units = units_of(rows, entity)
    wanted = [[statistic(spec, metric, rows, found, units) for found in scores] for metric in metrics]
    parts: list[list[list[Array]]] = [[[] for _ in scores] for _ in metrics]
    for weights in _draws(int(units.max(initial=-1)) + 1, seed=seed_of(seed, entity)):
        for part, versions in zip(parts, wanted, strict=True):
            for values, measured in zip(part, versions, strict=True):
                values.append(measured(weights))
    return [np.array([np.concatenate(values) for values in part]) for part in parts]


def _draws(units: int, *, seed: int) -> Iterator[Array]:
    """How often each unit was drawn, (units, some draws) at a time: as many as there are, with replacement."""
    if units == 0:
        return
    random = np.random.default_rng(seed)
    at_once = max(1, _ELEMENTS // units)
    for start in range(0, DRAWS, at_once):
        draws = min(at_once, DRAWS - start)
        drawn = random.integers(units, size=(draws, units)) + units * np.arange(draws)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units)
        yield np.ascontiguousarray(counts.T, dtype=np.float64)


def _interval(values: Array, *, by: str) -> list[Interval]:
    values = values[~np.isnan(values)]
    if not len(values):
        return []
    low, high = np.quantile(values, [0.025, 0.975])
    return [Interval(float(low), float(high), by)]


def _ranking(labels: Array, scores: Array, units: Array) -> Callable[[Array], tuple[Array, Array, Array]]:
    """Sums of weights by place in the ranking: a function of weights (units, draws).

    Its answers are (places, draws), a place being a distinct score of positives, highest first: the weight of
    positives at the place, of all rows at it, and of all rows at it or above.
    """
    from scipy.sparse import coo_array

    tops, count = np.unique(scores[labels == 1]), int(units.max(initial=-1)) + 1
    above = len(tops) - np.searchsorted(tops, scores, side="right")
    equal = np.isin(scores, tops)
    places = 2 * above + equal  # 2j + 1 is the jth score itself, 2j what lies between it and the one before
    ones, positive = np.ones(len(units)), labels == 1
    shape = (2 * len(tops) + 1, count)
    of_all = coo_array((ones, (places, units)), shape=shape).tocsr()
    of_positives = coo_array(
        (ones[positive], (places[positive] // 2, units[positive])), shape=(len(tops), count)
    )
    of_positives = of_positives.tocsr()

    def sums(weights: Array) -> tuple[Array, Array, Array]:
        everything = of_all @ weights
        return of_positives @ weights, everything[1::2], np.cumsum(everything, axis=0)[1::2]

    return sums


def _average_precision(labels: Array, scores: Array, units: Array) -> Statistic:
    """Precision at each distinct score, weighted by the recall that it adds."""
    ranking = _ranking(labels, scores, units)

    def measured(weights: Array) -> Array:
        positives, _, above = ranking(weights)
        precision = np.cumsum(positives, axis=0) / np.maximum(
            above, 1
        )  # a place with a weight has at least 1 above
        return _ratio((positives * precision).sum(axis=0), positives.sum(axis=0))

    return measured


def _auc_roc(labels: Array, scores: Array, units: Array) -> Statistic:
    """The share of pairs of a positive and a negative that are in order, ties counting half."""
    ranking, count = _ranking(labels, scores, units), int(units.max(initial=-1)) + 1
    sizes = np.bincount(units, minlength=count)

    def measured(weights: Array) -> Array:
        positives, at, above = ranking(weights)
        total = positives.sum(axis=0)
        negatives = sizes @ weights - total
        below = negatives - (above - np.cumsum(positives, axis=0))
        return _ratio((positives * (below + (at - positives) / 2)).sum(axis=0), total * negatives)

    return measured


def _precision(positive: Array, alerts: Array, units: Array) -> Statistic:
    """The share of alerts that are positive; 0 where there are none."""
    of_alerts, hits = np.bincount(units, weights=alerts), np.bincount(units, weights=alerts & positive)
    return lambda weights: (hits @ weights) / np.maximum(of_alerts @ weights, 1)


def _recall(positive: Array, alerts: Array, units: Array) -> Statistic:
    """The share of positives that are alerts."""
    positives, hits = np.bincount(units, weights=positive), np.bincount(units, weights=alerts & positive)
    return lambda weights: _ratio(hits @ weights, positives @ weights)


def _entity_precision(wanted: EntityPrecision, rows: Arrays, scores: Array, units: Array) -> Statistic:
    """What k inspections a day find (see `evaluation`), where an entity that was drawn twice is two of equal rank."""
    known = rows.entities[wanted.entity] >= 0
    ranked: list[tuple[Array, Array]] = []
    days = np.unique(rows.days)
    for today in days:
        of_today = (rows.days == today) & known
        numbers, place = np.unique(units[of_today], return_inverse=True)
        highest, positive = np.full(len(numbers), -np.inf), np.zeros(len(numbers), bool)
        np.maximum.at(highest, place, scores[of_today])
        np.logical_or.at(positive, place, rows.labels[of_today] == 1)
        order = np.lexsort((numbers, -highest))
        ranked.append((numbers[order], positive[order]))

    def measured(weights: Array) -> Array:
        left, hits = weights.copy(), np.zeros(weights.shape[1])
        for numbers, positive in ranked:
            inspected = np.diff(np.minimum(np.cumsum(left[numbers], axis=0), wanted.k), axis=0, prepend=0)
            found = inspected[positive]
            left[numbers[positive]] -= found
            hits += found.sum(axis=0)
        return hits / wanted.k / len(days)

    return measured


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


_Measure = Callable[[Array, Array, Array], Statistic]
_OF_RANKS: dict[str, _Measure] = {"auc_roc": _auc_roc, "average_precision": _average_precision}
_OF_ALERTS: dict[str, _Measure] = {"precision": _precision, "recall": _recall}
