"""The declared entities, views and services as Feast objects, for `feast apply`, `feast plan` and `feast serve`."""

from feast import Entity, FeatureService, FeatureView, OnDemandFeatureView

from ml_platform import declarations
from ml_platform.features.feast_objects import feast_objects
from ml_platform.kernel.settings import settings
from ml_platform.lake.tables import Lake

_objects = feast_objects(declarations.load(), Lake(settings().lake_uri))
entities = [found for found in _objects if isinstance(found, Entity)]
feature_views = [found for found in _objects if isinstance(found, FeatureView)]
on_demand_views = [found for found in _objects if isinstance(found, OnDemandFeatureView)]
services = [found for found in _objects if isinstance(found, FeatureService)]
