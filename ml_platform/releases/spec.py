"""What can be declared about a release."""

from pydantic import Field

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.spec import Name, NamedSpec
from ml_platform.models.spec import ModelSpec


class ReleaseSpec(NamedSpec):
    """Which version of a model is the champion, and what a challenger must show to take its place."""

    model: Name = Field(description="The model whose newest version is promoted.")
    margin: float = Field(
        default=0.05, ge=0, le=1, description="How much worse, in the model's metric, a new version may be."
    )

    @property
    def key(self) -> str:
        return f"releases/{self.name}"

    def model_spec(self, catalog: Catalog) -> ModelSpec:
        return catalog.get(ModelSpec, self.model, wanted_by=f"Release {self.name!r}")

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The release's asset, which follows the newest partition of its model."""
        upstream = Upstream(self.model_spec(catalog).key, latest=True)
        check = Check("not_worse_than_champion", self.digest_of_fields("margin"))
        return (Node(self.key, upstream=(upstream,), blocking_checks=(check,)),)
