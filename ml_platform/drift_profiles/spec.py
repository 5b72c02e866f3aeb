"""What can be declared about the drift of a feature service's rows."""

import datetime as dt
from typing import Self

from pydantic import Field, model_validator

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.lineage import Check, Node
from ml_platform.kernel.spec import Name, NamedSpec, Spec, refers_to


class FixedReference(Spec):
    """A reference that stays: days that are known to be good, both ends included."""

    first: dt.date = Field(description="First day of the reference.")
    last: dt.date = Field(description="Last day of the reference; days after it are judged.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.first > self.last:
            raise ValueError(f"first must not come after last; got {self.first} and {self.last}")
        return self


_NOT_POLICY = frozenset({"name", "description", "owners", "feature_service"})
"""Fields that no verdict on given rows depends on."""


class DriftProfileSpec(NamedSpec):
    """One day's model-feature rows, profiled, and judged against the accepted days before."""

    feature_service: Name = Field(
        description="Whose features are profiled, for every event of a day.",
        json_schema_extra=refers_to("FeatureService"),
    )
    reference_days: int = Field(
        default=28, ge=1, le=366, description="Accepted days that a day is judged against."
    )
    ks_bound: float = Field(default=0.04, gt=0, lt=1, description="Largest allowed KS distance of a number.")
    total_variation_bound: float = Field(
        default=0.04, gt=0, lt=1, description="Largest allowed total variation distance of a category."
    )
    missing_bound: float = Field(
        default=0.03,
        gt=0,
        lt=1,
        description="Largest allowed change of a feature's share of missing values.",
    )
    p_value: float = Field(
        default=0.01, gt=0, lt=1, description="Significance that a breach needs, after Holm."
    )
    minimum_sample: int = Field(default=500, ge=1, description="Fewer rows than this are not judged.")
    consecutive: int = Field(
        default=1,
        ge=1,
        le=28,
        description="On how many judged days in a row a feature has to breach before the day fails; until then the "
        "day passes, and is no reference.",
    )
    same_weekday: bool | tuple[Name, ...] = Field(
        default=False,
        description="Features that are compared with accepted days of the same weekday only; `true` for all.",
    )
    same_weekday_days: int = Field(
        default=4,
        ge=1,
        le=52,
        description="How many accepted days of its weekday such a feature is judged against.",
    )
    fixed_reference: FixedReference | None = Field(
        default=None,
        description="Judge against the accepted days of this window, not the last `reference_days`; until somebody "
        "accepts a new regime after it.",
    )
    calendar: tuple[Name, ...] = Field(
        default=(),
        description="Features that are constant within a day, such as weekend: profiled, never gated.",
    )
    categories: tuple[Name, ...] = Field(default=(), description="Features that are categories, not numbers.")

    @model_validator(mode="after")
    def _no_feature_twice(self) -> Self:
        both = sorted(set(self.calendar) & set(self.categories))
        if both:
            raise ValueError(f"a feature is calendar or category, not both; got {both} in both")
        return self

    @property
    def key(self) -> str:
        return f"drift_profiles/{self.name}"

    def service(self, catalog: Catalog) -> FeatureServiceSpec:
        return catalog.get(FeatureServiceSpec, self.feature_service, wanted_by=f"DriftProfile {self.name!r}")

    def entity_of(self, catalog: Catalog) -> dict[str, tuple[str, ...]]:
        """The join keys of each feature that a row takes from its entity's snapshot."""
        return self.service(catalog).entity_of(catalog)

    def weekday_features(self, catalog: Catalog) -> frozenset[str]:
        """The features that are compared with days of the same weekday only."""
        if isinstance(self.same_weekday, bool):
            return frozenset(self.service(catalog).feature_names(catalog) if self.same_weekday else ())
        return frozenset(self.same_weekday)

    def first_day(self, catalog: Catalog) -> dt.date:
        """The first day whose windows are all filled: before it, warming up would look like drift."""
        return self.service(catalog).warm_from(catalog)

    def nodes(self, catalog: Catalog) -> tuple[Node, ...]:
        """The profile's asset, which reads a day's events and the snapshots that they see."""
        service = self.service(catalog)
        named = {*self.calendar, *self.categories, *self.weekday_features(catalog)}
        unknown = sorted(named - set(service.feature_names(catalog)))
        if unknown:
            raise DeclarationError(
                f"DriftProfile {self.name!r}: calendar, categories and same_weekday must be features of "
                f"{self.feature_service!r} ({service.feature_names(catalog)}); got also {unknown}"
            )
        ids = {key for keys in self.entity_of(catalog).values() for key in keys}
        keys = sorted(ids & {*service.feature_names(catalog)})
        if keys:
            raise DeclarationError(
                f"DriftProfile {self.name!r}: join keys must not be features of {self.feature_service!r}, as ids "
                f"are not judged; got {keys}. Leave them out of its request_features"
            )
        source = service.source_spec(catalog)
        return (
            Node(
                self.key,
                first_day=self.first_day(catalog),
                last_day=source.end,
                upstream=service.upstream(catalog),
                blocking_checks=(
                    Check("drift", self.digest_of_fields(*type(self).model_fields.keys() - _NOT_POLICY)),
                ),
            ),
        )
