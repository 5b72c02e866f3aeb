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
        yield from _keyed_otherwise(name, view.keys, after.keys)
        old, new = ({f: d.type for f, d in found.features.items()} for found in (view, after))
        yield from _lost_or_retyped(f"FeatureView {name}", old, new)
    for name, outputs in before.on_demand.items():
        yield from _lost_or_retyped(f"OnDemandFeatures {name}", outputs, now.on_demand.get(name, {}))
    for name, fields in before.requests.items():
        if name in now.requests:
            yield from _asked_otherwise(name, fields, now.requests[name])
    for model in before.models:
        if model not in now.models:
            yield f"Model {model} is removed: its champion is not trained again, checked or rolled back any more"
    for model, names in lost_features(before, now).items():
        champion = champions.get(model)
        needed = names if champion is None else tuple(n for n in names if n in champion.features)
        reader = (
            f"models/{model}" if champion is None else f"the champion of {model}, version {champion.version},"
        )
        if needed:
            yield f"FeatureService {before.models[model]} loses {', '.join(needed)}, which {reader} reads"


def _keyed_otherwise(view: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    if old.keys() != new.keys():
        yield f"FeatureView {view} is asked by {' and '.join(new)}, and no longer by {' and '.join(old)}"
        return
    for name, kind in old.items():
        if new[name] != kind:
            yield (
                f"FeatureView {view}: its key {name} becomes {new[name]}, and was {kind}: rows that are online are "
                f"not found any more"
            )


def _asked_otherwise(service: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    added = [name for name in new if name not in old]
    if added:
        yield f"FeatureService {service} asks for {', '.join(added)}, which no request has yet"
    for name, kind in old.items():
        if name in new and new[name] != kind:
            yield f"FeatureService {service} asks for {name} as {new[name]}, and no longer as {kind}"


def renewed(before: Description, now: Description) -> dict[str, tuple[str, ...]]:
    """By model, features of its service that keep their names and are given other values."""
    others: set[str] = set()
    for name, view in before.views.items():
        after = now.views[name].features if name in now.views else {}
        others |= {
            f
            for f, was in view.features.items()
            if f in after and was.definition and was.definition != after[f].definition
        }
    with_code = before.has_code and now.has_code
    for name, (declared, code) in before.on_demand_code.items():
        declared_now, code_now = now.on_demand_code.get(name, (declared, code))
        if declared != declared_now or (with_code and code != code_now):
            others |= set(before.on_demand[name]) & set(now.on_demand[name])
    found = {
        model: tuple(name for name in now.services.get(service, ()) if name in others)
        for model, service in before.models.items()
        if model in now.models
    }
    return {model: names for model, names in found.items() if names}


def _lost_or_retyped(owner: str, old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[str]:
    lost = [name for name in old if name not in new]
    if lost:
        yield f"{owner} loses {', '.join(lost)}"
    for name, kind in old.items():
        if name in new and new[name] != kind:
            yield f"{owner}: {name} becomes {new[name]}, and was {kind}"
