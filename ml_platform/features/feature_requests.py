"""Which features of which views a retrieval asks for, and what they are called in its answer."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feast import FeatureView, OnDemandFeatureView
from feast.errors import FeatureNameCollisionError
from feast.infra.registry.base_registry import BaseRegistry
from feast.utils import _parse_feature_ref

from ml_platform.features.feast_sources import join_keys_of
from ml_platform.kernel.errors import InputError


@dataclass(frozen=True)
class RequestedView:
    """One feature view, its join keys, and its features as pairs of feature name and name in the answer."""

    view: FeatureView
    join_keys: tuple[str, ...]
    features: tuple[tuple[str, str], ...]

    @property
    def entity_columns(self) -> list[str]:
        """The columns of the entity rows that the join keys are looked up in."""
        renamed = self.view.projection.join_key_map
        return [renamed.get(key, key) for key in self.join_keys]


def requested_views(
    views: Sequence[FeatureView],
    refs: Sequence[str],
    *,
    on_demand: Sequence[OnDemandFeatureView],
    full_names: bool,
    registry: BaseRegistry,
    project: str,
) -> tuple[RequestedView, ...]:
    """The views that the references name, in their order, each with its features in their order.

    References match the name that a view is used under: its alias, or its name, with `@v2` if a version is
    pinned. Raises ValueError for a reference that matches nothing, as Feast does, and Feast's
    FeatureNameCollisionError if two features would have one name in the answer.
    """
    by_name = {view.projection.name_to_use(): view for view in views}
    computed = {view.projection.name_to_use() for view in on_demand}
    wanted: dict[str, list[str]] = {}
    for ref in dict.fromkeys(refs):
        name, version, feature = _parse_feature_ref(ref)
        used_name = name if version is None else f"{name}@v{version}"
        if used_name in by_name:
            wanted.setdefault(used_name, []).append(feature)
        elif used_name not in computed:
            raise ValueError(f"Could not find feature view from reference {ref}")
    names = _output_names(by_name, wanted, full_names=full_names)
    repeated = _repeated(names)
    if repeated:
        clashing = [f"{used}:{feature}" for (used, feature), name in names.items() if name in repeated]
        raise FeatureNameCollisionError(clashing, full_names)
    return tuple(
        RequestedView(
            view=by_name[used],
            join_keys=tuple(join_keys_of(by_name[used], registry, project)),
            features=tuple((feature, names[used, feature]) for feature in features),
        )
        for used, features in wanted.items()
    )


def check_names(entity_columns: Sequence[str], views: Sequence[RequestedView]) -> None:
    """Raise InputError if a feature would have the name of an entity column."""
    features = {name for requested in views for _, name in requested.features}
    both = sorted(features.intersection(entity_columns))
    if both:
        raise InputError(
            f"names in the answer must be distinct; {both} are features and also columns of the entity rows; "
            "rename the columns, or ask with full_feature_names=True"
        )


def _output_names(
    views: Mapping[str, FeatureView], wanted: Mapping[str, Sequence[str]], *, full_names: bool
) -> dict[tuple[str, str], str]:
    """Name in the answer of each (view, feature): with full names, prefixed by the view's alias or name.

    Two versions of one view keep the version in the prefix where names would be the same without it.
    """
    pairs = [(used, feature) for used, features in wanted.items() for feature in features]
    if not full_names:
        return {(used, feature): feature for used, feature in pairs}
    bases = {used: views[used].projection.name_alias or views[used].projection.name for used in wanted}
    names = {(used, feature): f"{bases[used]}__{feature}" for used, feature in pairs}
    repeated = _repeated(names)
    return {pair: f"{pair[0]}__{pair[1]}" if name in repeated else name for pair, name in names.items()}


def _repeated(names: Mapping[tuple[str, str], str]) -> set[str]:
    return {name for name, count in Counter(names.values()).items() if count > 1}
