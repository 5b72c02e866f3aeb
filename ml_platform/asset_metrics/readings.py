"""Everything that is told of the asset side, by the store that knows it."""

from collections.abc import Callable
from functools import partial

import dagster as dg

from ml_platform.asset_metrics import champions, event_log, lake, performance, runs
from ml_platform.asset_metrics.collector import Reading
from ml_platform.asset_metrics.declared import Declared
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake

EVENT_LOG, LAKE, MODEL_REGISTRY = "event_log", "lake", "model_registry"


def asset_readings(
    declared: Declared, settings: Settings, instance: Callable[[], dg.DagsterInstance]
) -> list[Reading]:
    """What is read at a scrape. The instance is asked for when it is needed: its database may not answer yet."""
    return [
        Reading((EVENT_LOG,), partial(event_log.made, declared, instance)),
        Reading((EVENT_LOG,), partial(event_log.checks, declared, instance)),
        Reading((EVENT_LOG,), partial(runs.runs, declared, instance)),
        Reading((LAKE,), partial(lake.freshness, declared, settings)),
        Reading((LAKE,), partial(lake.drift, declared, settings)),
        Reading((LAKE,), partial(lake.notifications, declared, settings)),
        Reading((LAKE,), partial(performance.performance, declared, settings)),
        Reading((MODEL_REGISTRY,), partial(champions.champions, declared, settings)),
        Reading((LAKE, EVENT_LOG), partial(event_log.refused, declared, instance, Lake(settings.lake_uri))),
        Reading((MODEL_REGISTRY, LAKE), partial(champions.releases, declared, settings)),
    ]
