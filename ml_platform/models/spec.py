"""What can be declared about a model."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.import_paths import ImportPath
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.spec import Name, NamedSpec, Spec, refers_to
from ml_platform.lake.predicates import check_predicate
from ml_platform.training_sets.spec import Task, TrainingSetSpec

CLASSIFICATION = ("auc_roc", "average_precision", "precision", "recall")
"""What every model of classes 0 and 1 is measured by."""

REGRESSION = ("mae", "rmse", "mape", "wape", "r2")
"""What every model of numbers is measured by."""

LOWER_IS_BETTER = frozenset({"mae", "rmse", "mape", "wape"})
"""Metrics that are errors."""


class Preprocessing(Spec):
    """One transformer before the estimator."""

    estimator: ImportPath = Field(description="Import path of a scikit-learn transformer class.")
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="Its parameters.")


class EntityPrecision(Spec):
    """Of the k entities that score highest on a day, how many have a positive: what k inspections a day find."""

    entity: Name = Field(
        description="What one of the service's views is about: an entity, such as `account`, or a combination, such as "
        "`shop_product`."
    )
    k: int = Field(ge=1, description="How many entities are inspected each day.")

    @property
    def metric(self) -> str:
        """Its name among the metrics, such as `account_precision_at_100`."""
        return f"{self.entity}_precision_at_{self.k}"


class Slice(Spec):
    """A part of the rows that is measured on its own, because an average over all rows would hide it."""

    name: Name = Field(description="Name of the slice, such as `night`.")
    where: str = Field(
        min_length=1,
        description="SQL predicate over the features of a row, such as `amount >= 200`; a row for which it is null "
        "is outside.",
    )


class ModelSpec(NamedSpec):
    """A scikit-learn-compatible estimator, trained on a training set, registered as ONNX."""

    training_set: Name = Field(
        description="What it is trained and tested on.", json_schema_extra=refers_to("TrainingSet")
    )
    drift_profiles: tuple[Name, ...] = Field(
        default=(),
        description="Profiles whose drift on any day of the set, or since, refuses the model.",
        json_schema_extra=refers_to("DriftProfile", shown=True),
    )
    estimator: ImportPath = Field(
        description="Import path of the estimator class, such as sklearn.ensemble.RandomForestClassifier.",
        examples=["sklearn.ensemble.HistGradientBoostingClassifier"],
    )
    parameters: Mapping[str, Any] = Field(default_factory=dict, description="The estimator's parameters.")
    preprocessing: tuple[Preprocessing, ...] = Field(
        default=(), description="Transformers before it, in order."
    )
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="Of a model of classes: score from which on a row is an alert."
    )
    entity_precision_at_k: tuple[EntityPrecision, ...] = Field(
        default=(),
        description="Precision of the k entities with the highest scores of each test day; an entity once found "
        "leaves the days after. Each adds the metric `<entity>_precision_at_<k>`.",
    )
    metric: Name = Field(
        default="average_precision",
        description="What versions are compared by. Of classes 0 and 1: auc_roc, average_precision, precision, recall, "
        "or the name of a declared precision at k. Of numbers: mae, rmse, mape, wape or r2.",
    )
    slices: tuple[Slice, ...] = Field(
        default=(),
        description="Parts of the test rows that are measured by the same metric, each on its own.",
    )
    parity_tolerance: float = Field(
        default=1e-4,
        gt=0,
        description="Largest allowed difference between ONNX and estimator, on any test row; of an answer beyond 1, "
        "as a share of it.",
    )
    missing: Literal["reject", "default", "serve_stale"] = Field(
        default="default", description="What serving does about a missing or too old feature."
    )
    retrain: str = Field(default="0 6 * * *", description="Cron, in UTC, of the daily retraining.")
    latency_budget_ms: float = Field(
        default=100,
        gt=0,
        description="Milliseconds in which 99 of 100 single rows must be scored; more refuses a release.",
    )

    @model_validator(mode="after")
    def _known_metric(self) -> Self:
        ranked = [found.metric for found in self.entity_precision_at_k]
        known = [*CLASSIFICATION, *ranked, *REGRESSION]
        if self.metric not in known:
            raise ValueError(f"metric must be one of {', '.join(known)}; got {self.metric!r}")
        of_classes = {"threshold", "entity_precision_at_k"} & self.model_fields_set
        if self.task == "regression" and of_classes:
            raise ValueError(
                f"{', '.join(sorted(of_classes))} must not be declared with metric {self.metric!r}: numbers have no "
                f"alerts; compare by one of {', '.join([*CLASSIFICATION, *ranked])}, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _distinct_slices(self) -> Self:
        names = [found.name for found in self.slices]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"slices must have names of their own; got {twice} twice")
        return self

    @property
    def key(self) -> str:
        return f"models/{self.name}"

    @property
    def task(self) -> Task:
        """What the model answers, as its metric tells."""
        return "regression" if self.metric in REGRESSION else "classification"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric that versions are measured by."""
        if self.task == "regression":
            return REGRESSION
        return (*CLASSIFICATION, *(found.metric for found in self.entity_precision_at_k))

    @property
    def sign(self) -> int:
        """1 where more of the metric is better, -1 where less is: how much better one value is than another is
        `sign * (one - other)`."""
        return -1 if self.metric in LOWER_IS_BETTER else 1

    def training_set_spec(self, catalog: Catalog) -> TrainingSetSpec:
        return catalog.get(TrainingSetSpec, self.training_set, wanted_by=f"Model {self.name!r}")

    def profile_specs(self, catalog: Catalog) -> list[DriftProfileSpec]:
        wanted_by = f"Model {self.name!r}"
        return [catalog.get(DriftProfileSpec, name, wanted_by=wanted_by) for name in self.drift_profiles]

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The model's asset: gated by its training set, and by drift from the oldest train day until now."""
        rows = self.training_set_spec(catalog)
        if rows.task(catalog) != self.task:
            raise DeclarationError(
                f"Model {self.name!r}: a metric of {rows.task(catalog)} is required ("
                f"{', '.join(REGRESSION if self.task == 'classification' else CLASSIFICATION)}), as the labels of "
                f"{rows.key} are {rows.label_kind(catalog)}; got {self.metric!r}"
            )
        profiles = self.profile_specs(catalog)
        reach = rows.reach_days(catalog)
        for wanted in self.entity_precision_at_k:
            rows.entity_keys(wanted.entity, catalog, wanted_by=f"Model {self.name!r}: entity_precision_at_k")
        features = rows.service(catalog).feature_names(catalog)
        for i, part in enumerate(self.slices):
            check_predicate(part.where, columns=features, owner=f"Model {self.name!r}: slices.{i}.where")
        node = rows.nodes(catalog)[0]
        return (
            Node(
                self.key,
                first_day=node.first_day,
                last_day=node.last_day,
                upstream=(Upstream(rows.key), *(Upstream(p.key, first=-reach) for p in profiles)),
                blocking_checks=(Check("onnx_parity", self.digest_of_fields("parity_tolerance")),),
            ),
        )
