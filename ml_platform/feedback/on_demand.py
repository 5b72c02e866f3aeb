"""Whether features that were computed for a request are what their function makes of what was logged."""

from collections.abc import Sequence
from dataclasses import replace

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
    found = {name: FeatureConsistency(name, "", 0, 0, 0.0) for name in checked}
    query = _inputs_sql(catalog, service, day, checked)
    for batch in connection.sql(query).to_arrow_reader(50_000):
        again = with_on_demand(batch, service, catalog, names)
        for name in checked:
            found[name] = _counted(found[name], batch, again.column(name))
    return list(found.values())


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


def _counted(before: FeatureConsistency, batch: pa.RecordBatch, again: pa.Array) -> FeatureConsistency:
    """What was found of a feature before, and in a batch."""
    logged = batch.column(f"logged_{before.feature}").to_numpy(zero_copy_only=False).astype(np.float32)
    computed = again.to_numpy(zero_copy_only=False).astype(np.float32)
    named = batch.column(f"named_{before.feature}").to_numpy(zero_copy_only=False)
    wrong = named & ~((logged == computed) | (np.isnan(logged) & np.isnan(computed)))
    apart = np.nan_to_num(np.abs(logged[wrong].astype(np.float64) - computed[wrong]))
    first = batch.column("prediction_id")[int(np.argmax(wrong))].as_py() if wrong.any() else ""
    return replace(
        before,
        compared=before.compared + int(named.sum()),
        mismatches=before.mismatches + int(wrong.sum()),
        largest_difference=max(before.largest_difference, float(apart.max(initial=0))),
        missing=before.missing + int((named & np.isnan(logged)).sum()),
        example=before.example or first,
    )
