"""What the lake's tables and ledgers say: how old features are, how far they drifted, what nobody was told yet."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from ml_platform.asset_metrics.declared import Declared
from ml_platform.drift_profiles.metrics import newest_metrics
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.partitions import PARTITION_COLUMN, complete_at, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import newest_partitions
from ml_platform.lake.tables import Lake
from ml_platform.notifications.spec import WebhookSpec
from ml_platform.notifications.store import waiting
from ml_platform.online.store import ONLINE_PUBLICATIONS


def freshness(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """How old the newest snapshot of each view is, offline and online, now or by the clock of a replay."""
    labels = ["view", "store"]
    time = GaugeMetricFamily(
        "ml_platform_feature_snapshot_timestamp_seconds",
        "The time of the newest published snapshot of the view, in seconds since 1970; 0 when there is none.",
        labels=labels,
    )
    age = GaugeMetricFamily(
        "ml_platform_feature_snapshot_age_seconds",
        "How old the newest published snapshot of the view is; infinite when there is none.",
        labels=labels,
    )
    ttl = GaugeMetricFamily(
        "ml_platform_feature_ttl_seconds",
        "How old a value of the view may be when it is read.",
        labels=["view"],
    )
    lake, now = Lake(settings.lake_uri), settings.serving.at or dt.datetime.now(dt.UTC)
    views = declared.catalog.all(FeatureViewSpec)
    offline = newest_partitions(lake, [view.key for view in views])
    online = ONLINE_PUBLICATIONS.greatest_by(lake, "partition", by="view")
    for view in views:
        ttl.add_metric([view.name], view.ttl.seconds)
        stores = {"offline": offline.get(view.key)} | (
            {"online": online.get(view.name)} if view.online else {}
        )
        for store, partition in stores.items():
            at = complete_at(partition) if partition is not None else None
            time.add_metric([view.name, store], at.timestamp() if at is not None else 0)
            age.add_metric([view.name, store], (now - at).total_seconds() if at is not None else float("inf"))
    yield from (time, age, ttl)


def drift(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """How far each feature, and each label rate, was on the newest day on which it was measured."""
    families = {
        "statistic": GaugeMetricFamily(
            "ml_platform_asset_drift_statistic",
            "How far the feature was from its reference on the newest day that was measured, by the named statistic.",
            labels=["asset", "feature", "statistic"],
        ),
        "bound": GaugeMetricFamily(
            "ml_platform_asset_drift_bound",
            "How far the feature may be before it can fail the day; only of features that can.",
            labels=["asset", "feature", "statistic"],
        ),
        "breached": GaugeMetricFamily(
            "ml_platform_asset_drift_breached",
            "1 when the feature failed the newest day that was measured: far, significantly, and gated; else 0.",
            labels=["asset", "feature"],
        ),
    }
    time = GaugeMetricFamily(
        "ml_platform_asset_drift_partition_timestamp_seconds",
        "The midnight that ends the newest partition on which drift was measured, in seconds since 1970.",
        labels=["asset"],
    )
    for asset, rows in sorted(newest_metrics(Lake(settings.lake_uri)).items()):
        if asset not in declared.assets or not rows:
            continue
        time.add_metric([asset], complete_at(key_of(rows[0][PARTITION_COLUMN])).timestamp())
        for row in sorted(rows, key=lambda row: row["feature"]):
            _add_drift(families, asset, row)
    yield from (*families.values(), time)


def notifications(declared: Declared, settings: Settings) -> Iterator[Metric]:
    """How many messages wait to be taken by a webhook."""
    count = GaugeMetricFamily(
        "ml_platform_notifications_waiting",
        "Messages that the webhook has not taken; they are sent again at every look of its sensor.",
        labels=["webhook"],
    )
    found = waiting(Lake(settings.lake_uri))
    for webhook in declared.catalog.all(WebhookSpec):
        count.add_metric([webhook.name], found.get(webhook.name, 0))
    yield count


def _add_drift(families: Mapping[str, GaugeMetricFamily], asset: str, row: Mapping[str, Any]) -> None:
    feature = [asset, row["feature"]]
    families["breached"].add_metric(feature, float(bool(row["breached"])))
    measured = {"statistic": row["statistic"], "bound": row["bound"] if row["gated"] else None}
    for name, value in measured.items():
        if value is not None:
            families[name].add_metric([*feature, row["statistic_name"]], value)
