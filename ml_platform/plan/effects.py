"""Which assets a change makes otherwise, which of their partitions become stale, and what reads them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from ml_platform.gates.stale import followers_in, in_order
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import key_range
from ml_platform.plan.description import Description
from ml_platform.plan.fields import changed_names

Published = Mapping[str, Mapping[str, str]]
"""By asset and partition, the digest of the declaration that a published partition was made by."""

ROWS_DO_NOT_DEPEND_ON = frozenset({"description", "expectations", "owners"})
"""Fields of any declaration; whatever else is declared may change rows."""

_REGISTERED = ("FeatureService ", "FeatureView ", "OnDemandFeatures ")


@dataclass(frozen=True)
class Affected:
    """An asset that is no longer what a rebuild would make of it, and why.

    `partitions` is None where nobody counts them: a source without an end, an asset without a ledger.
    """

    asset: str
    reason: str
    partitions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Reason:
    """Why an asset is not what it was; `remakes` says that its rows may be others."""

    words: str
    remakes: bool = True


@dataclass(frozen=True)
class Effects:
    """What follows from two descriptions; of published partitions if they are given, otherwise of all declared ones."""

    before: Description
    now: Description
    published: Published | None = None

    @cached_property
    def stale(self) -> dict[str, Affected]:
        """Published assets that are made otherwise, with their partitions that were made as before."""
        found = {
            key: Affected(
                key, "; ".join(reason.words for reason in self._reasons[key]), self._partitions(key)
            )
            for key in self._order
            if self._reasons.get(key) and self.now.assets[key].published
        }
        return {key: affected for key, affected in found.items() if affected.partitions != ()}

    def follows(self) -> Iterator[Affected]:
        """Published assets that read what becomes stale: exactly the partitions that do, or all that are declared."""
        exact: Mapping[str, list[str]] = {}
        if self.published is not None:
            reopened = {
                key: found.partitions or () for key, found in self.stale.items() if key in self._touched
            }
            exact = followers_in(self._lineage, self.published, reopened)
        for key in (key for key in self._order if key in self._touched & self.before.assets.keys()):
            sources = self._sources(key)
            if not self.now.assets[key].published or not sources:
                continue
            days = tuple(exact.get(key, ())) if self.published is not None else self._declared_days(key)
            if days != () and (self.published is not None or key not in self.stale):
                yield Affected(key, f"reads {', '.join(sources)}", days)

    def models(self) -> Iterator[Affected]:
        """Models that are declared otherwise, or read what may change."""
        return self._in_stage("models/")

    def online(self) -> Iterator[Affected]:
        """What has to be published online again, after the registry of what is declared for it."""
        old, new = (
            {name: found.fields for name, found in side.declarations.items()}
            for side in (self.before, self.now)
        )
        declared = changed_names(old, new)
        if any(name.startswith(_REGISTERED) for _, name in declared):
            for key, asset in sorted(self.now.assets.items()):
                if key.startswith("online/") and not asset.node.partitioned:
                    yield Affected(key, "what is declared for it changes")
        yield from self._in_stage("online/")

    @cached_property
    def _lineage(self) -> Lineage:
        return Lineage({key: asset.node for key, asset in self.now.assets.items()})

    @cached_property
    def _order(self) -> list[str]:
        return [key for key in in_order(self._lineage) if key in self.now.assets]

    @cached_property
    def _reasons(self) -> dict[str, list[Reason]]:
        """Of every asset that stays, why it is not what it was."""
        return {key: list(self._reasons_of(key)) for key in self.before.assets if key in self.now.assets}

    @cached_property
    def _touched(self) -> set[str]:
        """Assets whose content may change: those that are made otherwise, and all that read them, directly or not."""
        touched = {key for key, found in self._reasons.items() if any(reason.remakes for reason in found)}
        for key in self._order:
            if any(upstream.key in touched for upstream in self.now.assets[key].node.upstream):
                touched.add(key)
        return touched

    def _reasons_of(self, key: str) -> Iterator[Reason]:
        old, new = self.before.assets[key], self.now.assets[key]
        fields = self._changed_fields(key)
        if fields and ROWS_DO_NOT_DEPEND_ON.issuperset(fields):
            yield Reason(
                f"declared otherwise: {', '.join(fields)}; the rows would be the same", remakes=False
            )
        elif fields:
            yield Reason(f"declared otherwise: {', '.join(fields)}")
        for _, name in changed_names(old.reads, new.reads):
            yield Reason(f"{name} declared otherwise")
        if self.before.has_code and self.now.has_code:
            for _, path in changed_names(old.code, new.code):
                yield Reason(f"code of {path} changed")
        if old.node.upstream != new.node.upstream and not fields:
            yield Reason("reads other assets or days")

    def _changed_fields(self, key: str) -> list[str]:
        old = self.before.declarations[self.before.assets[key].declaration].fields
        new = self.now.declarations[self.now.assets[key].declaration].fields
        return [name for _, name in changed_names(old, new)]

    def _partitions(self, key: str) -> tuple[str, ...] | None:
        if self.published is None:
            return self._declared_days(key)
        old, new = (
            side.declarations[side.assets[key].declaration].content for side in (self.before, self.now)
        )
        made_by = sorted(self.published.get(key, {}).items())
        return tuple(day for day, declared in made_by if declared != new or old == new)

    def _declared_days(self, key: str) -> tuple[str, ...] | None:
        """Days that an asset had before and still has; None for one that goes on."""
        old, new = self.before.assets[key].node, self.now.assets[key].node
        if old.first is None or new.first is None or old.last is None or new.last is None:
            return None
        if old.cadence != new.cadence:
            return ()
        return tuple(key_range(max(old.first, new.first), min(old.last, new.last)))

    def _sources(self, key: str) -> list[str]:
        """What an asset reads that may change."""
        return [u.key for u in self.now.assets[key].node.upstream if u.key in self._touched]

    def _in_stage(self, stage: str) -> Iterator[Affected]:
        for key in sorted(key for key in self._touched if key.startswith(stage)):
            why = [reason.words for reason in self._reasons.get(key, ())]
            sources = self._sources(key)
            why += [f"reads {', '.join(sources)}"] if sources else []
            yield Affected(key, "; ".join(why))
