"""The declared views as Feast objects, so that Feast's own commands and clients see what was declared."""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from feast import (
    Entity,
    FeatureService,
    FeatureView,
    Field,
    FileSource,
    OnDemandFeatureView,
    RequestSource,
    ValueType,
)
from feast.data_format import DeltaFormat
from feast.types import Bool, FeastType, Float32, Float64, Int64, String

from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.tables import Lake
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

FEAST_TYPES: Mapping[str, FeastType] = {
    "int64": Int64,
    "double": Float64,
    "float": Float32,
    "string": String,
    "boolean": Bool,
}
_KEY_TYPES = {"int64": ValueType.INT64, "int32": ValueType.INT32, "string": ValueType.STRING}


def feast_objects(catalog: Catalog, lake: Lake) -> list[Any]:
    """Every entity, feature view, on-demand view and feature service that is declared, in Feast's terms."""
    of_views = {spec.name: entities(spec, catalog) for spec in catalog.all(FeatureViewSpec)}
    views = {
        spec.name: feature_view(spec, catalog, lake, of_views[spec.name])
        for spec in catalog.all(FeatureViewSpec)
    }
    on_demand = {spec.name: on_demand_view(spec, views) for spec in catalog.all(OnDemandFeaturesSpec)}
    services = [feature_service(spec, views, on_demand) for spec in catalog.all(FeatureServiceSpec)]
    every = {entity.name: entity for found in of_views.values() for entity in found}
    return [*every.values(), *views.values(), *on_demand.values(), *services]


def entities(spec: FeatureViewSpec, catalog: Catalog) -> list[Entity]:
    """The entities of a view, with the types of their join keys from the source."""
    source = catalog.get(SourceSpec, spec.source, wanted_by=spec.key)
    return [
        Entity(name=name, join_keys=[key], value_type=_KEY_TYPES[source.columns[key].type])
        for name, key in spec.key_of.items()
    ]


def feature_view(spec: FeatureViewSpec, catalog: Catalog, lake: Lake, of: Sequence[Entity]) -> FeatureView:
    """One declared view, read from its lake table."""
    return FeatureView(
        name=spec.name,
        description=spec.description,
        entities=list(of),
        ttl=spec.ttl.timedelta(),
        schema=[Field(name=f.name, dtype=FEAST_TYPES[f.type]) for f in spec.features(catalog)],
        online=spec.online,
        source=FileSource(
            name=f"{spec.name}_snapshots",
            path=lake.table(spec.key).uri,
            file_format=DeltaFormat(),
            timestamp_field=EVENT_TIME,
            created_timestamp_column=CREATED_TIME,
        ),
        tags={"available_after": str(spec.available_after.seconds), "declaration": spec.digest()},
        owner=", ".join(spec.owners),
    )


class DeclaredOnDemandView(OnDemandFeatureView):
    """An on-demand view whose outputs have declared types.

    Feast infers them from what the function returns for made-up inputs, and fails where that is no value at all: for a
    category that does not exist there may be none.
    """

    def infer_features(self) -> None:
        """Require of the function, for made-up inputs, every declared output; DeclarationError for one it lacks."""
        given = self._construct_random_input(singleton=self.singleton)
        found = self.feature_transformation.udf(given)  # pyright: ignore[reportOptionalMemberAccess] - it has one
        if missing := [field.name for field in self.features if field.name not in found]:
            raise DeclarationError(
                f"OnDemandFeatures {self.name!r}: every declared output is required of its function; {missing} "
                f"did not come, but {sorted(found)}. Nothing was applied; return them, or declare what is returned"
            )


def on_demand_view(spec: OnDemandFeaturesSpec, views: Mapping[str, FeatureView]) -> OnDemandFeatureView:
    """Declared on-demand features with the very function that training and serving import."""
    sources: list[Any] = [views[name] for name in spec.views]
    if spec.request:
        fields = [Field(name=name, dtype=FEAST_TYPES[field.type]) for name, field in spec.request.items()]
        sources.append(RequestSource(name=f"{spec.name}_request", schema=fields))
    return DeclaredOnDemandView(
        name=spec.name,
        description=spec.description,
        sources=sources,
        schema=[Field(name=name, dtype=FEAST_TYPES[kind]) for name, kind in spec.outputs.items()],
        mode="python",
        udf=(function := on_demand_function(spec)),
        udf_string=inspect.getsource(function),
    )


def on_demand_function(spec: OnDemandFeaturesSpec) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The declared function, imported by its path; DeclarationError when there is none."""
    module, _, name = spec.function.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise DeclarationError(
            f"OnDemandFeatures {spec.name!r}: function must be an importable path such as package.module.function; "
            f"{spec.function!r} is not: {err}"
        ) from err
    return found


def feature_service(
    spec: FeatureServiceSpec, views: Mapping[str, FeatureView], on_demand: Mapping[str, OnDemandFeatureView]
) -> FeatureService:
    """One declared service over whole views."""
    chosen: list[Any] = [*(views[name] for name in spec.views), *(on_demand[name] for name in spec.on_demand)]
    return FeatureService(name=spec.name, features=chosen, description=spec.description)
