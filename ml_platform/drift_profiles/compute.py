"""Says whether one day's rows look like the days accepted before it.

A day is judged alone, because inside a month one bad day drowns. A feature breaches only when its distance is
both large (a bound on the effect) and significant (Holm over all tests of the day): with thousands of rows a
difference that nobody need act on is significant too, and with few rows a large one is luck.
"""

from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ml_platform.drift_profiles.distances import (
    Sample,
    holm,
    missing_p_value,
    read_categories,
    read_numbers,
    require_columns,
)
from ml_platform.drift_profiles.entities import RowNumbers
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.kernel.errors import InputError


@dataclass(frozen=True)
class FeatureDrift:
    """One feature of one day against its reference; shares and distances are between 0 and 1."""

    feature: str
    kind: Literal["number", "category"]
    statistic_name: Literal["ks", "total_variation"]
    statistic: float
    p_value: float
    p_adjusted: float | None  # Holm; none when the feature is not gated
    bound: float
    missing_share: float
    reference_missing_share: float
    missing_p_value: float | None  # none when nothing, or everything, is missing on both sides
    missing_p_adjusted: float | None
    psi: float  # for the report only
    gated: bool
    breached: bool
    reason: str
    days_in_row: int = 0  # judged days in a row on which it breached, this one included


@dataclass(frozen=True)
class DriftDecision:
    """The verdict on a day, with every feature's numbers; `features` is empty when the day was not judged."""

    status: Literal["passed", "failed", "not_judged"]
    reason: str
    rows: int
    reference_rows: int
    features: tuple[FeatureDrift, ...] = ()


def judge(
    day: Mapping[str, np.ndarray], reference: Sequence[Mapping[str, np.ndarray]], *, policy: DriftPolicy
) -> DriftDecision:
    """Judge one day against the last `policy.reference_days` accepted days, given oldest first.

    Every mapping holds the same features as arrays of one length per day: numbers with NaN for missing,
    categories (`policy.categories`) as codes or strings with None or NaN for missing; and the columns of ids
    that `policy.entity_of` names, of any type; a row with None or NaN there counts for itself. The answer
    depends on nothing else. With fewer reference days or rows than the policy asks for, the day is
    `not_judged`. Raises InputError when the days differ in features or an array is not what its kind says.
    """
    rolling = RollingReference(policy)
    for key, columns in enumerate(reference[-policy.reference_days :]):
        rolling.accept(key, columns)
    return rolling.judge(day)


class RollingReference:
    """The last accepted days, kept sorted, so that judging a range of days does not sort a month for each.

    Answers are bit for bit those of `judge` on the same days: statistics come from integer counts, which do
    not depend on how the reference was put together. The caller decides which days enter. It holds every
    number of its days twice: 28 days of 15 features and 9,600 rows are 45 MB.
    """

    def __init__(self, policy: DriftPolicy) -> None:
        self._policy = policy
        self._days: deque[tuple[Hashable, dict[str, Sample]]] = deque()
        self._pooled: dict[str, Sample] | None = None
        self._entities = {columns: RowNumbers(columns) for columns in policy.entity_of.values()}

    @property
    def limit(self) -> int:
        """Days that it holds at most."""
        return self._policy.reference_days

    @property
    def days(self) -> tuple[Hashable, ...]:
        """Keys of the days that are the reference now, oldest first."""
        return tuple(key for key, _ in self._days)

    def accept(self, day_key: Hashable, day: Mapping[str, np.ndarray]) -> None:
        """Let a day into the reference; the oldest leaves when there are more than `reference_days`."""
        samples = self._samples(day)
        if day_key in self.days:
            raise InputError(
                f"A reference needs different days, got {day_key!r} again: it would count twice. "
                "Accept each day once."
            )
        self._require_same_features(samples)
        self._days.append((day_key, samples))
        leaving = self._days.popleft()[1] if len(self._days) > self._policy.reference_days else None
        if self._pooled is not None:
            kept = (
                {f: pooled.minus(leaving[f]) for f, pooled in self._pooled.items()}
                if leaving
                else self._pooled
            )
            self._pooled = {f: pooled.plus(samples[f]) for f, pooled in kept.items()}

    @property
    def rows(self) -> int:
        """Rows of all days that are the reference now."""
        return sum(_rows(accepted) for _, accepted in self._days)

    def judge(self, day: Mapping[str, np.ndarray]) -> DriftDecision:
        """Judge a day against the reference as it is now; the day does not enter it."""
        rows, days = rows_of(day), len(self._days)
        if days < self._policy.reference_days:
            reason = f"no reference yet: {days} of {self._policy.reference_days} accepted days"
            return DriftDecision("not_judged", reason, rows, self.rows)
        lacking = self.lacking(rows)
        if lacking:
            return DriftDecision("not_judged", lacking, rows, self.rows)
        return decide(self.measure(day), policy=self._policy, rows=rows, reference_rows=self.rows)

    def lacking(self, rows: int) -> str:
        """Why a day of so many rows cannot be measured against the reference as it is now; empty when it can."""
        least = self._policy.minimum_sample
        if min(rows, self.rows) >= least:
            return ""
        return f"{rows} rows against {self.rows}: {least} are needed on each side"

    def measure(self, day: Mapping[str, np.ndarray]) -> list[FeatureDrift]:
        """Measure every feature of a day against the reference; `decide` says which of them breach."""
        samples = self._samples(day)
        self._require_same_features(samples)
        reference = self._pool()
        return [_compare(feature, samples[feature], reference[feature], self._policy) for feature in samples]

    def pooled(self) -> Mapping[str, Sample]:
        """All rows of the reference days as they are now, by feature; nothing before a day was accepted."""
        return self._pool() if self._days else {}

    def _samples(self, day: Mapping[str, np.ndarray]) -> dict[str, Sample]:
        policy = self._policy
        features = [name for name in day if name not in policy.id_columns]
        named = {name: policy.entity_of[name] for name in features if name in policy.entity_of}
        _require_ids(day, {column for columns in named.values() for column in columns})
        require_columns(day if features else {})
        ids = {columns: self._entities[columns].of(day) for columns in set(named.values())}
        entities = {name: ids.get(named.get(name, ())) for name in features}
        return {
            name: read_categories(day[name], entities=entities[name])
            if name in policy.categories
            else read_numbers(day[name], feature=name, entities=entities[name])
            for name in features
        }

    def _pool(self) -> dict[str, Sample]:
        if self._pooled is None:
            (_, first), *others = self._days
            self._pooled = {f: sample.plus(*(day[f] for _, day in others)) for f, sample in first.items()}
        return self._pooled

    def _require_same_features(self, samples: Mapping[str, Sample]) -> None:
        if self._days and samples.keys() != self._days[-1][1].keys():
            differ = sorted(samples.keys() ^ self._days[-1][1].keys())
            raise InputError(
                f"Drift needs the same features on every day, but {differ} are not on both sides: "
                "nothing was compared. Read all days with the same list of features."
            )


def decide(
    measured: Sequence[FeatureDrift], *, policy: DriftPolicy, rows: int, reference_rows: int
) -> DriftDecision:
    """Say which of the measured features breach, and so whether the day fails."""
    features = _with_verdicts(measured, policy=policy)
    breached = breaches(features)
    status = "failed" if breached else "passed"
    return DriftDecision(status, breached or "within bounds", rows, reference_rows, features)


def breaches(features: Sequence[FeatureDrift]) -> str:
    """The features that breach, in words; empty without any."""
    return "; ".join(f"{drift.feature}: {drift.reason}" for drift in features if drift.breached)


def rows_of(day: Mapping[str, np.ndarray]) -> int:
    """Rows of a day's columns."""
    return len(next(iter(day.values()), ()))


def _rows(samples: Mapping[str, Sample]) -> int:
    return next(iter(samples.values())).rows


def _require_ids(day: Mapping[str, np.ndarray], columns: set[str]) -> None:
    missing = sorted(columns - day.keys())
    if missing:
        raise InputError(
            f"Drift needs the entity ids of rows, but columns {missing} are not among {sorted(day)}: which "
            "rows are independent is not known. Read the day with its id columns."
        )


def _compare(feature: str, day: Sample, reference: Sample, policy: DriftPolicy) -> FeatureDrift:
    """Measure one feature; whether it breaches is known when all features are measured."""
    is_category = day.kind == "category"
    statistic, p_value = day.distance(reference)
    return FeatureDrift(
        feature=feature,
        kind=day.kind,
        statistic_name="total_variation" if is_category else "ks",
        statistic=statistic,
        p_value=p_value,
        p_adjusted=None,
        bound=policy.total_variation_bound if is_category else policy.ks_bound,
        missing_share=day.missing_share,
        reference_missing_share=reference.missing_share,
        missing_p_value=missing_p_value(day, reference),
        missing_p_adjusted=None,
        psi=day.psi(reference),
        gated=feature not in policy.calendar,
        breached=False,
        reason="calendar: measured, not gated",
    )


def _with_verdicts(measured: Sequence[FeatureDrift], *, policy: DriftPolicy) -> tuple[FeatureDrift, ...]:
    """Adjust the p-values of all tests of gated features together, then say which features breach."""
    gated = [drift for drift in measured if drift.gated]
    tested_missing = [drift for drift in gated if drift.missing_p_value is not None]
    p_values = [drift.p_value for drift in gated] + [drift.missing_p_value or 0.0 for drift in tested_missing]
    adjusted = holm(p_values)
    of_values = {drift.feature: p for drift, p in zip(gated, adjusted, strict=False)}
    of_missing = {drift.feature: p for drift, p in zip(tested_missing, adjusted[len(gated) :], strict=True)}
    return tuple(
        _verdict(
            replace(
                drift, p_adjusted=of_values[drift.feature], missing_p_adjusted=of_missing.get(drift.feature)
            ),
            policy=policy,
        )
        if drift.gated
        else drift
        for drift in measured
    )


def _verdict(drift: FeatureDrift, *, policy: DriftPolicy) -> FeatureDrift:
    change = abs(drift.missing_share - drift.reference_missing_share)
    name = drift.statistic_name.replace("_", " ")
    tests = [
        (f"{name} {drift.statistic:.4f}", drift.statistic, drift.bound, drift.p_adjusted),
        (
            f"missing share {drift.missing_share:.4f} against {drift.reference_missing_share:.4f}",
            change,
            policy.missing_bound,
            drift.missing_p_adjusted,
        ),
    ]
    far = [(what, bound, p) for what, effect, bound, p in tests if effect > bound and p is not None]
    breached = [
        f"{what} (bound {bound:g}, adjusted p {p:.2g})" for what, bound, p in far if p < policy.p_value
    ]
    by_chance = [
        f"{what} is beyond {bound:g} but may be chance (adjusted p {p:.2g})" for what, bound, p in far
    ]
    reason = ", ".join(breached) or ", ".join(by_chance) or "within bounds"
    return replace(drift, breached=bool(breached), reason=reason, days_in_row=int(bool(breached)))
