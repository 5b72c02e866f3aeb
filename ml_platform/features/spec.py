"""What can be declared about features: views of windowed aggregates, on-demand features, services."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self, cast

from pydantic import Field, model_validator

from ml_platform.features.aggregation import Aggregate, Aggregation, Feature, FieldType, Ratio
from ml_platform.features.entities import AboutEntities
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation, Reference
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.partitions import ONE_DAY, Cadence
from ml_platform.kernel.spec import (
    COLUMN_OF,
    SHOWN,
    DurationField,
    Name,
    NamedSpec,
    Spec,
    SqlText,
    refers_to,
)
from ml_platform.lake.expectation_checks import check_expectations, references_of
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

DECIDES_NO_VALUE = frozenset({"description", "owners", "expectations", "compute"})
"""What a view declares beside its values: said otherwise, the values are the same."""

_OF_SINGLE_FEATURES = frozenset({"aggregations", "ratios"})


class FeatureViewSpec(AboutEntities):
    """Features of an entity, or of a combination of several: the rows offline, and what Feast serves online."""

    source: Name = Field(
        description="Source of the events that are aggregated.", json_schema_extra=refers_to("Source")
    )
    labels: Name | None = Field(
        default=None,
        description="Label source, joined to the events by event id, as known at the row's time. A label's event "
        "time is its event's; when it was known is its created time.",
        json_schema_extra=refers_to("Source", labels=True),
    )
    accuracy: Literal["snapshot", "event"] = Field(
        default="snapshot",
        description="`snapshot`: one row per entity and day, or hour of an hourly source, as of its end. "
        "`event`: one row per event, exact to its time, for offline use.",
    )
    aggregations: tuple[Aggregation, ...] = Field(
        default=(),
        description="What is aggregated.",
        examples=[[{"column": "event_id", "function": "count", "windows": ["1d", "7d"]}]],
        json_schema_extra={COLUMN_OF: "source", SHOWN: True},
    )
    ratios: tuple[Ratio, ...] = Field(default=(), description="Aggregates divided by each other.")
    sql: SqlText | None = Field(
        default=None,
        description="Instead of aggregations: a `.sql` file beside this one that computes one partition.",
    )
    columns: Mapping[Name, FieldType] = Field(
        default_factory=dict, description="With `sql`: the features that it returns, with their types."
    )
    look_back: DurationField | None = Field(
        default=None,
        description="With `sql`: how long before a partition's end the events that it reads begin.",
    )
    online: bool = Field(
        default=True,
        description="Publish the newest snapshot to the online store? Never with `accuracy: event`.",
    )
    available_after: DurationField = Field(
        default=Duration(3600),
        description="How long after its time a snapshot can be counted on online; 0s with `accuracy: event`.",
    )
    ttl: DurationField = Field(description="How old a value may be when it is read.", examples=["3d"])
    expectations: tuple[Expectation, ...] = Field(
        default=(), description="What rows must fulfil to be published."
    )

    @model_validator(mode="before")
    @classmethod
    def _events_are_offline(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        given = cast(dict[str, Any], data)
        by_event = given.get("accuracy") == "event"
        return {"online": False, "available_after": "0s", **given} if by_event else given

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        by_sql = (self.sql is not None, bool(self.columns), self.look_back is not None)
        if any(by_sql) != all(by_sql) or all(by_sql) == bool(self.aggregations):
            raise ValueError("either `aggregations`, or `sql` with `columns` and `look_back` are required")
        if self.accuracy == "event":
            if self.sql is not None:
                raise ValueError("a view by `sql` has snapshots: `accuracy: snapshot` is required")
            if self.online or self.available_after.seconds:
                raise ValueError("accuracy `event` is offline: `online: false` and `available_after: 0s`")
        elif self.online and self.ttl.seconds <= self.available_after.seconds:
            raise ValueError(
                f"`ttl` longer than `available_after` is required of a view that is online; got {self.ttl} and "
                f"{self.available_after}: no value could ever be read"
            )
        elif any(aggregation.include_current for aggregation in self.aggregations):
            raise ValueError("include_current is for accuracy `event`: no event happens at a snapshot's time")
        return self

    @property
    def key(self) -> str:
        return f"features/{self.name}"

    def row_key(self, catalog: Catalog) -> tuple[str, ...]:
        """Columns that tell the rows of a partition apart."""
        by_event = self.accuracy == "event"
        return (*self.entity_keys, self.sources(catalog)[0].event_id) if by_event else self.entity_keys

    @property
    def reach(self) -> Duration:
        """How long before a row's time the longest window with its delay begins."""
        return max(a.reach for a in self.aggregations) if self.look_back is None else self.look_back

    def cadence(self, catalog: Catalog) -> Cadence:
        """How often it has a partition: as often as its source."""
        return self.sources(catalog)[0].cadence

    def features(self, catalog: Catalog) -> list[Feature]:
        """All features of the view, in declared order."""
        if self.sql is not None:
            return [
                Feature(name, kind, "computed by the view's SQL", ()) for name, kind in self.columns.items()
            ]
        aggregates = self.aggregates(catalog)
        by_name = {aggregate.name: aggregate for aggregate in aggregates}
        ratios = [ratio.feature(by_name, owner=self._where) for ratio in self.ratios]
        return [*(aggregate.feature() for aggregate in aggregates), *ratios]

    def definitions(self, catalog: Catalog) -> dict[str, str]:
        """By feature, a digest of all that is declared and decides its values: where it is equal, they are.

        Another feature of the view, other words or expectations change none.
        """
        common = self.model_dump(
            mode="json", by_alias=True, exclude={*DECIDES_NO_VALUE, *_OF_SINGLE_FEATURES}
        )
        own = {aggregate.name: [repr(aggregate)] for aggregate in self.aggregates(catalog)}
        own |= {ratio.named: own[ratio.numerator] + own[ratio.denominator] for ratio in self.ratios}
        return {f.name: digest_of([common, own.get(f.name, [])]) for f in self.features(catalog)}

    def aggregates(self, catalog: Catalog) -> list[Aggregate]:
        """All windowed aggregates of the view, in declared order; DeclarationError for a column that is not there."""
        source, labels = self.sources(catalog)
        found: list[Aggregate] = []
        for i, aggregation in enumerate(self.aggregations):
            found += aggregation.aggregates(source, labels, owner=f"{self._where}: aggregations.{i}")
        return found

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The offline asset, with the periods of events and labels that a partition reads."""
        self.check(catalog)
        source, labels = self.sources(catalog)
        by_event = self.accuracy == "event"
        first = (0 if by_event else 1) - self.reach.whole(source.cadence.period)
        keys = () if by_event or self.sql is not None else self.entity_keys
        upstream = [Upstream(source.key, first=first, whole=by_event, keys=keys)]
        if labels is not None:
            upstream.append(Upstream(labels.key, first=first, last=-self._label_delay(source, labels)))
        return (
            Node(
                self.key,
                first_day=source.start,
                last_day=source.end,
                upstream=tuple(upstream),
                references=self._references(catalog),
                blocking_checks=(Check("quality", self.digest_of_fields("expectations")),),
                partitions=source.partitions,
            ),
        )

    def check(self, catalog: Catalog) -> None:
        """Raise DeclarationError where this view contradicts the sources that it reads."""
        source, labels = self.sources(catalog)
        for key in self.entity_keys:
            if key not in source.columns:
                raise DeclarationError(
                    f"{self._where}: join key {key!r} is required among the columns of source {source.name!r}: "
                    f"{', '.join(source.columns)}; name it with `{self.keys_field}:`"
                )
        self.check_keys(catalog.all(FeatureViewSpec))
        for i, aggregation in enumerate(self.aggregations):
            aggregation.check(source, labels, owner=f"{self._where}: aggregations.{i}")
        self._check_names(catalog)

    def row_types(self, catalog: Catalog) -> dict[str, str]:
        """Type by column of the view's rows."""
        source, features = self.sources(catalog)[0], self.features(catalog)
        keys = {name: source.columns[name].type for name in self.row_key(catalog)}
        times = dict.fromkeys((EVENT_TIME, CREATED_TIME), "timestamp")
        return {**keys, **times, **{feature.name: feature.type for feature in features}}

    def _check_names(self, catalog: Catalog) -> None:
        """Raise DeclarationError for features of one name, and for expectations that rows cannot be judged by."""
        _require_distinct([feature.name for feature in self.features(catalog)], owner=self._where)
        check_expectations(self.expectations, columns=self.row_types(catalog), owner=f"{self._where}: ")
        for i, expectation in enumerate(self.expectations):
            if expectation.fresh_within is not None and self.accuracy == "snapshot":
                raise DeclarationError(
                    f"{self._where}: expectations.{i}: fresh_within is for events; declare it at source {self.source!r}"
                )

    def _references(self, catalog: Catalog) -> tuple[Upstream, ...]:
        """The sources and views that expectations reference."""

        mine = self.cadence(catalog)

        def find(reference: Reference, wanted_by: str) -> tuple[dict[str, str], dt.timedelta]:
            if reference.source is not None:
                source = catalog.get(SourceSpec, reference.source, wanted_by=wanted_by)
                return source.column_types(), source.completed_after(mine)
            view = catalog.get(FeatureViewSpec, str(reference.view), wanted_by=wanted_by)
            return view.row_types(catalog), max(view.cadence(catalog).period - mine.period, dt.timedelta(0))

        types, owner = self.row_types(catalog), f"{self._where}: "
        return references_of(self.expectations, key=self.key, types=types, find=find, owner=owner)

    def sources(self, catalog: Catalog) -> tuple[SourceSpec, SourceSpec | None]:
        """The source of the events, and of their labels if there is one."""
        source = catalog.get(SourceSpec, self.source, wanted_by=self._where)
        labels = catalog.get(SourceSpec, self.labels, wanted_by=self._where) if self.labels else None
        return source, labels

    def _label_delay(self, source: SourceSpec, labels: SourceSpec) -> int:
        """Whole periods before a partition's end after which no label is read."""
        delays = [a.delay.seconds for a in self.aggregations if a.stream(source, labels) == "labels"]
        return Duration(min(delays, default=labels.maturity.seconds)).timedelta() // source.cadence.period

    @property
    def _where(self) -> str:
        return f"FeatureView {self.name!r}"


class RequestField(Spec):
    """A value that comes with the request online, and from the event itself offline."""

    type: FieldType = Field(description="Type of the value.")
    sql: str | None = Field(
        default=None, description="SQL over the source's columns; default: the column of the same name."
    )


class OnDemandFeaturesSpec(NamedSpec):
    """Features that are computed when asked for, by one Python function, offline and online alike."""

    function: str = Field(
        description="Import path of the function: dict of columns in, dict of columns out.",
        examples=["package.module.function"],
    )
    views: tuple[Name, ...] = Field(
        default=(),
        description="Feature views whose features the function reads.",
        json_schema_extra=refers_to("FeatureView"),
    )
    request: Mapping[Name, RequestField] = Field(
        default_factory=dict, description="Values of the request that the function reads."
    )
    outputs: Mapping[Name, FieldType] = Field(
        min_length=1, description="Features that the function returns.", examples=[{"is_holiday": "double"}]
    )


class FeatureServiceSpec(NamedSpec):
    """The features that a model reads, in their order: the contract between training and serving."""

    source: Name = Field(description="Source whose events are scored.", json_schema_extra=refers_to("Source"))
    views: tuple[Name, ...] = Field(
        min_length=1,
        description="Feature views, all of whose features are read.",
        json_schema_extra=refers_to("FeatureView"),
    )
    on_demand: tuple[Name, ...] = Field(
        default=(),
        description="On-demand features that are added.",
        json_schema_extra=refers_to("OnDemandFeatures"),
    )
    request_features: tuple[Name, ...] = Field(
        default=(), description="Request values that are model features themselves."
    )

    def view_specs(self, catalog: Catalog) -> list[FeatureViewSpec]:
        return [catalog.get(FeatureViewSpec, name, wanted_by=self._where) for name in self.views]

    def on_demand_specs(self, catalog: Catalog) -> list[OnDemandFeaturesSpec]:
        return [catalog.get(OnDemandFeaturesSpec, name, wanted_by=self._where) for name in self.on_demand]

    def source_spec(self, catalog: Catalog) -> SourceSpec:
        return catalog.get(SourceSpec, self.source, wanted_by=self._where)

    def request_fields(self, catalog: Catalog) -> dict[str, RequestField]:
        """Every request value by name, of all on-demand features; one may be a join key as well."""
        fields: dict[str, RequestField] = {}
        for spec in self.on_demand_specs(catalog):
            fields |= spec.request
        keys = {key for view in self.view_specs(catalog) for key in view.entity_keys}
        if other := sorted(name for name in keys & fields.keys() if fields[name].sql not in (None, name)):
            raise DeclarationError(
                f"{self._where}: request values that are named as join keys must be these; {other} have SQL of "
                f"their own. Give them other names"
            )
        missing = sorted(set(self.request_features) - set(fields))
        if missing:
            raise DeclarationError(
                f"{self._where}: request_features must be request values of its on-demand features "
                f"({sorted(fields)}); got also {missing}"
            )
        return fields

    def feature_names(self, catalog: Catalog) -> list[str]:
        """The model's features in order: request values, view by view, then on demand."""
        names = list(self.request_features)
        names += [f.name for view in self.view_specs(catalog) for f in view.features(catalog)]
        names += [output for spec in self.on_demand_specs(catalog) for output in spec.outputs]
        _require_distinct(names, owner=self._where)
        return names

    def entity_of(self, catalog: Catalog) -> dict[str, tuple[str, ...]]:
        """The join keys of each feature of a view: all rows of one entity share its values."""
        views = self.view_specs(catalog)
        return {feature.name: view.entity_keys for view in views for feature in view.features(catalog)}

    def upstream(self, catalog: Catalog, *, first: int = 0, last: int = 0) -> tuple[Upstream, ...]:
        """What rows of the service's features for events of days `d + first … d + last` read.

        An event may read the snapshot that ended the day before, or, before it was available, the one before; of
        hourly snapshots those of its own day as well. Of a view that is exact to the event, it reads its own row.
        """
        views = [
            Upstream(view.key, first=first - most, last=last - least)
            for view in self.view_specs(catalog)
            for most, least in [self._days_before(view, catalog)]
        ]
        return (Upstream(self.source_spec(catalog).key, first=first, last=last), *views)

    def _days_before(self, view: FeatureViewSpec, catalog: Catalog) -> tuple[int, int]:
        """How many days before an event's the newest snapshot that it may read has its partition: at most, at least."""
        if view.accuracy == "event":
            return 0, 0
        period = view.cadence(catalog).period
        return -(-(period + view.available_after.timedelta()) // ONE_DAY), period // ONE_DAY

    def warm_from(self, catalog: Catalog) -> dt.date:
        """First day whose events read fully filled windows."""
        start = self.source_spec(catalog).start
        return max(
            start + (v.reach.whole_days + v.available_after.whole_days) * ONE_DAY
            for v in self.view_specs(catalog)
        )

    @property
    def _where(self) -> str:
        return f"FeatureService {self.name!r}"


def _require_distinct(names: Sequence[str], *, owner: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationError(
            f"{owner}: one name per feature is required; {twice} come twice; rename one with `named:`"
        )
