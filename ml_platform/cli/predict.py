"""One prediction in process: online features from Feast, on-demand features, the champion's ONNX model."""

import time
from typing import Any

import numpy as np
import pyarrow as pa

from ml_platform.features.store import (
    EventDays,
    entity_rows_sql,
    feature_store,
    quiet_feast,
    with_on_demand,
)
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.models.compute import onnx_session, predict_onnx
from ml_platform.models.spec import ModelSpec
from ml_platform.sources.spec import EVENT_TIME


def predict_event(settings: Settings, catalog: Catalog, model: ModelSpec) -> dict[str, Any]:
    """Score the newest published event with the champion, from what the online store holds."""
    service = model.training_set_spec(catalog).service(catalog)
    champion = registry.champion(settings, model.name)
    if champion is None:
        raise StoreError(f"a champion of model {model.name!r} is required; release one first")
    contract = registry.load_document(settings, champion, "contract.json")
    session = onnx_session(registry.load_onnx(settings, champion))
    event = _newest_event(settings, catalog, model)
    started = time.perf_counter()
    keys = {view["join_key"]: event[view["join_key"]] for view in contract["views"]}
    names = [f"{view['name']}:{name}" for view in contract["views"] for name in view["features"]]
    with quiet_feast():
        online = feature_store(settings).get_online_features(features=names, entity_rows=[keys]).to_dict()
    columns = {name: pa.array(values) for name, values in online.items()}
    columns |= {name: pa.array([event[name]]) for name in contract["request"]}
    batch = pa.RecordBatch.from_pydict(columns)
    row = with_on_demand(batch, service, catalog, contract["features"])
    features = np.array([[row.column(name)[0].as_py() for name in contract["features"]]], dtype=np.float32)
    score = float(predict_onnx(session, features)[0])
    return {
        "model": f"{model.name} version {champion.version}",
        "keys": keys,
        "request": {name: event[name] for name in contract["request"]},
        "features": {
            name: None if np.isnan(value) else round(float(value), 4)
            for name, value in zip(contract["features"], features[0], strict=True)
        },
        "score": round(score, 6),
        "alert": score >= contract["threshold"],
        "milliseconds": round((time.perf_counter() - started) * 1000, 1),
    }


def _newest_event(settings: Settings, catalog: Catalog, model: ModelSpec) -> dict[str, Any]:
    """The last event of the newest published day, with its keys and request values."""
    service = model.training_set_spec(catalog).service(catalog)
    lake = Lake(settings.lake_uri)
    newest = max(published(lake, service.source_spec(catalog).key))
    rows = entity_rows_sql(service, catalog, lake, EventDays(newest, newest))
    with connect(settings) as connection:
        found = connection.sql(f"SELECT * FROM ({rows}) ORDER BY {EVENT_TIME} DESC LIMIT 1").to_arrow_table()
    return found.to_pylist()[0]
