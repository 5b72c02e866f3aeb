"""What a change does, from the descriptions of before and now: pure, so it can be asked of any two versions."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ml_platform.plan.description import Description
from ml_platform.plan.destroyed import Champion, destroyed, renewed
from ml_platform.plan.effects import Affected, Effects, Published
from ml_platform.plan.fields import How, changed_names, differences


@dataclass(frozen=True)
class Change:
    """One thing that is added, removed or changed."""

    change: How
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Changes:
    """What a change does. `stale` is for certain, `follows` may come out the same; `destroyed` is online.

    `renewed` has models whose champions will be given other values under the names that they know.
    """

    declarations: tuple[Change, ...]
    features: tuple[Change, ...]
    columns: tuple[Change, ...]
    code: tuple[Change, ...]
    checks: tuple[Change, ...]
    stale: tuple[Affected, ...]
    follows: tuple[Affected, ...]
    models: tuple[Affected, ...]
    online: tuple[Affected, ...]
    renewed: tuple[Affected, ...]
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
    effects = Effects(before, now, published)
    return Changes(
        declarations=tuple(_declarations(before, now)),
        features=tuple(_features(before, now)),
        columns=tuple(_columns(before, now)),
        code=tuple(_code(before, now)),
        checks=tuple(_checks(before, now)),
        stale=tuple(effects.stale.values()),
        follows=tuple(effects.follows()),
        models=tuple(effects.models()),
        online=tuple(effects.online()),
        renewed=tuple(_renewed(before, now)),
        destroyed=tuple(destroyed(before, now, champions or {})),
    )


def _declarations(before: Description, now: Description) -> Iterator[Change]:
    """What is declared, wherever: a file that was moved changes nothing."""
    old, new = ({name: found.fields for name, found in side.declarations.items()} for side in (before, now))
    for change, name in changed_names(old, new):
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
    for change, path in changed_names(old, new):
        readers = [key for key, asset in {**before.assets, **now.assets}.items() if path in asset.code]
        yield Change(change, path, f"read by {', '.join(sorted(readers))}")


def _checks(before: Description, now: Description) -> Iterator[Change]:
    """Checks of assets that stay, with how what is published comes to be judged by what is declared now."""
    for key, asset in now.assets.items():
        if key not in before.assets:
            continue
        old, new = (
            {check.name: check.digest for check in side.assets[key].node.blocking_checks}
            for side in (before, now)
        )
        for change, name in changed_names(old, new):
            way = f"ml-platform gate recheck {key} --reason …" if asset.rechecked else f"materialize {key}"
            until = (
                "" if change == "removed" else f"what is published counts as not evaluated until then: {way}"
            )
            yield Change(change, f"{key} {name}", until)


def _renewed(before: Description, now: Description) -> Iterator[Affected]:
    for model, names in renewed(before, now).items():
        yield Affected(f"models/{model}", f"other values of {', '.join(names)}")


def _changed_texts(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    for change, name in changed_names(old, new):
        both = name in old and name in new
        yield Change(change, name, f"{old[name]} → {new[name]}" if both else old.get(name) or new[name])
