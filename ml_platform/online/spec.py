"""What can be declared about the online store."""

from pydantic import Field

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.lineage import Node, Upstream
from ml_platform.kernel.partitions import DAILY
from ml_platform.kernel.spec import Name, NamedSpec, refers_to


class OnlineStoreSpec(NamedSpec):
    """The Feast registry and the views that are published online."""

    views: tuple[Name, ...] | None = Field(
        default=None,
        description="Feature views to publish; default: every view declared `online: true`.",
        json_schema_extra=refers_to("FeatureView"),
    )

    @property
    def registry_key(self) -> str:
        return f"online/{self.name}"

    def view_specs(self, catalog: Catalog) -> list[FeatureViewSpec]:
        """The views that are published."""
        if self.views is None:
            return [view for view in catalog.all(FeatureViewSpec) if view.online]
        return [
            catalog.get(FeatureViewSpec, name, wanted_by=f"OnlineStore {self.name!r}") for name in self.views
        ]

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The asset that applies the registry, and one asset for each published view."""
        return (
            Node(self.registry_key),
            *(self.view_node(view, catalog) for view in self.view_specs(catalog)),
        )

    def view_node(self, view: FeatureViewSpec, catalog: Catalog) -> Node:
        source, _ = view.sources(catalog)
        awaited = source.cadence == DAILY  # hours do not wait for what is applied once a day
        return Node(
            f"online/{view.name}",
            first_day=source.start,
            last_day=source.end,
            upstream=(Upstream(view.key), Upstream(self.registry_key, awaited=awaited)),
            partitions=source.partitions,
        )
