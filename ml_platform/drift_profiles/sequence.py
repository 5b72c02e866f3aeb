"""Which days a day is compared with, and when a breach fails it: a function of the days' rows and of what was accepted.

Only days on which nothing breached are references. So a day that breached and passed, because a breach has to
last for some days to fail one, is none: otherwise what drifts would become its own measure before it is found.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from ml_platform.drift_profiles.compute import (
    DriftDecision,
    FeatureDrift,
    RollingReference,
    breaches,
    decide,
    rows_of,
)
from ml_platform.drift_profiles.distances import Sample
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import day as date_of

Columns = Mapping[str, np.ndarray]
Read = Callable[[Sequence[str]], Mapping[str, Columns]]


@dataclass(frozen=True)
class PastDay:
    """What later days need to know of a judged day: its verdict, what breached, and of which content."""

    status: Literal["passed", "failed", "not_judged"]
    breached: frozenset[str] = frozenset()
    content: str = ""


class Acceptance(Protocol):
    """What people let through: the content that they saw, and whether it began a new regime."""

    @property
    def judged(self) -> str: ...
    @property
    def new_regime(self) -> bool: ...


@dataclass(frozen=True)
class LetThrough:
    """The acceptances of an asset's days. Other content in a day's place was accepted by nobody, and begins nothing."""

    by_day: Mapping[str, Acceptance] = field(default_factory=dict[str, Acceptance])

    def lets(self, day: str, content: str) -> bool:
        """Was this content of a day accepted?"""
        found = self.by_day.get(day)
        return found is not None and found.judged == content

    def begins(self, day: str, content: str) -> bool:
        """Did this content of a day begin a new regime?"""
        return self.lets(day, content) and self.by_day[day].new_regime


@dataclass(frozen=True)
class Verdict:
    """What was found of a day, and the days that it was compared with, oldest first."""

    decision: DriftDecision
    reference: tuple[str, ...]


class DaySequence:
    """Judges days in order. A verdict follows from the policy, the days before it and what was let through.

    - A reference is the last `reference_days` days without a breach; for the features of `same_weekday` the last
      `same_weekday_days` of the day's weekday. With a `fixed_reference` it is the days without a breach in that
      window, and days up to its end are not judged. Failed days never enter, accepted or not.
    - A day that began a new regime is judged like any other; for later days it is the first of a reference that
      judges with fewer days until there are enough.
    - A feature fails a day when it breached on the last `consecutive` judged days in a row, this one included.
      Days that were accepted or not judged neither lengthen the row nor end it; a new regime ends it.

    `read` gives the rows of days before the first; of the days that are remembered, the rows are kept.
    """

    def __init__(
        self, policy: DriftPolicy, past: Mapping[str, PastDay], let_through: LetThrough, *, read: Read
    ) -> None:
        self._policy = policy
        self._past = dict(sorted(past.items()))
        self._let_through = let_through
        self._read = read
        self._rows: dict[str, Columns] = {}
        self._pools: dict[int | None, RollingReference] = {}
        self._compared_with: dict[str, Sample] = {}

    @property
    def compared_with(self) -> Mapping[str, Sample]:
        """The reference's rows by feature, of the day that was judged last; none of what could not be judged."""
        return self._compared_with

    def judge(self, day: str, columns: Columns) -> Verdict:
        """Judge a day that comes after all that are remembered; it is not remembered itself."""
        self._require_later(day)
        decision, reference = self._compared(day, columns)
        if decision.status != "failed":
            return Verdict(decision, reference)
        features = tuple(self._counted(day, drift) for drift in decision.features)
        lasting = any(drift.days_in_row >= self._policy.consecutive for drift in features)
        status = "failed" if lasting else "passed"
        return Verdict(
            replace(decision, status=status, reason=breaches(features), features=features), reference
        )

    def remember(self, day: str, columns: Columns, decision: DriftDecision, *, content: str = "") -> None:
        """Let a judged day count for the days after it."""
        self._require_later(day)
        breached = frozenset(drift.feature for drift in decision.features if drift.breached)
        self._past[day] = PastDay(decision.status, breached, content)
        self._rows[day] = columns

    def reference_days(self, day: str, *, same_weekday: bool = False) -> tuple[str, ...]:
        """The days that a day is compared with, oldest first; for a fixed reference none before it is complete."""
        start, window = self._regime(day), self._policy.fixed_reference
        eligible = [
            found
            for found, past in self._past.items()
            if start <= found < day
            and (
                not (past.status == "failed" or past.breached)
                or self._let_through.begins(found, past.content)
            )
            and not (same_weekday and _weekday(found) != _weekday(day))
        ]
        if window is not None and start <= window[1]:
            return tuple(d for d in eligible if window[0] <= d <= window[1] < day)
        return tuple(eligible[-self._limit(same_weekday=same_weekday) :])

    def _compared(self, day: str, columns: Columns) -> tuple[DriftDecision, tuple[str, ...]]:
        """Compare each group of features with its own reference, then decide on all of them together."""
        measured, lacking = list[FeatureDrift](), list[str]()
        reference, reference_rows = set[str](), 0
        self._compared_with = {}
        for same_weekday, group in self._groups(columns).items():
            days = self.reference_days(day, same_weekday=same_weekday)
            reason = self._too_few(day, days, same_weekday=same_weekday)
            pool = None if reason else self._pool(days, list(group), _weekday(day) if same_weekday else None)
            if pool is not None:
                reason = pool.lacking(rows_of(columns))
                reference_rows = max(reference_rows, pool.rows)
            if pool is None or reason:
                lacking.append(reason)
                continue
            measured += pool.measure(group)
            self._compared_with |= pool.pooled()
            reference |= set(days)
        if not measured:
            return DriftDecision("not_judged", "; ".join(lacking), rows_of(columns), reference_rows), ()
        order = list(columns)
        measured.sort(key=lambda drift: order.index(drift.feature))
        decision = decide(measured, policy=self._policy, rows=rows_of(columns), reference_rows=reference_rows)
        if lacking and decision.status == "passed":
            decision = replace(decision, reason=f"{decision.reason}; the other features: {lacking[0]}")
        return decision, tuple(sorted(reference))

    def _groups(self, columns: Columns) -> dict[bool, Columns]:
        """The columns of features that are compared with any day, and of those with days of their weekday only."""
        ids = {name: columns[name] for name in columns if name in self._policy.id_columns}
        found: dict[bool, Columns] = {}
        for same_weekday in (False, True):
            mine = {
                name: values
                for name, values in columns.items()
                if name not in ids and (name in self._policy.same_weekday) == same_weekday
            }
            if mine:
                found[same_weekday] = {**mine, **ids}
        return found

    def _too_few(self, day: str, days: Sequence[str], *, same_weekday: bool) -> str:
        """Why a day is not judged against so few days; empty when they are enough."""
        start, window = self._regime(day), self._policy.fixed_reference
        if window is not None and start <= window[1]:
            return "" if days else f"no reference yet: it is the accepted days {window[0]} … {window[1]}"
        least = 1 if start else self._limit(same_weekday=same_weekday)
        of_weekday = " of the same weekday" if same_weekday else ""
        return (
            ""
            if len(days) >= least
            else f"no reference yet: {len(days)} of {least} accepted days{of_weekday}"
        )

    def _pool(self, days: tuple[str, ...], names: list[str], slot: int | None) -> RollingReference:
        """A reference of exactly these days: the one before, with the next day let in, or a new one."""
        pool = self._pools.get(slot)
        if pool is not None and days == pool.days:
            return pool
        limit = max(len(days), self._limit(same_weekday=slot is not None))
        entering = days[-1:]
        if pool is None or pool.limit != limit or days != (*pool.days, *entering)[-limit:]:
            self._pools[slot] = pool = RollingReference(replace(self._policy, reference_days=limit))
            entering = days
        for day, columns in self._rows_of(entering).items():
            pool.accept(day, {name: columns[name] for name in names})
        return pool

    def _rows_of(self, days: Sequence[str]) -> dict[str, Columns]:
        unread = [day for day in days if day not in self._rows]
        if unread:
            self._rows.update(self._read(unread))
        lost = [day for day in unread if day not in self._rows]
        if lost:
            raise InputError(
                f"{', '.join(lost)}: a reference with stored rows is required; there are none. Nothing was "
                "judged; materialize these days of the profile again"
            )
        return {day: self._rows[day] for day in days}

    def _counted(self, day: str, drift: FeatureDrift) -> FeatureDrift:
        """A feature's drift with how many judged days in a row it has breached."""
        if not drift.breached or self._policy.consecutive == 1:
            return drift
        start, in_row = self._regime(day), 1
        for found, past in reversed(self._past.items()):
            if not start <= found < day:
                break
            if past.status == "not_judged" or self._let_through.lets(found, past.content):
                continue
            if drift.feature not in past.breached:
                break
            in_row += 1
        reason = f"{drift.reason}, {in_row} in a row ({self._policy.consecutive} fail a day)"
        return replace(drift, days_in_row=in_row, reason=reason)

    def _regime(self, day: str) -> str:
        """The newest day before a day that began a new regime; empty without one."""
        begun = (d for d, past in self._past.items() if d < day and self._let_through.begins(d, past.content))
        return max(begun, default="")

    def _limit(self, *, same_weekday: bool) -> int:
        return self._policy.same_weekday_days if same_weekday else self._policy.reference_days

    def _require_later(self, day: str) -> None:
        last = next(reversed(self._past), "")
        if day <= last:
            raise InputError(f"Days are judged in order: one after {last} is required; got {day}")


def _weekday(day: str) -> int:
    return date_of(day).weekday()
