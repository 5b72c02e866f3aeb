"""What can be declared about what becomes of a model's predictions."""

from typing import Literal, Self

from pydantic import Field, model_validator

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.spec import DurationField, Name, NamedSpec, refers_to
from ml_platform.models.spec import ModelSpec
from ml_platform.sources.spec import SourceSpec
from ml_platform.training_sets.spec import TrainingSetSpec

Drift = Literal["prediction_drift", "training_drift", "concept_drift"]
CONSISTENCY = "online_offline_consistency"
PREDICTION_DRIFT: Drift = "prediction_drift"
TRAINING_DRIFT: Drift = "training_drift"
CONCEPT_DRIFT: Drift = "concept_drift"


class FeedbackSpec(NamedSpec):
    """The predictions of a model as the service logged them, and what they were worth once labels were known.

    Labels are those of the model's training set, and mature as they do. Nothing that is found here refuses a model:
    what is worse than it was calls for training, so it must not hold training up.
    """

    model: Name = Field(
        description="The model whose predictions are followed, in all its versions.",
        json_schema_extra=refers_to("Model"),
    )
    event_lag: DurationField = Field(
        default=Duration.days(1),
        description="How long after its event a prediction may be made; whole days. Predictions that come later find "
        "no label.",
    )
    window: DurationField = Field(
        default=Duration.days(7),
        description="How many matured days a version is judged on; whole days. One day has too few positives.",
    )
    margin: float = Field(
        default=0.05,
        ge=0,
        description="How much worse than in its own evaluation a version may be, in the model's metric, before it is "
        "told as concept drift.",
    )
    minimum_positives: int = Field(
        default=20,
        ge=1,
        description="A window with fewer positive labels, or fewer rows where they are numbers, is not judged.",
    )
    score_bound: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Largest KS distance of a day's scores to those of the days before.",
    )
    feature_bound: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Largest distance of a logged feature to the rows that the version was trained on: KS of "
        "numbers, total variation of categories.",
    )
    missing_bound: float = Field(
        default=0.05, gt=0, lt=1, description="Largest change of a logged feature's share of missing values."
    )
    p_value: float = Field(
        default=0.01, gt=0, lt=1, description="Significance that a distance needs, after Holm."
    )
    minimum_sample: int = Field(
        default=500, ge=1, description="A day with fewer predictions of a version is not judged."
    )
    reference_days: int = Field(
        default=28, ge=1, le=366, description="Days before a day whose scores it is compared with."
    )
    retrain: tuple[Drift, ...] = Field(
        default=(),
        description="Which kinds of drift ask for the newest training set and model; their gates decide as ever.",
    )

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        for name, value in (("event_lag", self.event_lag), ("window", self.window)):
            if value.seconds % 86_400:
                raise ValueError(f"{name} must be whole days, such as 7d; got {value}")
        if not self.window.seconds:
            raise ValueError("window must be one or more whole days, such as 7d; got none")
        return self

    @property
    def log_key(self) -> str:
        return f"feedback/{self.name}_prediction_log"

    @property
    def outcomes_key(self) -> str:
        return f"feedback/{self.name}_outcomes"

    @property
    def performance_key(self) -> str:
        return f"feedback/{self.name}_performance"

    def model_spec(self, catalog: Catalog) -> ModelSpec:
        return catalog.get(ModelSpec, self.model, wanted_by=f"Feedback {self.name!r}")

    def training_set_spec(self, catalog: Catalog) -> TrainingSetSpec:
        return self.model_spec(catalog).training_set_spec(catalog)

    def service(self, catalog: Catalog) -> FeatureServiceSpec:
        return self.training_set_spec(catalog).service(catalog)

    def label_source(self, catalog: Catalog) -> SourceSpec:
        return self.training_set_spec(catalog).label_source(catalog)

    def join_keys(self, catalog: Catalog) -> dict[str, str]:
        """Join key by entity, of what predictions are about."""
        return self.training_set_spec(catalog).join_keys(catalog)

    def entities(self, catalog: Catalog) -> dict[str, tuple[str, ...]]:
        """Join keys by what predictions are drawn by: an entity, or a combination of several."""
        return self.training_set_spec(catalog).entities(catalog)

    def declarations(self, catalog: Catalog) -> dict[str, str]:
        """By asset, a digest of what is declared of its rows; what only judges them is not in it."""
        model = self.model_spec(catalog)
        rows = model.training_set_spec(catalog)
        measured = model.digest_of_fields("threshold", "entity_precision_at_k")
        return {
            self.log_key: self.digest_of_fields("model"),
            self.outcomes_key: digest_of(
                [self.digest_of_fields("model", "event_lag"), rows.digest_of_fields("labels", "label")]
            ),
            self.performance_key: digest_of([self.digest_of_fields("model", "window"), measured]),
        }

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The log of a day; the outcomes of its predictions, once its labels are mature; a version's performance."""
        first = self.model_spec(catalog).nodes(catalog)[0].first_day
        last = self.service(catalog).source_spec(catalog).end
        labels = self.label_source(catalog)
        mature = labels.maturity.whole_days
        read = (
            Upstream(self.log_key),
            Upstream(labels.key, first=-self.event_lag.whole_days, latest_truth=True),
        )
        window = Upstream(self.outcomes_key, first=1 - self.window.whole_days)
        return (
            Node(
                self.log_key,
                first,
                last,
                references=self._snapshots(catalog),
                reporting_checks=self._log_checks(catalog),
            ),
            Node(self.outcomes_key, first, last, lag=mature, upstream=read),
            Node(
                self.performance_key,
                first,
                last,
                lag=mature,
                upstream=(window,),
                reporting_checks=(self._concept_drift(catalog),),
            ),
        )

    def _snapshots(self, catalog: Catalog) -> tuple[Upstream, ...]:
        """The feature snapshots that a day's predictions may have used; they decide no row of the log."""
        views = self.service(catalog).view_specs(catalog)
        periods = {view.key: view.cadence(catalog).period for view in views}
        return tuple(
            Upstream(view.key, first=-1 - view.ttl.whole_days, last=-(periods[view.key] // ONE_DAY))
            for view in views
        )

    def _log_checks(self, catalog: Catalog) -> tuple[Check, ...]:
        sample = ("p_value", "minimum_sample")
        return (
            Check(
                CONSISTENCY, digest_of([view.digest() for view in self.service(catalog).view_specs(catalog)])
            ),
            Check(PREDICTION_DRIFT, self.digest_of_fields("score_bound", "reference_days", *sample)),
            Check(TRAINING_DRIFT, self.digest_of_fields("feature_bound", "missing_bound", *sample)),
        )

    def _concept_drift(self, catalog: Catalog) -> Check:
        mine = self.digest_of_fields("margin", "minimum_positives", "window")
        return Check(CONCEPT_DRIFT, digest_of([mine, self.model_spec(catalog).digest_of_fields("metric")]))
