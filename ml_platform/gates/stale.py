"""Which published partitions are no longer what a full rebuild would make of them, and why.

The ledger finds candidates: partitions whose inputs, as known at their time, are not those that were read. A
view may not read what has changed of them, so candidates are computed again; those that come out the same are
recorded as made from what is published now, and only the others are stale.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter

import pyarrow as pa

from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import (
    CREATED_TIME,
    cadence_of,
    contiguous,
    key_range,
    spans,
)
from ml_platform.lake.content_hash import NO_ROWS_HASH, partition_hashes
from ml_platform.lake.inputs import Inputs, equal_lag, known_history
from ml_platform.lake.ledger import Publication, history, restamp
from ml_platform.lake.tables import Lake

_DAYS_AT_ONCE = 31
_UNRECORDED = "published before it was recorded what it was made from"


def _files_since(deliveries: Sequence[str], inputs: str) -> str:
    """How many deliveries of a day came after those that its publication was made from."""
    if inputs not in deliveries:
        return "made from deliveries that the ledger of files does not have"
    count = len(deliveries) - 1 - max(i for i, digest in enumerate(deliveries) if digest == inputs)
    return f"{count} {'file' if count == 1 else 'files'} landed since"


@dataclass(frozen=True)
class Declared:
    """A published asset as it is declared now.

    `computed` gives the rows of a range of partitions as they would be published. `landed` is for what is made
    from deliveries: by day, the digest of its inputs after each delivery that changed them. `one_run_per_range`
    says that a range is made in one run; otherwise each partition is made alone, because it is large.
    `landed_since` tells people what came after the inputs of a publication.
    """

    key: str
    declaration: str
    computed: Callable[[Sequence[str]], pa.Table]
    landed: Mapping[str, Sequence[str]] | None = None
    one_run_per_range: bool = True
    landed_since: Callable[[Sequence[str], str], str] = _files_since

    def inputs_now(self, inputs: Inputs, partition: str) -> str:
        """The digest of what a partition would be made from now."""
        if self.landed is None:
            return inputs.digest(self.key, partition)
        return self.landed.get(partition, ("",))[-1]


@dataclass(frozen=True)
class Candidate:
    """A publication that may be stale, with the digest of what it would be made from now."""

    publication: Publication
    inputs: str
    redeclared: bool

    @property
    def partition(self) -> str:
        return self.publication.partition


@dataclass(frozen=True)
class Stale:
    """Partitions of one asset that are stale for one reason."""

    asset: str
    partitions: tuple[str, ...]
    reason: str


def candidates(inputs: Inputs, declared: Declared) -> list[Candidate]:
    """Published partitions of an asset that were declared otherwise, or made from something else than they would be."""
    node, found = inputs.lineage.node(declared.key), list[Candidate]()
    for key, publication in sorted(inputs.publications.get(declared.key, {}).items()):
        if node.clip((key, key)) is None:
            continue
        now = declared.inputs_now(inputs, key)
        redeclared = publication.declaration != declared.declaration
        if redeclared or publication.inputs != now:
            found.append(Candidate(publication, now, redeclared))
    return found


def work(declared: Declared, found: Iterable[Candidate]) -> list[list[Candidate]]:
    """Candidates that have to be computed to know, in ranges that are computed at once.

    Rows do not tell whether another declaration would judge them alike: such partitions are stale as they are.
    """
    unsure = {candidate.partition: candidate for candidate in found if not candidate.redeclared}
    size = _DAYS_AT_ONCE if declared.one_run_per_range else 1
    return [
        [unsure[key] for key in run[start : start + size]]
        for run in contiguous(unsure)
        for start in range(0, len(run), size)
    ]


def confirm(lake: Lake, declared: Declared, asked: Sequence[Candidate]) -> list[Candidate]:
    """Of a range of candidates, those that would have other rows; the others are recorded as current."""
    rows = declared.computed([candidate.partition for candidate in asked])
    cadence = cadence_of(asked[0].partition)
    parts = {key: (part, digest) for key, part, digest in partition_hashes(rows, cadence.column)}
    others, same = list[Candidate](), list[Publication]()
    for candidate in asked:
        part, digest = parts.get(candidate.partition, (None, NO_ROWS_HASH))
        if digest != candidate.publication.content_hash:
            others.append(candidate)
            continue
        current = replace(candidate.publication, inputs=candidate.inputs)
        if declared.landed is not None and part is not None and CREATED_TIME in part.column_names:
            known = known_history(part.drop_columns([cadence.column]), cadence)
            current = replace(current, known=known, lag=equal_lag(part))
        same.append(current)
    if same:
        restamp(lake, same)
    return others


@dataclass(frozen=True)
class Reasons:
    """Tells why candidates are stale, from the ledger's past."""

    inputs: Inputs
    past: Sequence[Publication]
    _positions: dict[tuple[str, str], list[int]] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, inputs: Inputs) -> "Reasons":
        reasons = cls(inputs, history(inputs.lake))
        for position, publication in enumerate(reasons.past):
            reasons._positions.setdefault((publication.asset, publication.partition), []).append(position)
        return reasons

    def grouped(self, declared: Declared, found: Iterable[Candidate]) -> list[Stale]:
        """Stale partitions of an asset by reason, in the order of their first partition."""
        partitions: dict[str, list[str]] = {}
        for candidate in sorted(found, key=lambda candidate: candidate.partition):
            partitions.setdefault(self.reason(declared, candidate), []).append(candidate.partition)
        return [Stale(declared.key, tuple(keys), reason) for reason, keys in partitions.items()]

    def reason(self, declared: Declared, candidate: Candidate) -> str:
        """Why one partition is stale, for people."""
        if candidate.redeclared:
            return "declaration changed"
        if not candidate.publication.inputs:
            return _UNRECORDED
        if declared.landed is not None:
            return declared.landed_since(
                declared.landed.get(candidate.partition, ()), candidate.publication.inputs
            )
        changes = self._changes(candidate.publication)
        return "; ".join(changes) or "entities that were not known when it was made, or no longer are"

    def _changes(self, mine: Publication) -> list[str]:
        """What has changed of each upstream since a partition was made, as known at the partition's time."""
        then, now = self._inputs_then(mine), self.inputs
        before, after = (seen.read_by(mine.asset, mine.partition) for seen in (then, now))
        changes: list[str] = []
        for upstream in now.lineage.node(mine.asset).upstream:
            old, new = before.get(upstream.key, {}), after.get(upstream.key, {})
            days = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
            if days:
                versions = any(now.publications[upstream.key][key].known for key in days if key in new)
                what = "late or corrected rows" if versions else "other content"
                changes.append(f"{what} of {upstream.key} [{spans(days)}]")
        return changes

    def _inputs_then(self, mine: Publication) -> Inputs:
        """What was published of a partition's upstream days when it was recorded itself."""
        end = self._positions[mine.asset, mine.partition][-1]
        read = self.inputs.lineage.direct_partitions(mine.asset, (mine.partition, mine.partition))
        then: dict[str, dict[str, Publication]] = {}
        for asset, keys in read.items():
            for key in key_range(*keys):
                earlier = [self.past[i] for i in self._positions.get((asset, key), ()) if i < end]
                if earlier:
                    then.setdefault(asset, {})[key] = max(earlier, key=lambda found: found.table_version)
        return replace(self.inputs, publications=then)


def in_order(lineage: Lineage) -> list[str]:
    """All assets, each after what it reads."""
    return list(
        TopologicalSorter(
            {key: [u.key for u in n.dependencies] for key, n in lineage.nodes.items()}
        ).static_order()
    )


def followers(inputs: Inputs, stale: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Published partitions that are current and read stale ones, directly or not: rebuilding may make them stale."""
    return followers_in(inputs.lineage, inputs.publications, stale)


def followers_in(
    lineage: Lineage, partitions: Mapping[str, Iterable[str]], stale: Mapping[str, Sequence[str]]
) -> dict[str, list[str]]:
    """The same of any partitions, by asset, under any lineage."""
    reopened = {asset: set(keys) for asset, keys in stale.items()}
    found: dict[str, list[str]] = {}
    for asset in (key for key in in_order(lineage) if key in partitions):
        mine = reopened.setdefault(asset, set())
        for key in sorted(set(partitions[asset]) - mine):
            read = lineage.direct_partitions(asset, (key, key))
            if any(
                first <= upstream <= last
                for reads, (first, last) in read.items()
                for upstream in reopened.get(reads, ())
            ):
                mine.add(key)
                found.setdefault(asset, []).append(key)
    return found
