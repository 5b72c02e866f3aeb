"""Which partitions of which assets an asset reads: declared once, used for the graph and for the gates.

Asset keys are text here (`features/NAME`), partitions are days; no orchestrator is known.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ml_platform.kernel.partitions import ONE_DAY

Days = tuple[dt.date, dt.date]


@dataclass(frozen=True)
class Upstream:
    """One dependency. Partition `d` reads the upstream's days `d + first … d + last`.

    `latest` reads the newest partition instead; an upstream without partitions needs no offsets. Of an upstream
    with a created time, what was known at the midnight that ends `d` is read. With `whole`, so is what became
    known of day `d` itself later; with `keys`, so is every value of that column since the upstream's first day.
    With `latest_truth`, what is known of its days by now is read, whenever that became known. What is not `awaited` is
    read as it is: nothing that is made on its own waits until it was made again.
    """

    key: str
    first: int = 0
    last: int = 0
    latest: bool = False
    whole: bool = False
    keys: str | None = None
    latest_truth: bool = False
    awaited: bool = True


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
    `lag_days` after its day has ended (labels that mature late). `references` never change a row: a partition is
    not stale when they change, and what follows waits for the verdict on the partition, not for theirs.
    `reporting_checks` are told to people, and hold nothing up.
    """

    key: str
    first_day: dt.date | None = None
    last_day: dt.date | None = None
    lag_days: int = 0
    upstream: tuple[Upstream, ...] = ()
    references: tuple[Upstream, ...] = ()
    blocking_checks: tuple[Check, ...] = ()
    reporting_checks: tuple[Check, ...] = ()

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

    def clip(self, days: Days) -> Days | None:
        """The part of a range of days that this asset has partitions for."""
        if self.first_day is None:
            return None
        first, last = max(days[0], self.first_day), min(days[1], self.last_day or days[1])
        return (first, last) if first <= last else None


@dataclass(frozen=True)
class Lineage:
    """The declared graph: every asset by key."""

    nodes: Mapping[str, Node] = field(default_factory=dict[str, Node])

    def node(self, key: str) -> Node:
        return self.nodes[key]

    def direct_days(self, key: str, days: Days) -> dict[str, Days]:
        """What a range of days of an asset reads itself: partitioned upstream assets with the days read."""
        read: dict[str, Days] = {}
        for upstream in self.nodes[key].upstream:
            node = self.nodes.get(upstream.key)
            found = None if node is None else node.clip(_shift(days, upstream))
            if found is not None:
                read[upstream.key] = found
        return read

    def upstream_days(self, key: str, day: dt.date) -> dict[str, Days]:
        """Every upstream asset, transitively, with the covering range of days that partition `day` depends on.

        Where two ways lead to one asset the ranges are joined. Assets without partitions are left out.
        """
        reached: dict[str, Days] = {}
        pending: list[tuple[str, Days]] = [(key, (day, day))]
        while pending:
            current, days = pending.pop()
            for upstream in self.nodes[current].upstream:
                node = self.nodes.get(upstream.key)
                wanted = None if node is None else node.clip(_shift(days, upstream))
                if wanted is None:
                    continue
                known = reached.get(upstream.key)
                joined = wanted if known is None else (min(known[0], wanted[0]), max(known[1], wanted[1]))
                if joined != known:
                    reached[upstream.key] = joined
                    pending.append((upstream.key, joined))
        return reached


def _shift(days: Days, upstream: Upstream) -> Days:
    return days[0] + upstream.first * ONE_DAY, days[1] + upstream.last * ONE_DAY
