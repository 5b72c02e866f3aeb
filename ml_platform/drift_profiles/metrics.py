"""The `drift_metrics` table: the statistics of every drift evaluation, of profiles and of training sets' labels.

Apart from `store` because training sets write here too. A day that is evaluated again has the newest statistics;
what they were before is in the table's earlier versions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from sqlglot import exp

from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.tables import Lake

DRIFT_METRICS = "drift_metrics"
_ASSET = ("stage", "name")  # the two parts of an asset's key: each is a folder of the table


def write_metrics(lake: Lake, key: str, rows: Sequence[Mapping[str, Any]], *, days: Sequence[str]) -> None:
    """Replace the statistics of an asset's partitions; a partition that nothing was measured on has none.

    Each row has `partition_date` and what it knows of the columns of `SCHEMA`; the others are null.
    """
    stage, name = key.split("/")
    asset = dict(zip(_ASSET, (stage, name), strict=True))
    listed = ", ".join(f"'{day}'" for day in days)
    lake.table(DRIFT_METRICS).replace(
        pa.Table.from_pylist([{**asset, **row} for row in rows], schema=SCHEMA),
        predicate=f"stage = '{stage}' AND name = '{name}' AND {PARTITION_COLUMN} IN ({listed})",
        partition_by=(*_ASSET, PARTITION_COLUMN),
    )


def newest_metrics(lake: Lake) -> dict[str, list[dict[str, Any]]]:
    """The statistics of the last partition of each asset on which any were measured, by the asset's key."""
    table = lake.table(DRIFT_METRICS)
    opened = table.open()
    newest: dict[tuple[str, str], str] = {}
    for found in opened.partitions() if opened is not None else ():  # the log knows them: no file is read
        asset = (found["stage"], found["name"])
        newest[asset] = max(newest.get(asset, ""), str(found[PARTITION_COLUMN]))
    return {"/".join(asset): table.answer(_of(asset, partition)) for asset, partition in newest.items()}


def _of(asset: tuple[str, str], partition: str) -> exp.Select:
    date = exp.cast(exp.Literal.string(partition), "date")
    of_asset = [exp.column(name).eq(value) for name, value in zip(_ASSET, asset, strict=True)]
    return exp.select("*").where(*of_asset, exp.column(PARTITION_COLUMN).eq(date))


SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("name", pa.string()),
        (PARTITION_COLUMN, pa.date32()),
        ("day", pa.date32()),  # whose rows were judged: of labels, the newest matured day
        ("status", pa.string()),
        ("judged", pa.string()),  # the content that was judged
        ("reference", pa.string()),  # digest of the days that it was compared with, and their contents
        ("feature", pa.string()),
        ("kind", pa.string()),  # number, category, label
        ("statistic_name", pa.string()),  # ks, total_variation, rate_ratio
        ("statistic", pa.float64()),
        ("p_value", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("bound", pa.float64()),
        ("missing_share", pa.float64()),
        ("reference_missing_share", pa.float64()),
        ("missing_p_value", pa.float64()),
        ("missing_p_adjusted", pa.float64()),
        ("psi", pa.float64()),
        ("rate", pa.float64()),  # of labels
        ("reference_rate", pa.float64()),
        ("gated", pa.bool_()),
        ("breached", pa.bool_()),
        ("days_in_row", pa.int64()),
        ("reason", pa.string()),
    ]
)
