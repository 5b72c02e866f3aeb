"""One prediction in process, by what serves: online features from Feast, on-demand features, the champion's model."""

import time
from typing import Any

from ml_platform.features.store import EventDays, entity_rows_sql, quiet_feast
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import DAILY, complete_at
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.spec import ModelSpec
from ml_platform.serving.versions import Loaded, load
from ml_platform.sources.spec import EVENT_TIME


def predict_event(settings: Settings, catalog: Catalog, model: ModelSpec) -> dict[str, Any]:
    """Score the newest published event with the champion, from what the online store holds, as its day ended."""
    champion = registry.champion(settings, model.name)
    if champion is None:
        raise StoreError(f"a champion of model {model.name!r} is required; release one first")
    with quiet_feast():
        served = load(settings, champion)
    day, event = _newest_event(settings, catalog, model)
    started = time.perf_counter()
    online = served.features.read([event])
    answer = served.scorer.score([event], online, at=since_epoch(complete_at(day)))
    score, alert = answer.scores[0], answer.alerts[0]
    return {
        "model": f"{model.name} version {champion.version}",
        "keys": {name: event[name] for name in served.contract.keys},
        "request": {name: event[name] for name in served.contract.request},
        "features": _shown(served, answer.features[0]),
        "outcome": answer.outcomes[0],
        "score": None if score is None else round(score, 6),
        "alert": alert,
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
    }


def _shown(served: Loaded, features: Any) -> dict[str, float | None]:
    """Features by name as people read them; null where there is no value."""
    named = zip(served.contract.features, features.tolist(), strict=True)
    return {name: round(value, 4) if value == value else None for name, value in named}


def _newest_event(settings: Settings, catalog: Catalog, model: ModelSpec) -> tuple[str, dict[str, Any]]:
    """The newest published partition and its last event, with its keys and request values."""
    service = model.training_set_spec(catalog).service(catalog)
    lake = Lake(settings.lake_uri)
    newest = max(published(lake, service.source_spec(catalog).key))
    rows = entity_rows_sql(service, catalog, lake, EventDays(*DAILY.covering((newest, newest))))
    with connect(settings) as connection:
        found = connection.sql(f"SELECT * FROM ({rows}) ORDER BY {EVENT_TIME} DESC LIMIT 1").to_arrow_table()
    return newest, found.to_pylist()[0]
