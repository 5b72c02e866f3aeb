"""The online store as assets: the applied registry, and the newest audited snapshot of each view."""

from collections.abc import Sequence

from ml_platform.compiler import CRONS, AssetPlan, SpecComponent, Step
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates.outcomes import Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.online import store
from ml_platform.online.spec import OnlineStoreSpec


class OnlineStore(SpecComponent):
    """Feast's registry and online store, filled from published snapshots only."""

    spec_type = OnlineStoreSpec
    spec: OnlineStoreSpec

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        registry = AssetPlan(
            node=self.spec.nodes(catalog)[0],
            work=apply_registry,
            spec=self.spec,
            kinds=frozenset({"feast"}),
            code_version=self.spec.digest(),
        )
        return [registry, *(self._view_plan(view, catalog) for view in self.spec.view_specs(catalog))]

    def _view_plan(self, view: FeatureViewSpec, catalog: Catalog) -> AssetPlan:
        node = self.spec.view_node(view, catalog)
        return AssetPlan(
            node=node,
            work=lambda step: publish(view, step),
            spec=view,
            kinds=frozenset({"feast"}),
            cron=CRONS[node.partitions],
            description=f"The newest published snapshot of {view.name}, in Feast's online store.",
        )


def apply_registry(step: Step) -> list[Outcome]:
    """Apply all declared Feast objects to the shared registry; the only place that does."""
    counts = store.apply_registry(step.resources.environment, step.catalog)
    return [Outcome(partition=None, published=True, metadata=counts)]


def publish(view: FeatureViewSpec, step: Step) -> list[Outcome]:
    """Publish the newest published partition of the range, unless the online store has it or a newer one."""
    settings: Settings = step.resources.environment
    offline = published(Lake(settings.lake_uri), view.key)
    newest = max((key for key in step.partitions if key in offline), default=None)
    if newest is None:
        raise InputError(
            f"online/{view.name}: a published partition of {view.key} is required; {spans(step.partitions)} have "
            f"none, because they were never materialized or were refused. The online store was not changed; "
            f"materialize {view.key} for them first"
        )
    with store.publishing(settings, view.name):
        note = _bring_online(view, step, newest)
    step.log.info("online/%s: %s", view.name, note["online"])
    older = {"online": "not published: only the newest snapshot of a range is"}
    return [
        Outcome(partition=key, published=True, metadata=note if key == newest else older)
        for key in step.partitions
    ]


def _bring_online(view: FeatureViewSpec, step: Step, newest: str) -> dict[str, object]:
    """Publish a snapshot where the online store has an older one, another content, or lost what it had.

    Looks again at what is published once it has written: where nothing keeps others from publishing at the same time,
    who writes last has to have written the last content.
    """
    settings: Settings = step.resources.environment
    lake, wrote = Lake(settings.lake_uri), False
    while True:
        content = published(lake, view.key)[newest].content_hash
        online = store.newest_online(lake, view.name)
        if online is not None and online["partition"] > newest:
            return {"online": f"the online store has the newer {online['partition']}"}
        if online is not None and (online["partition"], online["content_hash"]) == (newest, content):
            found = store.read_back(settings, view, step.catalog, newest)
            if wrote or found.mismatches == 0:
                break
        if wrote:
            step.log.warning("online/%s: %s was published again meanwhile", view.name, newest)
        store.publish_snapshot(settings, view, newest, content_hash=content, run_id=step.run_id)
        wrote = True
    said = f"published {newest}" if wrote else f"the online store already has {newest}"
    return {"online": said, **_read_back(found)}


def _read_back(found: store.ReadBack) -> dict[str, int]:
    return {"read_back_keys": found.keys, "read_back_mismatches": found.mismatches}
