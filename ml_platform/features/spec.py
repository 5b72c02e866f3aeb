"""What can be declared about features: views of windowed aggregates, on-demand features, services."""

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.lineage import Node, Upstream
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.spec import DurationField, Name, NamedSpec, Spec
from ml_platform.sources.spec import SourceSpec

AggregateFunction = Literal["count", "sum", "mean"]
FieldType = Literal["int64", "double", "float", "string", "boolean"]


@dataclass(frozen=True)
class Feature:
    """One compiled feature column: what is aggregated, over which window, how late."""

    name: str
    column: str
    function: AggregateFunction
    window: Duration
    delay: Duration
    of_label: bool

    @property
    def type(self) -> FieldType:
        return "int64" if self.function == "count" else "double"


class Aggregation(Spec):
    """One aggregate of one column over several windows: a feature for each window."""

    column: Name = Field(description="Column of the source, or of its labels.")
    function: AggregateFunction = Field(description="How the events of a window become one value.")
    windows: tuple[DurationField, ...] = Field(
        min_length=1, description="Window lengths; a window W at time t covers [t - W, t)."
    )
    delay: DurationField = Field(
        default=Duration(0), description="Windows end this long before t: [t - delay - W, t - delay)."
    )
    named: Name | None = Field(
        default=None,
        description="Stem of the feature names; default: column_function. The window is appended.",
    )

    @model_validator(mode="after")
    def _whole_days(self) -> Self:
        for window in self.windows:
            if window.seconds == 0:
                raise ValueError(
                    f"a window must be longer than zero; got {window} for column {self.column!r}"
                )
        uneven = [str(d) for d in (*self.windows, self.delay) if d.seconds % 86_400]
        if uneven:
            raise ValueError(f"snapshot windows and delays are whole days, such as 7d; got {uneven}")
        return self

    def features(self, *, labels: frozenset[str]) -> Iterator[Feature]:
        """The features of this aggregation, in the order of the windows."""
        stem = self.named or f"{self.column}_{self.function}"
        for window in self.windows:
            yield Feature(
                f"{stem}_{window}", self.column, self.function, window, self.delay, self.column in labels
            )


class FeatureViewSpec(NamedSpec):
    """Features of one entity: the rows offline, and what Feast serves online."""

    entity: Name = Field(description="The entity that a row is about, such as `customer`.")
    join_key: Name | None = Field(default=None, description="Column of its key; default: <entity>_id.")
    source: Name = Field(description="Source of the events that are aggregated.")
    labels: Name | None = Field(
        default=None, description="Label source, joined to the events by event id, as known at the snapshot."
    )
    accuracy: Literal["snapshot"] = Field(
        default="snapshot",
        description="`snapshot`: one row per entity and day, as of the midnight that ends it.",
    )
    aggregations: tuple[Aggregation, ...] = Field(min_length=1, description="What is aggregated.")
    online: bool = Field(default=True, description="Publish the newest snapshot to the online store?")
    available_after: DurationField = Field(
        default=Duration(3600), description="How long after its time a snapshot can be counted on online."
    )
    ttl: DurationField = Field(description="How old a value may be when it is read.")
    expectations: tuple[Expectation, ...] = Field(
        default=(), description="What rows must fulfil to be published."
    )

    @property
    def key(self) -> str:
        return f"features/{self.name}"

    @property
    def entity_key(self) -> str:
        return self.join_key or f"{self.entity}_id"

    @property
    def look_back_days(self) -> int:
        """Days before the snapshot that the longest window and its delay reach."""
        return max(w.whole_days + a.delay.whole_days for a in self.aggregations for w in a.windows)

    def label_columns(self, catalog: Catalog) -> frozenset[str]:
        """Columns that come from the label source."""
        if self.labels is None:
            return frozenset()
        source, labels = self._sources(catalog)
        assert labels is not None
        return frozenset(labels.columns) - frozenset(source.columns)

    def features(self, catalog: Catalog) -> list[Feature]:
        """All features of the view, in declared order."""
        labels = self.label_columns(catalog)
        return [feature for a in self.aggregations for feature in a.features(labels=labels)]

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The offline asset and, if declared, the online one."""
        self.check(catalog)
        source, labels = self._sources(catalog)
        upstream = [Upstream(source.key, first=1 - self.look_back_days, keys=self.entity_key)]
        if labels is not None:
            delay = min(
                a.delay.whole_days for a in self.aggregations if a.column in self.label_columns(catalog)
            )
            upstream.append(Upstream(labels.key, first=1 - self.look_back_days, last=-delay))
        return (
            Node(
                self.key,
                first_day=source.start,
                last_day=source.end,
                upstream=tuple(upstream),
                blocking_checks=("quality",),
            ),
        )

    def check(self, catalog: Catalog) -> None:
        """Raise DeclarationError where this view contradicts the sources that it reads."""
        source, labels = self._sources(catalog)
        where = f"FeatureView {self.name!r}"
        known = set(source.columns) | self.label_columns(catalog)
        if self.entity_key not in source.columns:
            raise DeclarationError(
                f"{where}: join key {self.entity_key!r} is required among the columns of source {source.name!r}: "
                f"{', '.join(source.columns)}; name it with `join_key:`"
            )
        for i, aggregation in enumerate(self.aggregations):
            if aggregation.column not in known:
                raise DeclarationError(
                    f"{where}: aggregations.{i}.column {aggregation.column!r} is not among {sorted(known)}; "
                    f"take one of them, or declare it in the source"
                )
            late = labels is not None and aggregation.column in self.label_columns(catalog)
            if late and labels is not None and aggregation.delay < labels.maturity:
                raise DeclarationError(
                    f"{where}: aggregations.{i}.delay must be at least {labels.maturity}, the maturity of "
                    f"{labels.name!r}; got {aggregation.delay}. A shorter delay would count labels that are not final"
                )
        names = [feature.name for feature in self.features(catalog)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DeclarationError(
                f"{where}: one name per feature is required; {twice} come twice; use `named:`"
            )

    def _sources(self, catalog: Catalog) -> tuple[SourceSpec, SourceSpec | None]:
        wanted_by = f"FeatureView {self.name!r}"
        source = catalog.get(SourceSpec, self.source, wanted_by=wanted_by)
        labels = catalog.get(SourceSpec, self.labels, wanted_by=wanted_by) if self.labels else None
        return source, labels


class RequestField(Spec):
    """A value that comes with the request online, and from the event itself offline."""

    type: FieldType = Field(description="Type of the value.")
    sql: str | None = Field(
        default=None, description="SQL over the source's columns; default: the column of the same name."
    )


class OnDemandFeaturesSpec(NamedSpec):
    """Features that are computed when asked for, by one Python function, offline and online alike."""

    function: str = Field(description="Import path of the function: dict of columns in, dict of columns out.")
    views: tuple[Name, ...] = Field(
        default=(), description="Feature views whose features the function reads."
    )
    request: Mapping[Name, RequestField] = Field(
        default_factory=dict, description="Values of the request that the function reads."
    )
    outputs: Mapping[Name, FieldType] = Field(min_length=1, description="Features that the function returns.")


class FeatureServiceSpec(NamedSpec):
    """The features that a model reads, in their order: the contract between training and serving."""

    source: Name = Field(description="Source whose events are scored.")
    views: tuple[Name, ...] = Field(
        min_length=1, description="Feature views, all of whose features are read."
    )
    on_demand: tuple[Name, ...] = Field(default=(), description="On-demand features that are added.")
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
        """Every request value by name, of all on-demand features."""
        fields: dict[str, RequestField] = {}
        for spec in self.on_demand_specs(catalog):
            fields |= spec.request
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
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DeclarationError(
                f"{self._where}: one name per feature is required; {twice} come twice; rename one with `named:`"
            )
        return names

    def upstream(self, catalog: Catalog, *, first: int = 0, last: int = 0) -> tuple[Upstream, ...]:
        """What rows of the service's features for events of days `d + first … d + last` read.

        An event may read the snapshot that ended the day before, or, before it was available, the one before.
        """
        views = [
            Upstream(view.key, first=first - 1 - view.available_after.whole_days, last=last - 1)
            for view in self.view_specs(catalog)
        ]
        return (Upstream(self.source_spec(catalog).key, first=first, last=last), *views)

    def warm_from(self, catalog: Catalog) -> dt.date:
        """First day whose events read fully filled windows."""
        start = self.source_spec(catalog).start
        return max(
            start + (v.look_back_days + v.available_after.whole_days) * ONE_DAY
            for v in self.view_specs(catalog)
        )

    @property
    def _where(self) -> str:
        return f"FeatureService {self.name!r}"
