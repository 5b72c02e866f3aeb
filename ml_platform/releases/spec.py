"""What can be declared about a release."""

from pydantic import Field

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.spec import Name, NamedSpec, refers_to
from ml_platform.models.spec import ModelSpec

NOT_WORSE, CALIBRATED, IN_TIME = "not_worse_than_champion", "calibrated", "within_latency_budget"


class ReleaseSpec(NamedSpec):
    """Which version of a model is the champion, and what a challenger must show to take its place."""

    model: Name = Field(
        description="The model whose newest version is promoted.", json_schema_extra=refers_to("Model")
    )
    margin: float = Field(
        default=0.05, ge=0, description="How much worse, in the model's metric, a new version may be."
    )
    slice_margin: float = Field(
        default=0.1, ge=0, description="How much worse it may be on any of the model's slices."
    )
    confidence: float = Field(
        default=0.95,
        ge=0.5,
        lt=1,
        description="How sure it must be that a new version is not worse by more than the margin: the share of "
        "bootstrap draws of the same test rows. 0.5 asks for little more than that the estimate is not.",
    )
    minimum_positives: int = Field(
        default=100,
        ge=1,
        description="With fewer positives, or rows where labels are numbers, an interval says nothing: all test rows "
        "are then judged by the estimate alone, and a slice is reported and not judged.",
    )
    calibration_bound: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Of a model of classes: largest expected calibration error; not judged without it.",
    )

    @property
    def key(self) -> str:
        return f"releases/{self.name}"

    def model_spec(self, catalog: Catalog) -> ModelSpec:
        return catalog.get(ModelSpec, self.model, wanted_by=f"Release {self.name!r}")

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The release's asset, which follows the newest partition of its model."""
        model = self.model_spec(catalog)
        if self.calibration_bound is not None and model.task == "regression":
            raise DeclarationError(
                f"Release {self.name!r}: calibration_bound is for models of classes; {model.key} forecasts numbers, "
                f"which are no probabilities; leave it out"
            )
        upstream = Upstream(model.key, latest=True)
        return (Node(self.key, upstream=(upstream,), blocking_checks=self._checks(catalog)),)

    def _checks(self, catalog: Catalog) -> tuple[Check, ...]:
        """Each class of checks with what is declared of it, here and on the model."""
        model = self.model_spec(catalog)
        rule = self.digest_of_fields("margin", "slice_margin", "confidence", "minimum_positives")
        checks = [
            Check(NOT_WORSE, digest_of([rule, model.digest_of_fields("metric", "slices")])),
            Check(IN_TIME, model.digest_of_fields("latency_budget_ms")),
        ]
        if self.calibration_bound is not None:
            checks.insert(1, Check(CALIBRATED, self.digest_of_fields("calibration_bound")))
        return tuple(checks)
