"""Whether features that were computed for a request are what their function makes of what was logged."""

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.features.store import SQL_TYPES, with_on_demand
from ml_platform.feedback.findings import FeatureConsistency
from ml_platform.feedback.store import LOG
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import PARTITION_COLUMN


def on_demand_consistency(
    connection: duckdb.DuckDBPyConnection, catalog: Catalog, service: FeatureServiceSpec, day: str
) -> list[FeatureConsistency]:
    """Features that were computed for the request: again, from the logged request and the logged values of views.

    Compared as float32, which is what a model sees.
    """
    names = service.feature_names(catalog)
    outputs = [name for spec in service.on_demand_specs(catalog) for name in spec.outputs]
    checked = [*service.request_features, *outputs]
    if not checked:
        return []
    counts = {name: [0, 0, 0.0, ""] for name in checked}
    query = _inputs_sql(catalog, service, day, checked)
    for batch in connection.sql(query).to_arrow_reader(50_000):
        again = with_on_demand(batch, service, catalog, names)
        for name in checked:
            _count(counts[name], batch, again.column(name), name)
    return [FeatureConsistency(name, "", *found) for name, found in counts.items()]


def _inputs_sql(catalog: Catalog, service: FeatureServiceSpec, day: str, checked: Sequence[str]) -> str:
    """SQL of what on-demand functions were given, and under other names of what came out."""
    from_request = {
        name: f"""CAST(request->>'{name}' AS {SQL_TYPES[given.type]}) AS "{name}\""""
        for name, given in service.request_fields(catalog).items()
    }
    from_views = [
        f"""CAST(features['{f.name}'] AS {SQL_TYPES[f.type]}) AS "{f.name}\""""
        for v in service.view_specs(catalog)
        for f in v.features(catalog)
    ]
    said = [f"""features['{name}'] AS "logged_{name}\"""" for name in checked]
    said += [f"""list_contains(map_keys(features), '{name}') AS "named_{name}\"""" for name in checked]
    columns = ", ".join(["prediction_id", *from_request.values(), *from_views, *said])
    return f"SELECT {columns} FROM {LOG} WHERE {PARTITION_COLUMN} = DATE '{day}' ORDER BY prediction_id"


def _count(found: list[Any], batch: pa.RecordBatch, again: pa.Array, name: str) -> None:
    logged = batch.column(f"logged_{name}").to_numpy(zero_copy_only=False).astype(np.float32)
    computed = again.to_numpy(zero_copy_only=False).astype(np.float32)
    named = batch.column(f"named_{name}").to_numpy(zero_copy_only=False)
    wrong = named & ~((logged == computed) | (np.isnan(logged) & np.isnan(computed)))
    found[0] += int(named.sum())
    found[1] += int(wrong.sum())
    if wrong.any():
        apart = np.abs(logged[wrong].astype(np.float64) - computed[wrong])
        found[2] = max(found[2], float(np.nan_to_num(apart).max()))
        found[3] = found[3] or batch.column("prediction_id")[int(np.flatnonzero(wrong)[0])].as_py()
