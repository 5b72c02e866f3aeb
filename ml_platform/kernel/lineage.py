"""Which partitions of which assets an asset reads: declared once, used for the graph and for the gates.

Asset keys are text here (`features/NAME`), and so are partitions; no orchestrator is known.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ml_platform.kernel.partitions import CADENCES, Cadence, CadenceName, Range, shifted


@dataclass(frozen=True)
class Upstream:
    """One dependency. Partition `d` reads what the upstream has of the periods `d + first … d + last`.

    Periods are the reader's: of an hourly upstream a day reads all hours of its days, of a daily one an hour reads
    the days that its hours are in.

    `latest` reads the newest partition instead; an upstream without partitions needs no offsets. Of an upstream
    with a created time, what was known when `d` ended is read. With `whole`, so is what became
    known of `d` itself later; with `keys`, so is every combination of these columns since the upstream's first day.
    With `latest_truth`, what is known of it by now is read, whenever that became known. What is not `awaited` is
    read as it is: nothing that is made on its own waits until it was made again.
    """

    key: str
    first: int = 0
    last: int = 0
    latest: bool = False
    whole: bool = False
    keys: tuple[str, ...] = ()
    latest_truth: bool = False
    awaited: bool = True

    def read_by(self, keys: Range) -> Range:
        """The periods that a range of the reader's partitions reads, as partitions of the reader."""
        return shifted(keys[0], self.first), shifted(keys[1], self.last)


@dataclass(frozen=True)
class Check:
    """One class of checks of an asset, and a digest of what is declared of it.

    An evaluation under another digest judged by something else, and does not count.
    """

    name: str
    digest: str = ""


@dataclass(frozen=True)
class Node:
    """One asset: its days, what its rows are made from, what they are only checked against, and its gating checks.

    Without a first day it is not partitioned; without a last day it goes on, each partition complete
    `lag` periods after its own has ended (labels that mature late). Hourly partitions are all hours of these days.
    `references` never change a row: a partition is
    not stale when they change, and what follows waits for the verdict on the partition, not for theirs.
    `reporting_checks` are told to people, and hold nothing up.
    """

    key: str
    first_day: dt.date | None = None
    last_day: dt.date | None = None
    lag: int = 0
    upstream: tuple[Upstream, ...] = ()
    references: tuple[Upstream, ...] = ()
    blocking_checks: tuple[Check, ...] = ()
    reporting_checks: tuple[Check, ...] = ()
    partitions: CadenceName = "daily"

    @property
    def partitioned(self) -> bool:
        return self.first_day is not None

    @property
    def dependencies(self) -> tuple[Upstream, ...]:
        """Every asset that is read for rows or for checks, once, with the days of both."""
        found = {upstream.key: upstream for upstream in self.upstream}
        for other in self.references:
            known = found.get(other.key, other)
            found[other.key] = replace(
                known, first=min(known.first, other.first), last=max(known.last, other.last)
            )
        return tuple(found.values())

    @property
    def checks(self) -> tuple[Check, ...]:
        """Every class of checks that the asset has."""
        return (*self.blocking_checks, *self.reporting_checks)

    def check(self, name: str) -> Check | None:
        """The blocking check of a name, if the asset has it."""
        return next((check for check in self.blocking_checks if check.name == name), None)

    @property
    def cadence(self) -> Cadence:
        """How often it has a partition."""
        return CADENCES[self.partitions]

    @property
    def delay(self) -> dt.timedelta:
        """How long after its period has ended a partition is complete."""
        return self.lag * self.cadence.period

    @property
    def first(self) -> str | None:
        """Key of the first partition; None of an asset that has none."""
        return None if self.first_day is None else self.cadence.of_days(self.first_day, self.first_day)[0]

    @property
    def last(self) -> str | None:
        """Key of the last partition; None of an asset that has none, or goes on."""
        return None if self.last_day is None else self.cadence.of_days(self.last_day, self.last_day)[1]

    def newest(self, time: dt.datetime) -> str:
        """The newest partition that is complete at a time, if the asset has it."""
        return self.cadence.key(time - self.delay - self.cadence.period)

    def clip(self, keys: Range) -> Range | None:
        """The partitions of this asset that share time with a range of partitions, whatever their cadence."""
        if self.first is None or keys[0] > keys[1]:
            return None
        covering = self.cadence.covering(keys)
        first, last = max(covering[0], self.first), min(covering[1], self.last or covering[1])
        return (first, last) if first <= last else None


@dataclass(frozen=True)
class Lineage:
    """The declared graph: every asset by key."""

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])

    def node(self, key: str) -> Node:
        return self.nodes[key]

    def direct_partitions(self, key: str, keys: Range) -> dict[str, Range]:
        """What a range of partitions of an asset reads itself: partitioned upstream assets with the range read."""
        read: dict[str, Range] = {}
        for upstream in self.nodes[key].upstream:
            node = self.nodes.get(upstream.key)
            found = None if node is None else node.clip(upstream.read_by(keys))
            if found is not None:
                read[upstream.key] = found
        return read

    def upstream_partitions(self, key: str, partition: str) -> dict[str, Range]:
        """Every upstream asset, transitively, with the covering range of partitions that a partition depends on.

        Where two ways lead to one asset the ranges are joined. Assets without partitions are left out.
        """
        reached: dict[str, Range] = {}
        pending: list[tuple[str, Range]] = [(key, (partition, partition))]
        while pending:
            current, keys = pending.pop()
            for upstream in self.nodes[current].upstream:
                node = self.nodes.get(upstream.key)
                wanted = None if node is None else node.clip(upstream.read_by(keys))
                if wanted is None:
                    continue
                known = reached.get(upstream.key)
                joined = wanted if known is None else (min(known[0], wanted[0]), max(known[1], wanted[1]))
                if joined != known:
                    reached[upstream.key] = joined
                    pending.append((upstream.key, joined))
        return reached
