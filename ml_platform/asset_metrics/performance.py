"""How good each version was on the newest day whose labels are mature, beside its own evaluation."""

from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlglot import exp

from ml_platform.asset_metrics.declared import Declared
from ml_platform.feedback.spec import FeedbackSpec
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import newest_partitions
from ml_platform.lake.tables import Lake

_OF_VERSION = ["feedback", "model", "version", "role", "metric", "days"]


def performance(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """Every metric of every version that the newest measured day has outcomes of."""
    value = GaugeMetricFamily(
        "ml_platform_model_performance",
        "A metric of the version on the newest day with mature labels, or on so many days up to it.",
        labels=_OF_VERSION,
    )
    evaluation = GaugeMetricFamily(
        "ml_platform_model_performance_at_evaluation",
        "The same metric in the version's own evaluation, before it was released.",
        labels=_OF_VERSION,
    )
    time = GaugeMetricFamily(
        "ml_platform_model_performance_partition_timestamp_seconds",
        "The midnight that ends the newest day that was measured, in seconds since 1970.",
        labels=["feedback", "model"],
    )
    lake, specs = Lake(settings.lake_uri), declared.catalog.all(FeedbackSpec)
    newest = newest_partitions(lake, [spec.performance_key for spec in specs])
    for spec in specs:
        partition = newest.get(spec.performance_key)
        if partition is None:
            continue
        time.add_metric([spec.name, spec.model], complete_at(partition).timestamp())
        for row in _rows(lake, spec.performance_key, partition):
            of = [spec.name, spec.model, *(str(row[name]) for name in _OF_VERSION[2:])]
            for family, column in ((value, "value"), (evaluation, "evaluation")):
                if row[column] is not None:
                    family.add_metric(of, row[column])
    yield from (value, evaluation, time)


def _rows(lake: Lake, key: str, partition: str) -> list[dict[str, Any]]:
    date = exp.cast(exp.Literal.string(partition), "date")
    return lake.table(key).answer(exp.select("*").where(exp.column(PARTITION_COLUMN).eq(date)))
