"""What a change does, from the descriptions of before and now: pure, so it can be asked of any two versions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ml_platform.gates.stale import followers_in, in_order
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.partitions import day_range, key_of
from ml_platform.plan.description import Asset, Description
from ml_platform.plan.fields import differences

Published = Mapping[str, Mapping[str, str]]
"""By asset and partition, the digest of the declaration that a published partition was made by."""

ROWS_DO_NOT_DEPEND_ON = frozenset({"description", "expectations", "owners"})
"""Fields of any declaration; whatever else is declared may change rows."""


@dataclass(frozen=True)
class Change:
    """One thing that is added, removed or changed."""

    change: Literal["added", "changed", "removed"]
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Affected:
    """An asset whose partitions are no longer what a rebuild would make of them, and why.

    `partitions` is None where nobody knows which there are: a source without an end, an asset without a ledger.
    """

    asset: str
    reason: str
    partitions: tuple[str, ...] | None


@dataclass(frozen=True)
class Champion:
    """The version that answers now, and the features that its contract needs."""

    version: int
    features: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """What a change does. `stale` is for certain, `follows` may come out the same; `destroyed` is online."""

    declarations: tuple[Change, ...]
    features: tuple[Change, ...]
    columns: tuple[Change, ...]
    code: tuple[Change, ...]
    checks: tuple[Change, ...]
    stale: tuple[Affected, ...]
    follows: tuple[Affected, ...]
    models: tuple[Affected, ...]
    online: tuple[Affected, ...]
    destroyed: tuple[str, ...]

    @property
    def nothing(self) -> bool:
        return not any(vars(self).values())


def compare(
    before: Description,
    now: Description,
    published: Published | None = None,
    champions: Mapping[str, Champion] | None = None,
) -> Changes:
    """Everything that differs; of published partitions if they are given, otherwise of all that are declared."""
    reasons = {key: _reasons(before, now, key) for key in before.assets if key in now.assets}
    touched = _touched(now, [key for key, found in reasons.items() if any(remakes for _, remakes in found)])
    stale = {
        key: _partitions(before, now, key, published)
        for key in in_order(_lineage(now))
        if reasons.get(key) and now.assets[key].published
    }
    stale = {key: keys for key, keys in stale.items() if keys != ()}
    return Changes(
        declarations=tuple(_declarations(before, now)),
        features=tuple(_features(before, now)),
        columns=tuple(_columns(before, now)),
        code=tuple(_code(before, now)),
        checks=tuple(_checks(before, now)),
        stale=tuple(Affected(key, _in_words(reasons[key]), keys) for key, keys in stale.items()),
        follows=tuple(_follows(before, now, published, stale, touched)),
        models=tuple(_in_stage("models/", now, reasons, touched)),
        online=tuple(_online(before, now, reasons, touched)),
        destroyed=tuple(destroyed(before, now, champions or {})),
    )


def lost_features(before: Description, now: Description) -> dict[str, tuple[str, ...]]:
    """By model, what the feature service that it was declared to read no longer has."""
    lost = {
        model: tuple(name for name in before.services[service] if name not in now.services.get(service, ()))
        for model, service in before.models.items()
    }
    return {model: names for model, names in lost.items() if names}


def destroyed(before: Description, now: Description, champions: Mapping[str, Champion]) -> Iterator[str]:
    """What somebody who asks online loses, in sentences."""
    for name, view in before.views.items():
        after = now.views.get(name)
        if not view.online:
            continue
        if after is None or not after.online:
            yield f"FeatureView {name} is {'removed' if after is None else 'no longer published online'}"
            continue
        if view.join_key != after.join_key:
            yield f"FeatureView {name} is asked by {after.join_key}, and no longer by {view.join_key}"
        old, new = (({f: d.type for f, d in found.features.items()}) for found in (view, after))
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


def _declarations(before: Description, now: Description) -> Iterator[Change]:
    """What is declared, wherever: a file that was moved changes nothing."""
    old, new = ({name: found.fields for name, found in side.declarations.items()} for side in (before, now))
    for change, name in _names(old, new):
        if change == "changed":
            yield Change(change, name, "; ".join(differences(old[name], new[name])))
        else:
            yield Change(change, name, (before if change == "removed" else now).declarations[name].file)


def _features(before: Description, now: Description) -> Iterator[Change]:
    """Features of views and outputs of on-demand features; of a whole view that comes or goes, each."""
    old, new = (
        {
            f"{name}.{f}": f"{d.type}, {d.sentence}"
            for name, v in side.views.items()
            for f, d in v.features.items()
        }
        | {
            f"{name}.{f}": f"{kind}, on demand"
            for name, out in side.on_demand.items()
            for f, kind in out.items()
        }
        for side in (before, now)
    )
    return _changed_texts(old, new)


def _columns(before: Description, now: Description) -> Iterator[Change]:
    """Columns of what is no feature view: sources and training sets."""
    old, new = (
        {
            f"{key}.{column}": kind
            for key, asset in side.assets.items()
            if not asset.declaration.startswith("FeatureView ")
            for column, kind in asset.columns.items()
        }
        for side in (before, now)
    )
    return _changed_texts(old, new)


def _code(before: Description, now: Description) -> Iterator[Change]:
    if not (before.has_code and now.has_code):
        return
    old, new = (
        {path: digest for asset in side.assets.values() for path, digest in asset.code.items()}
        for side in (before, now)
    )
    for change, path in _names(old, new):
        readers = [key for key, asset in {**before.assets, **now.assets}.items() if path in asset.code]
        yield Change(change, path, f"read by {', '.join(sorted(readers))}")


def _checks(before: Description, now: Description) -> Iterator[Change]:
    """Checks of assets that stay: what they have judged is judged again by what is declared now."""
    for key, asset in now.assets.items():
        if key not in before.assets:
            continue
        old, new = check_digests(before.assets[key].node), check_digests(asset.node)
        for change, name in _names(old, new):
            yield Change(change, f"{key} {name}")


def check_digests(node: Node) -> dict[str, str]:
    """What is declared of each blocking check, by its name."""
    return {getattr(check, "name", check): getattr(check, "digest", "") for check in node.blocking_checks}


def _changed_texts(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for change, name in _names(old, new):
        both = name in old and name in new
        yield Change(change, name, f"{old[name]} → {new[name]}" if both else old.get(name) or new[name])


def _names(
    old: Mapping[str, object], new: Mapping[str, object]
) -> Iterator[tuple[Literal["added", "changed", "removed"], str]]:
    """Names that are in one of both only, or have another value, in a stable order."""
    for name in sorted({*old, *new}):
        if name not in new:
            yield "removed", name
        elif name not in old:
            yield "added", name
        elif old[name] != new[name]:
            yield "changed", name


def _reasons(before: Description, now: Description, key: str) -> list[tuple[str, bool]]:
    """Why an asset is not what it was, each with whether its rows may be others."""
    old, new = before.assets[key], now.assets[key]
    reasons: list[tuple[str, bool]] = []
    fields = _changed_fields(before, now, old, new)
    if fields:
        words = f"declared otherwise: {', '.join(fields)}"
        remakes = not ROWS_DO_NOT_DEPEND_ON.issuperset(fields)
        reasons.append((words if remakes else f"{words}; the rows would be the same", remakes))
    reasons += [(f"{name} declared otherwise", True) for _, name in _names(old.reads, new.reads)]
    if before.has_code and now.has_code:
        reasons += [(f"code of {path} changed", True) for _, path in _names(old.code, new.code)]
    if old.node.upstream != new.node.upstream and not fields:
        reasons.append(("reads other assets or days", True))
    return reasons


def _changed_fields(before: Description, now: Description, old: Asset, new: Asset) -> list[str]:
    if old.declaration not in before.declarations or new.declaration not in now.declarations:
        return []
    mine = before.declarations[old.declaration].fields, now.declarations[new.declaration].fields
    return [name for _, name in _names(*mine)]


def _in_words(reasons: Iterable[tuple[str, bool]]) -> str:
    return "; ".join(words for words, _ in reasons)


def _touched(now: Description, remade: Iterable[str]) -> set[str]:
    """Assets whose content may change: those that are made otherwise, and all that read them, directly or not."""
    touched = set(remade)
    for key in in_order(_lineage(now)):
        asset = now.assets.get(key)
        if asset is not None and any(upstream.key in touched for upstream in asset.node.upstream):
            touched.add(key)
    return touched


def _lineage(now: Description) -> Lineage:
    return Lineage({key: asset.node for key, asset in now.assets.items()})


def _partitions(
    before: Description, now: Description, key: str, published: Published | None
) -> tuple[str, ...] | None:
    """Partitions of an asset that is made otherwise; None where nobody knows which there are."""
    if published is None:
        return _declared_days(before, now, key)
    new, made_by = now.assets[key], published.get(key, {})
    digest = now.declarations[new.declaration].content
    redeclared = before.declarations[before.assets[key].declaration].content != digest
    return tuple(day for day, declared in sorted(made_by.items()) if declared != digest or not redeclared)


def _declared_days(before: Description, now: Description, key: str) -> tuple[str, ...] | None:
    """Days that an asset had before and still has; None for one that goes on."""
    old, new = before.assets[key].node, now.assets[key].node
    if old.first_day is None or new.first_day is None or old.last_day is None or new.last_day is None:
        return None
    first, last = max(old.first_day, new.first_day), min(old.last_day, new.last_day)
    return tuple(map(key_of, day_range(first, last)))


def _follows(
    before: Description,
    now: Description,
    published: Published | None,
    stale: Mapping[str, tuple[str, ...] | None],
    touched: set[str],
) -> Iterator[Affected]:
    """Published assets that read what becomes stale: exactly the partitions that do, or all that are declared."""
    reopened = {key: keys for key, keys in stale.items() if key in touched and keys is not None}
    exact = followers_in(_lineage(now), published, reopened) if published is not None else {}
    for key in (key for key in in_order(_lineage(now)) if key in touched & before.assets.keys()):
        sources = [upstream.key for upstream in now.assets[key].node.upstream if upstream.key in touched]
        if not now.assets[key].published or not sources:
            continue
        days = tuple(exact.get(key, ())) if published is not None else _declared_days(before, now, key)
        if days != () and (published is not None or key not in stale):
            yield Affected(key, f"reads {', '.join(sources)}", days)


def _online(
    before: Description,
    now: Description,
    reasons: Mapping[str, Sequence[tuple[str, bool]]],
    touched: set[str],
) -> Iterator[Affected]:
    """What has to be published online again, after the registry of what is declared for it."""
    kinds = ("FeatureService ", "FeatureView ", "OnDemandFeatures ")
    if any(name.startswith(kinds) for _, name in _names(before.declarations, now.declarations)):
        for key, asset in sorted(now.assets.items()):
            if key.startswith("online/") and not asset.node.partitioned:
                yield Affected(key, "what is declared for it changes", None)
    yield from _in_stage("online/", now, reasons, touched)


def _in_stage(
    stage: str,
    now: Description,
    reasons: Mapping[str, Sequence[tuple[str, bool]]],
    touched: set[str],
) -> Iterator[Affected]:
    """Assets of a stage that are made otherwise, or read what is."""
    for key, asset in sorted(now.assets.items()):
        if not key.startswith(stage) or key not in touched:
            continue
        own = _in_words(reasons.get(key, ()))
        sources = [upstream.key for upstream in asset.node.upstream if upstream.key in touched]
        why = [own] if own else []
        why += [f"reads {', '.join(sources)}"] if sources else []
        yield Affected(key, "; ".join(why), None)
