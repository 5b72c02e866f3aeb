"""What can be declared about batch predictions."""

from collections.abc import Mapping

from pydantic import Field

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.spec import Name, NamedSpec, refers_to
from ml_platform.lake.expectation_checks import check_expectations
from ml_platform.models.spec import ModelSpec
from ml_platform.releases.spec import ReleaseSpec
from ml_platform.sources.spec import EVENT_TIME


class BatchPredictionsSpec(NamedSpec):
    """A day's events, each scored by the champion with the features that could be read at its time."""

    release: Name = Field(description="Whose champion scores.", json_schema_extra=refers_to("Release"))
    expectations: tuple[Expectation, ...] = Field(
        default=(), description="What the rows of a day must fulfil to be published."
    )

    @property
    def key(self) -> str:
        return f"predictions/{self.name}"

    def model_spec(self, catalog: Catalog) -> ModelSpec:
        return catalog.get(ReleaseSpec, self.release, wanted_by=self._where).model_spec(catalog)

    def service(self, catalog: Catalog) -> FeatureServiceSpec:
        """The features that the model reads, and the source whose events are scored."""
        return self.model_spec(catalog).training_set_spec(catalog).service(catalog)

    def row_types(self, catalog: Catalog) -> dict[str, str]:
        """Type by column: event and keys, its time, what was answered by whom, and what each view was read at."""
        service = self.service(catalog)
        source, views = service.source_spec(catalog), service.view_specs(catalog)
        ids = dict.fromkeys([source.event_id, *(key for view in views for key in view.entity_keys)])
        types: dict[str, str] = {name: source.columns[name].type for name in ids}
        types |= {EVENT_TIME: "timestamp", **ANSWERED}
        for view in views:
            types |= {time_of(view.name): "timestamp", state_of(view.name): "string"}
        return types

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The asset: a day's events, the snapshots that they could see, and whoever is champion when it is made."""
        service, types = self.service(catalog), self.row_types(catalog)
        check_expectations(self.expectations, columns=types, owner=f"{self._where}: ")
        if any(found.references for found in self.expectations):
            raise DeclarationError(
                f"{self._where}: expectations on scores refer to nothing; declare `references` at source "
                f"{service.source!r}, where the events come from"
            )
        release = catalog.get(ReleaseSpec, self.release, wanted_by=self._where)
        return (
            Node(
                self.key,
                first_day=service.warm_from(catalog),
                last_day=service.source_spec(catalog).end,
                upstream=(*service.upstream(catalog), Upstream(release.key, awaited=False)),
                blocking_checks=(Check("quality", self.digest_of_fields("expectations")),),
            ),
        )

    @property
    def _where(self) -> str:
        return f"BatchPredictions {self.name!r}"


ANSWERED: Mapping[str, str] = {
    "outcome": "string",
    "score": "double",
    "alert": "boolean",
    "version": "int64",
    "run_id": "string",
}
"""What is known of every answer, whatever the model reads."""


def time_of(view: str) -> str:
    """The column that has the time of a view's row."""
    return f"{view}_timestamp"


def state_of(view: str) -> str:
    """The column that says how a view's row stood to its ttl: fresh, stale or missing."""
    return f"{view}_state"
