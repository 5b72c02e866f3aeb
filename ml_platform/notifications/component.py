"""Webhooks as sensors: a declaration becomes one that Dagster runs from the start."""

import datetime as dt
from collections.abc import Sequence
from fnmatch import fnmatchcase

import dagster as dg

from ml_platform.compiler import AssetPlan, SpecComponent
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.models.spec import ModelSpec
from ml_platform.notifications.events import Scope
from ml_platform.notifications.look import tell
from ml_platform.notifications.spec import WebhookSpec
from ml_platform.releases.spec import ReleaseSpec

INTERVAL_S = 30
"""How often Dagster looks, at most."""


class Webhook(SpecComponent):
    """An address that is told when a gate closes, a model is not updated, or a release changes."""

    spec_type = WebhookSpec
    spec: WebhookSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        return []

    def sensors(self, catalog: Catalog) -> Sequence[dg.SensorDefinition]:
        scope = scope_of(self.spec, catalog)

        def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
            here, now = context.resources.environment, dt.datetime.now(dt.UTC)
            cursor, words = tell(scope, context.instance, here, cursor=context.cursor, now=now)
            return dg.SensorResult(skip_reason=words, cursor=cursor)

        return [
            dg.SensorDefinition(
                name=f"notifications_{self.spec.name}",
                evaluation_fn=look,
                minimum_interval_seconds=INTERVAL_S,
                description=self.spec.description or f"Tells the webhook {self.spec.name}.",
                default_status=dg.DefaultSensorStatus.RUNNING,  # without an address it does nothing
                required_resource_keys={"environment"},
            )
        ]


def scope_of(spec: WebhookSpec, catalog: Catalog) -> Scope:
    """What a webhook is told of. DeclarationError for a pattern that no asset has."""
    models = catalog.all(ModelSpec)
    gated = {*(model.key for model in models), *(release.key for release in catalog.all(ReleaseSpec))}
    scope = Scope(spec, catalog.lineage, frozenset(gated), {model.key: model.retrain for model in models})
    for pattern in spec.assets:
        if pattern != "*" and not any(fnmatchcase(key, pattern) for key in catalog.lineage.nodes):
            raise DeclarationError(
                f"Webhook {spec.name!r}: assets must be keys of declared assets, or patterns such as models/* that "
                f"some have: {', '.join(sorted(catalog.lineage.nodes))}; got {pattern!r}"
            )
    return scope
