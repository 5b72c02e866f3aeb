"""What a change takes away from those who ask online, and from the model that answers them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml_platform.plan.description import Description


@dataclass(frozen=True)
class Champion:
    """The version that answers now, and the features that its contract needs."""

    version: int
    features: tuple[str, ...]


def lost_features(before: Description, now: Description) -> dict[str, tuple[str, ...]]:
    """By model, what the feature service that it was declared to read no longer has."""
    lost = {
        model: tuple(name for name in before.services[service] if name not in now.services.get(service, ()))
        for model, service in before.models.items()
    }
    return {model: names for model, names in lost.items() if names}


def destroyed(before: Description, now: Description, champions: Mapping[str, Champion]) -> Iterator[str]:
    """What is lost online, in sentences; a model without a known champion needs all that it was declared to read."""
    for name, view in before.views.items():
        after = now.views.get(name)
        if not view.online:
            continue
        if after is None or not after.online:
            yield f"FeatureView {name} is {'removed' if after is None else 'no longer published online'}"
            continue
        if view.join_key != after.join_key:
            yield f"FeatureView {name} is asked by {after.join_key}, and no longer by {view.join_key}"
        old, new = ({f: d.type for f, d in found.features.items()} for found in (view, after))
        yield from _lost_or_retyped(f"FeatureView {name}", old, new)
    for name, outputs in before.on_demand.items():
        yield from _lost_or_retyped(f"OnDemandFeatures {name}", outputs, now.on_demand.get(name, {}))
    for model, names in lost_features(before, now).items():
        champion = champions.get(model)
        needed = names if champion is None else tuple(n for n in names if n in champion.features)
        reader = (
            f"models/{model}" if champion is None else f"the champion of {model}, version {champion.version},"
        )
        if needed:
            yield f"FeatureService {before.models[model]} loses {', '.join(needed)}, which {reader} reads"


def _lost_or_retyped(owner: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    lost = [name for name in old if name not in new]
    if lost:
        yield f"{owner} loses {', '.join(lost)}"
    for name, kind in old.items():
        if name in new and new[name] != kind:
            yield f"{owner}: {name} becomes {new[name]}, and was {kind}"
