"""What can be declared about a training set."""

import datetime as dt
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.spec import COLUMN_OF, DurationField, Name, NamedSpec, refers_to
from ml_platform.sources.spec import SourceSpec

Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Split:
    """The days of one training set, each range with both ends included."""

    train: tuple[dt.date, dt.date]
    gap: tuple[dt.date, dt.date]
    test: tuple[dt.date, dt.date]


class TrainingSetSpec(NamedSpec):
    """Point-in-time rows with matured labels, split by time: the set one would have built that midnight."""

    feature_service: Name = Field(
        description="The model's features, and the source whose events are rows.",
        json_schema_extra=refers_to("FeatureService"),
    )
    labels: Name = Field(
        description="Label source; an event without a matured label is left out and counted.",
        json_schema_extra=refers_to("Source", labels=True),
    )
    label: Name = Field(
        description="Label column of the label source. Of type double or float it is a number to be forecast; of any "
        "other, class 0 or 1.",
        examples=["is_returned"],
        json_schema_extra={COLUMN_OF: "labels"},
    )
    train: DurationField = Field(default=Duration.days(28), description="How many days are trained on.")
    test: DurationField = Field(
        default=Duration.days(7), description="How many newest matured days are tested on."
    )
    exclude_known_positive_entities: Name | None = Field(
        default=None,
        description="Entity, such as `account`, or combination, such as `shop_product`, whose rows leave a test day "
        "that began after one of its events in the set's days was known to be positive; counted in the manifest.",
    )
    minimum_rows: int = Field(default=1000, ge=1, description="Fewest rows of each split.")
    minimum_positives: int = Field(
        default=10, ge=1, description="Fewest positive labels of each split, of classes."
    )
    label_rate_bound: float = Field(
        default=1.5,
        gt=1,
        description="Largest ratio of the newest matured day's label rate, or mean, to its reference's.",
    )
    reference_days: int = Field(
        default=28, ge=1, description="Accepted matured days that label drift compares with."
    )

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        for name, value in (("train", self.train), ("test", self.test)):
            if value.seconds == 0 or value.seconds % 86_400:
                raise ValueError(f"{name} must be one or more whole days, such as 28d; got {value}")
        return self

    @property
    def key(self) -> str:
        return f"training_sets/{self.name}"

    def service(self, catalog: Catalog) -> FeatureServiceSpec:
        return catalog.get(FeatureServiceSpec, self.feature_service, wanted_by=self._where)

    def label_source(self, catalog: Catalog) -> SourceSpec:
        source = catalog.get(SourceSpec, self.labels, wanted_by=self._where)
        if self.label not in source.columns:
            raise DeclarationError(
                f"{self._where}: label must be a column of {self.labels!r} ({', '.join(source.columns)}); "
                f"got {self.label!r}"
            )
        return source

    def task(self, catalog: Catalog) -> Task:
        """What labels are for: numbers are forecast, classes are told apart."""
        label = self.label_source(catalog).columns[self.label]
        return "regression" if label.type in ("double", "float") else "classification"

    def label_kind(self, catalog: Catalog) -> str:
        """What labels are, for people."""
        kind = self.label_source(catalog).columns[self.label].type
        return f"numbers ({kind})" if self.task(catalog) == "regression" else f"classes 0 and 1 ({kind})"

    def entities(self, catalog: Catalog) -> dict[str, tuple[str, ...]]:
        """Join keys by what the service's views are about: an entity, or a combination such as `shop_product`."""
        return {view.about: view.entity_keys for view in self.service(catalog).view_specs(catalog)}

    def join_keys(self, catalog: Catalog) -> dict[str, str]:
        """Join key by entity, of every single entity of the service's views."""
        views = self.service(catalog).view_specs(catalog)
        return {entity: key for view in views for entity, key in view.key_of.items()}

    def keys_carried(self, catalog: Catalog) -> list[str]:
        """Join keys that rows carry beside the event id, in the order of the views."""
        event_id = self.service(catalog).source_spec(catalog).event_id
        return [key for key in dict.fromkeys(self.join_keys(catalog).values()) if key != event_id]

    def entity_keys(self, entity: str, catalog: Catalog, *, wanted_by: str) -> tuple[str, ...]:
        """The join keys of what the service's views are about; DeclarationError when none is about it."""
        known = self.entities(catalog)
        if entity not in known:
            raise DeclarationError(
                f"{wanted_by}: an entity of the views of {self.feature_service!r} is required "
                f"({', '.join(sorted(known))}); got {entity!r}"
            )
        return known[entity]

    def excluded_keys(self, catalog: Catalog) -> tuple[str, ...]:
        """Join keys of the entity whose known positives leave the test days; none without that rule."""
        entity = self.exclude_known_positive_entities
        where = f"{self._where}: exclude_known_positive_entities"
        if entity is not None and self.task(catalog) == "regression":
            raise DeclarationError(
                f"{where}: labels that are classes 0 and 1 are required; {self.label!r} are "
                f"{self.label_kind(catalog)}, of which none is positive; leave it out"
            )
        return () if entity is None else self.entity_keys(entity, catalog, wanted_by=where)

    def maturity_days(self, catalog: Catalog) -> int:
        return self.label_source(catalog).maturity.whole_days

    def reach_days(self, catalog: Catalog) -> int:
        """Days from the oldest train day to the partition's day."""
        return 2 * self.maturity_days(catalog) + self.test.whole_days + self.train.whole_days - 1

    def split(self, day: dt.date, catalog: Catalog) -> Split:
        """Train, gap and test days of partition `day`: newest matured days are test, a maturity before is gap."""
        maturity = self.maturity_days(catalog)
        last = day - maturity * ONE_DAY
        test = (last - (self.test.whole_days - 1) * ONE_DAY, last)
        gap = (test[0] - maturity * ONE_DAY, test[0] - ONE_DAY)
        train = (gap[0] - self.train.whole_days * ONE_DAY, gap[0] - ONE_DAY)
        return Split(train, gap, test)

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The training set's asset, with exactly the days of events, labels and features that it reads."""
        service, labels = self.service(catalog), self.label_source(catalog)
        self.excluded_keys(catalog)
        first, last = -self.reach_days(catalog), -self.maturity_days(catalog)
        return (
            Node(
                self.key,
                first_day=service.warm_from(catalog) - first * ONE_DAY,
                last_day=service.source_spec(catalog).end,
                upstream=(
                    *service.upstream(catalog, first=first, last=last),
                    Upstream(labels.key, first, last),
                ),
                blocking_checks=(
                    Check("label_drift", self.digest_of_fields("label_rate_bound", "reference_days")),
                    Check("quality", self.digest_of_fields("minimum_rows", "minimum_positives")),
                ),
            ),
        )

    @property
    def _where(self) -> str:
        return f"TrainingSet {self.name!r}"
