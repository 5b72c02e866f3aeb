"""Measures forecasts of numbers against what came.

`mae` is the mean of |label - score|, `rmse` the root of the mean of its square. `mape` is the mean of
|label - score| / |label| over the rows whose label is not 0, where it has no value (Hyndman and Koehler 2006, Another
look at measures of forecast accuracy, section 2.2); `wape` is the sum of all |label - score| over the sum of all
|label|, which counts those rows too (Kolassa and Schütz 2007, Advantages of the MAD/MEAN ratio over the MAPE). `r2` is
one minus the squared errors over the squared distances of labels to their mean: 1 for a perfect forecast, 0 for that
mean.

All come from sums over rows, so a draw of whole entities is measured by sums of their sums.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ml_platform.kernel.errors import InputError
from ml_platform.models.compute import Array

Sums = Mapping[str, Array]
"""Sums over rows by name, each one number or one for each draw."""


def errors(labels: Array, scores: Array) -> dict[str, float]:
    """Every error of scores (n,) against labels (n,), by name, and `rows`; one that has no value is left out.

    Raises InputError for labels and scores that cannot be judged.
    """
    parts = _of_rows(*_judged(labels, scores))
    found = {name: float(measure(_totals(parts))) for name, measure in MEASURES.items()}
    return {name: value for name, value in found.items() if not np.isnan(value)} | {
        "rows": float(len(labels))
    }


def error_of_draws(metric: str, labels: Array, scores: Array, units: Array) -> Callable[[Array], Array]:
    """An error as a function of how often each unit (units, draws) was drawn; `units` has the unit of each row."""
    parts = {
        name: np.bincount(units, weights=values)
        for name, values in _of_rows(*_judged(labels, scores)).items()
    }
    return lambda weights: MEASURES[metric]({name: sums @ weights for name, sums in parts.items()})


def _judged(labels: Array, scores: Array) -> tuple[Array, Array]:
    if labels.shape != scores.shape or not len(labels) or not np.isfinite([labels, scores]).all():
        raise InputError(
            f"Evaluation needs rows with a finite score and a finite label each; labels {labels.shape}, scores "
            f"{scores.shape} came. Nothing was evaluated. Score the labelled rows."
        )
    return labels.astype(np.float64), scores.astype(np.float64)


def _of_rows(labels: Array, scores: Array) -> dict[str, Array]:
    """What each row adds to each sum."""
    off = np.abs(labels - scores)
    is_some = labels != 0
    return {
        "rows": np.ones(len(labels)),
        "off": off,
        "squared": off**2,
        "share": np.divide(off, np.abs(labels), out=np.zeros(len(labels)), where=is_some),
        "some": is_some.astype(np.float64),
        "size": np.abs(labels),
        # around the mean of all rows, as the squares of large labels would leave nothing of their differences
        "label": labels - labels.mean(),
        "label_squared": (labels - labels.mean()) ** 2,
    }


def _totals(parts: Mapping[str, Array]) -> dict[str, Array]:
    return {name: np.asarray(values.sum()) for name, values in parts.items()}


def _ratio(part: Array, whole: Array) -> Array:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)


def _r2(sums: Sums) -> Array:
    spread = sums["label_squared"] - _ratio(sums["label"] ** 2, sums["rows"])
    # what rounding leaves of equal labels is no spread
    return 1 - _ratio(sums["squared"], np.where(spread > 1e-9 * sums["label_squared"], spread, 0))


MEASURES: Mapping[str, Callable[[Sums], Array]] = {
    "mae": lambda sums: _ratio(sums["off"], sums["rows"]),
    "rmse": lambda sums: np.sqrt(_ratio(sums["squared"], sums["rows"])),
    "mape": lambda sums: _ratio(sums["share"], sums["some"]),
    "wape": lambda sums: _ratio(sums["off"], sums["size"]),
    "r2": _r2,
}
