"""Keeps a day's rows as a whylogs profile: a small summary that merges, so a month is the merge of its days.

The only module that touches whylogs, which is no longer maintained: it does not know NumPy 2, and it reports
its use over the network unless told not to before it is imported. Profiles are for people to look at. The
gate judges raw values (`compute`), because sketches are approximate and use random bits: two profiles of the
same rows differ in their bytes, and by about 0.3 percent in the rank of their quantiles.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ml_platform.drift_profiles.distances import require_columns
from ml_platform.drift_profiles.missing import present_values
from ml_platform.kernel.errors import InputError

if TYPE_CHECKING:
    from whylogs.core.preprocessing import PreprocessedColumn
    from whylogs.core.view import ColumnProfileView, DatasetProfileView

SUMMARY_SCHEMA = pa.schema(
    [
        pa.field("feature", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),  # rows, with and without a value
        pa.field("missing", pa.int64(), nullable=False),
        pa.field("infinite", pa.int64(), nullable=False),  # counted in no other column but count
        *(
            pa.field(name, pa.float64())
            for name in ("mean", "stddev", "min", "q05", "q25", "q50", "q75", "q95", "max", "unique_estimate")
        ),
    ]
)


def profile_columns(columns: Mapping[str, np.ndarray], *, timestamp: datetime) -> bytes:
    """Profile one day's columns, each an array with one value per row, into a serialized whylogs view.

    Takes and raises what `profile_with_summary` does.
    """
    return profile_with_summary(columns, timestamp=timestamp)[0]


def profile_with_summary(columns: Mapping[str, np.ndarray], *, timestamp: datetime) -> tuple[bytes, pa.Table]:
    """Profile one day's columns into a serialized whylogs view, with what `summary` reads from it.

    To read a view takes as long as to make it, so who needs both asks for both.

    Floats have NaN for missing; integers and booleans have none; everything else is profiled as text, with
    None or NaN for missing. `timestamp` (with a time zone) is the day the rows belong to, and stands for the
    time of creation too. Raises InputError for no columns, different lengths, or a time without a zone.
    """
    require_columns(columns)
    if timestamp.tzinfo is None:
        raise InputError(
            f"A profile needs a time with a zone, got {timestamp}: it would be read as local time. "
            "Give it in UTC."
        )
    prepare_whylogs()
    from whylogs.core.view import DatasetProfileView

    views = {name: _column_view(values) for name, values in columns.items()}
    view = DatasetProfileView(columns=views, dataset_timestamp=timestamp, creation_timestamp=timestamp)
    return view.serialize(), _summary(view)


def merge(profiles: Sequence[bytes]) -> bytes:
    """Merge profiles of different rows into the profile of all of them; its time is the earliest of theirs.

    Counts, minimum and maximum are exactly those of all rows, mean and deviation are so up to rounding,
    quantiles and unique values are as good as in one profile. Raises InputError without a profile.
    """
    if not profiles:
        raise InputError(
            "A merge needs at least one profile, got none: there is no result. Give the days' profiles."
        )
    return reduce(lambda merged, view: merged.merge(view), map(_view, profiles)).serialize()


def summary(profile: bytes) -> pa.Table:
    """Read a profile as a table (`SUMMARY_SCHEMA`): one row per feature, in the order of their names.

    Text has counts and unique values only. A feature without any value has nulls.
    """
    return _summary(_view(profile))


def _summary(view: "DatasetProfileView") -> pa.Table:
    rows = [_summary_row(name, column) for name, column in sorted(view.get_columns().items())]
    return pa.Table.from_pylist(rows, schema=SUMMARY_SCHEMA)


def prepare_whylogs() -> None:
    """Make whylogs importable without a report over the network, and usable with NumPy 2.

    whylogs 1.6.4 asks for `numpy.unicode_`, which NumPy 2 removed, whenever it maps a type that is no number.
    """
    os.environ.setdefault("WHYLOGS_NO_ANALYTICS", "true")
    if not hasattr(np, "unicode_"):
        np.unicode_ = np.str_  # pyright: ignore[reportAttributeAccessIssue]


def _column_view(values: np.ndarray) -> "ColumnProfileView":
    # Filling the metrics here takes a tenth of the time of `whylogs.log`, which calls Python for every value.
    from whylogs.core.metrics import StandardMetric
    from whylogs.core.view import ColumnProfileView

    column = _preprocessed(values)
    kinds = [StandardMetric.counts, StandardMetric.types, StandardMetric.cardinality]
    if column.list.strings is None:
        kinds.append(StandardMetric.distribution)
    else:
        kinds.append(StandardMetric.frequent_items)
    if column.numpy.ints is not None:
        kinds.append(StandardMetric.ints)
    metrics = {kind.name: kind.value.zero() for kind in kinds}
    for metric in metrics.values():
        metric.columnar_update(column)
    return ColumnProfileView(metrics=metrics)


def _preprocessed(values: np.ndarray) -> "PreprocessedColumn":
    from whylogs.core.preprocessing import PreprocessedColumn

    column = PreprocessedColumn()
    column.len = len(values)
    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)].astype(np.float64)
        column.nan_count = column.null_count = int(np.isnan(values).sum())
        column.inf_count = len(values) - len(finite) - column.null_count
        column.numpy.floats = finite
    elif values.dtype.kind in "iub":
        column.numpy.ints = values.astype(np.int64)
    else:
        strings = [str(value) for value in present_values(values)]
        column.null_count = len(values) - len(strings)
        column.list.strings = strings
    return column


def _view(profile: bytes) -> "DatasetProfileView":
    prepare_whylogs()
    from google.protobuf.message import DecodeError
    from whylogs.core.errors import DeserializationError
    from whylogs.core.view import DatasetProfileView

    try:
        return DatasetProfileView.deserialize(profile)
    except (DeserializationError, DecodeError, OSError) as err:
        raise InputError(
            f"A whylogs profile was required, got {len(profile)} bytes that are none: nothing was read. "
            "Materialize the profile again."
        ) from err


def _summary_row(name: str, view: "ColumnProfileView") -> dict[str, str | int | float | None]:
    metrics: dict[str, Any] = {metric.namespace: metric for metric in view.get_metrics()}
    counts, numbers = metrics["counts"], metrics.get("distribution")
    row: dict[str, str | int | float | None] = {
        "feature": name,
        "count": counts.n.value,
        "missing": counts.null.value,
        "infinite": counts.inf.value,
        "unique_estimate": metrics["cardinality"].estimate,
    }
    if numbers is not None and numbers.n:
        quantiles = numbers.kll.value.get_quantiles([0.05, 0.25, 0.5, 0.75, 0.95])
        row |= dict(zip(("q05", "q25", "q50", "q75", "q95"), quantiles, strict=True))
        row |= {"mean": numbers.avg, "stddev": numbers.stddev, "min": numbers.min, "max": numbers.max}
    return row
