"""Drift statistics against slow or independent ways to compute the same thing."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ml_platform.drift_profiles.compute import RollingReference, judge
from ml_platform.drift_profiles.distances import (
    effective_size,
    holm,
    kolmogorov_smirnov,
    missing_p_value,
    read_numbers,
    total_variation,
)
from ml_platform.drift_profiles.entities import EntityNumbers
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.profile import merge, profile_columns, summary
from ml_platform.drift_profiles.sequence import DaySequence, LetThrough, PastDay
from ml_platform.training_sets.label_drift import rate_p_value

FEW_VALUES = st.integers(-3, 3).map(float)  # ties within and across samples
ANY_VALUE = st.floats(width=32, allow_nan=False)
MAYBE_MISSING = st.one_of(FEW_VALUES, st.just(float("nan")), st.floats(-100, 100, width=32))


def numbers(elements: st.SearchStrategy[float], most: int = 40) -> st.SearchStrategy[np.ndarray]:
    return arrays(np.float32, st.integers(1, most), elements=elements)


@given(day=numbers(FEW_VALUES | ANY_VALUE), reference=numbers(FEW_VALUES | ANY_VALUE))
@settings(deadline=None)
def test_ks_is_that_of_scipy_with_ties_too(day: np.ndarray, reference: np.ndarray) -> None:
    from scipy.stats import ks_2samp, kstwobign

    assume(len(day) + len(reference) > 2)  # scipy divides by zero on one value against one
    statistic, p_value = kolmogorov_smirnov(np.sort(day), np.sort(reference))
    assert statistic == pytest.approx(ks_2samp(day, reference, method="asymp")[0], abs=1e-12)
    size = len(day) * len(reference) / (len(day) + len(reference))
    assert p_value == pytest.approx(kstwobign.sf(sqrt(size) * statistic), rel=1e-9, abs=1e-15)


@given(p_values=st.lists(st.floats(0, 1), max_size=8), level=st.floats(0.001, 0.999))
@example(p_values=[0.01, 0.01, 0.01], level=0.03)
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float], level: float) -> None:
    rejected: set[int] = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if (len(p_values) - step) * p_values[index] > level:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(holm(p_values)) if p <= level} == rejected


counts = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 400), min_size=1)


@given(day=counts, reference=counts)
def test_total_variation_is_half_the_summed_difference_of_shares(
    day: dict[str, int], reference: dict[str, int]
) -> None:
    n, m = sum(day.values()), sum(reference.values())
    shares = [abs(Fraction(day.get(k, 0), n) - Fraction(reference.get(k, 0), m)) for k in {*day, *reference}]
    statistic, p_value = total_variation(day, reference)
    assert statistic == float(sum(shares) / 2)
    assert 0 <= p_value <= 1


@given(table=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 400)), min_size=2, max_size=9))
@example(table=[(100, 100), (100, 100), (0, 4), (4, 0), (1, 2)])
@settings(deadline=None)
def test_the_p_value_of_categories_is_that_of_scipys_table_with_the_rare_ones_as_one(
    table: list[tuple[int, int]],
) -> None:
    from scipy.stats.contingency import chi2_contingency, expected_freq

    assume(sum(day for day, _ in table))
    day, reference = ({str(i): pair[side] for i, pair in enumerate(table)} for side in (0, 1))
    observed = np.array(table)
    rare = (expected_freq(observed).round(9) < 5).any(axis=1)
    pooled = [*observed[~rare], observed[rare].sum(axis=0)] if rare.any() else observed
    expected = chi2_contingency(np.array(pooled), correction=False)[1] if len(pooled) > 1 else 1.0
    assert total_variation(day, reference)[1] == pytest.approx(expected, rel=1e-9, abs=1e-300)


@given(day=numbers(MAYBE_MISSING), reference=numbers(MAYBE_MISSING))
def test_missing_shares_are_compared_by_a_pooled_z_test(day: np.ndarray, reference: np.ndarray) -> None:
    p_value = missing_p_value(read_numbers(day, feature="f"), read_numbers(reference, feature="f"))
    pooled = float(np.isnan(np.concatenate([day, reference])).mean())
    if pooled in (0, 1):
        assert p_value is None
        return
    deviation = sqrt(pooled * (1 - pooled) * (1 / len(day) + 1 / len(reference)))
    z = float(np.isnan(day).mean() - np.isnan(reference).mean()) / deviation
    assert p_value == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=1e-6, abs=1e-12)


@st.composite
def days(draw: st.DrawFn) -> list[dict[str, np.ndarray]]:
    drawn = []
    for _ in range(draw(st.integers(4, 9))):
        rows = draw(st.integers(1, 25))
        dtype = draw(st.sampled_from([np.float32, np.float64]))
        codes = st.sampled_from(["a", "b", "c", None])
        drawn.append(
            {
                "number": draw(arrays(dtype, rows, elements=MAYBE_MISSING)),
                "flag": draw(arrays(np.bool_, rows)),
                "category": draw(arrays(object, rows, elements=codes)),
                "customer": draw(arrays(object, rows, elements=st.sampled_from([7, 8, 9, None]))),
            }
        )
    return drawn


@given(days=days(), refused=st.sets(st.integers(0, 8)))
@settings(deadline=None)
def test_a_rolling_reference_judges_as_if_each_day_were_judged_alone(
    days: list[dict[str, np.ndarray]], refused: set[int]
) -> None:
    policy = DriftPolicy(
        reference_days=3,
        minimum_sample=2,
        p_value=0.3,
        categories=frozenset({"category"}),
        entity_of={"number": ("customer",), "category": ("customer",)},
    )
    rolling, accepted = RollingReference(policy), []
    for key, day in enumerate(days):
        assert rolling.judge(day) == judge(day, accepted, policy=policy)
        if key not in refused:
            rolling.accept(key, day)
            accepted.append(day)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """Twelve to twenty days, some far away, some accepted, under any rule for which days are compared."""
    count = draw(st.integers(12, 20))
    keys = [(date(2018, 6, 4) + timedelta(days=n)).isoformat() for n in range(count)]
    far = draw(st.sets(st.integers(0, count - 1), max_size=8))
    rows = {
        key: {"number": np.arange(9.0) + (20 if n in far else n % 3), "flag": np.arange(9.0) % (1 + n % 2)}
        for n, key in enumerate(keys)
    }
    accepted = draw(
        st.dictionaries(st.sampled_from(keys), st.tuples(st.booleans(), st.booleans()), max_size=4)
    )
    window = draw(st.none() | st.tuples(st.integers(0, 3), st.integers(3, 8)))
    policy = DriftPolicy(
        reference_days=draw(st.integers(1, 5)),
        minimum_sample=1,
        p_value=0.3,
        consecutive=draw(st.integers(1, 3)),
        same_weekday=draw(st.sampled_from([frozenset[str](), frozenset({"number", "flag"})])),
        same_weekday_days=draw(st.integers(1, 2)),
        fixed_reference=window and (keys[window[0]], keys[window[1]]),
    )
    return {"policy": policy, "rows": rows, "accepted": accepted}


def _judged_by_the_rules(
    policy: DriftPolicy, rows: dict[str, Any], accepted: dict[str, tuple[bool, bool]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Status and reference of each day, from the rules read literally, with nothing kept but verdicts."""
    verdicts: dict[str, tuple[str, set[str]]] = {}
    for day, columns in rows.items():
        regimes = [d for d in verdicts if accepted.get(d) == (True, True)]
        since = regimes[-1] if regimes else ""
        weekday = bool(policy.same_weekday)
        good = [
            d for d, (status, breached) in verdicts.items() if d >= since and (not breached or d in regimes)
        ]
        if weekday:
            good = [d for d in good if (date.fromisoformat(day) - date.fromisoformat(d)).days % 7 == 0]
        least = count = policy.same_weekday_days if weekday else policy.reference_days
        if policy.fixed_reference and since <= policy.fixed_reference[1]:
            first, last = policy.fixed_reference
            good, least, count = [d for d in good if first <= d <= last] if day > last else [], 1, 99
        elif since:
            least = 1
        reference = good[-count:] if len(good) >= least else []
        status, breached = "not_judged", set[str]()
        if reference:
            alone = replace(policy, reference_days=len(reference))
            decision = judge(columns, [rows[d] for d in reference], policy=alone)
            breached = {f.feature for f in decision.features if f.breached}
            status = "passed"
            for feature in breached:
                told = [
                    feature in verdicts[d][1]
                    for d in verdicts
                    if d >= since and verdicts[d][0] != "not_judged" and not accepted.get(d, (False,))[0]
                ]
                in_row = [True, *told[::-1], False].index(False)
                status = "failed" if in_row >= policy.consecutive else status
        verdicts[day] = status, breached
        yield status, tuple(reference)


@given(world=worlds(), split=st.integers(0, 20))
@settings(deadline=None, max_examples=150)
def test_a_sequence_of_days_is_judged_by_the_rules_whatever_was_judged_in_a_run_before(
    world: dict[str, Any], split: int
) -> None:
    policy, rows, accepted = world["policy"], world["rows"], world["accepted"]
    let_through = LetThrough(
        {key: _Accepted(key if same else "other", regime) for key, (same, regime) in accepted.items()}
    )
    past: dict[str, PastDay] = {}
    found: list[tuple[str, tuple[str, ...]]] = []
    for keys in (list(rows)[:split], list(rows)[split:]):
        sequence = DaySequence(policy, past, let_through, read=lambda wanted: {d: rows[d] for d in wanted})
        for key in keys:
            verdict = sequence.judge(key, rows[key])
            sequence.remember(key, rows[key], verdict.decision, content=key)
            breached = frozenset(f.feature for f in verdict.decision.features if f.breached)
            past[key] = PastDay(verdict.decision.status, breached, key)
            found.append((verdict.decision.status, verdict.reference))
    assert found == list(_judged_by_the_rules(policy, rows, accepted))


@dataclass(frozen=True)
class _Accepted:
    judged: str
    new_regime: bool


ids = st.integers(-3, 12) | st.integers(2**22 - 1, 2**22 + 1) | st.just(2**53 + 1)
days_of_ids = st.lists(st.lists(ids | st.none(), min_size=1, max_size=12), min_size=1, max_size=6)


@given(days=days_of_ids, text=st.booleans())
def test_an_entity_has_one_number_on_all_days_however_its_ids_are_stored(
    days: list[list[int | None]], text: bool
) -> None:
    known, numbers = EntityNumbers(), dict[int | str | None, set[int]]()
    for day in days:
        values = [value if value is None or not text else str(value) for value in day]
        column = np.array(values, dtype=object if None in values else None)
        for value, number in zip(values, known.of(column).tolist(), strict=True):
            numbers.setdefault(value, set()).add(number)
    assert all(len(found) == 1 for found in numbers.values())
    distinct = sorted(number for value, (number,) in numbers.items() if value is not None)
    assert distinct == list(range(1, len(distinct) + 1))
    assert numbers.get(None, {0}) == {0}


cluster_rows = st.lists(st.integers(1, 50), max_size=12)


@given(rows=cluster_rows, alone=st.integers(0, 20), times=st.integers(1, 9))
def test_the_effective_size_is_kishs_and_repeating_every_row_adds_nothing(
    rows: list[int], alone: int, times: int
) -> None:
    sizes = [*rows, *[1] * alone]
    size = effective_size(np.array(rows, np.int64), alone=alone)
    if not sizes:
        assert size == 0
        return
    assert size == float(Fraction(sum(sizes) ** 2, sum(m * m for m in sizes)))
    assert 1 <= size <= len(sizes)  # as many as clusters when all are of one size
    assert (size == len(sizes)) == (len(set(sizes)) == 1)
    assert effective_size(np.array(sizes) * times) == size


@given(days=days())
@settings(deadline=None)
def test_the_effective_sizes_of_a_judgement_are_those_of_the_rows_with_a_value_and_of_all(
    days: list[dict[str, np.ndarray]],
) -> None:
    *accepted, day = days
    policy = DriftPolicy(
        reference_days=len(accepted),
        minimum_sample=1,
        categories=frozenset({"category"}),
        entity_of={"number": ("customer",), "category": ("customer",)},
    )
    pooled = {f: np.concatenate([past[f] for past in accepted]) for f in day}
    n, m = (_kish(columns, "number", present=True) for columns in (day, pooled))
    drift = next(f for f in judge(day, accepted, policy=policy).features if f.feature == "number")
    values = [np.sort(columns["number"][~np.isnan(columns["number"])]) for columns in (day, pooled)]
    assert drift.p_value == kolmogorov_smirnov(*values, sizes=(n, m))[1]
    n, m = (_kish(columns, "number", present=False) for columns in (day, pooled))
    if drift.missing_p_value is not None:
        shares = [float(np.isnan(columns["number"]).mean()) for columns in (day, pooled)]
        share = (shares[0] * n + shares[1] * m) / (n + m)
        z = (shares[0] - shares[1]) / sqrt(share * (1 - share) * (1 / n + 1 / m))
        assert drift.missing_p_value == pytest.approx(2 * NormalDist().cdf(-abs(z)), rel=1e-6, abs=1e-12)


def _kish(columns: dict[str, np.ndarray], feature: str, *, present: bool) -> float:
    """Count row by row, rows without an id as clusters of their own."""
    clusters: Counter[object] = Counter()
    for row, (customer, value) in enumerate(zip(columns["customer"], columns[feature], strict=True)):
        if not (present and np.isnan(value)):
            clusters[("row", row) if customer is None else customer] += 1
    return float(Fraction(clusters.total() ** 2, sum(m * m for m in clusters.values()) or 1))


@given(day=counts, reference=counts, times=st.integers(1, 9))
def test_categories_that_are_counted_again_are_no_more_surprising(
    day: dict[str, int], reference: dict[str, int], times: int
) -> None:
    distance, p_value = total_variation(day, reference)
    again = [{key: times * rows for key, rows in side.items()} for side in (day, reference)]
    sizes = (float(sum(day.values())), float(sum(reference.values())))
    assert total_variation(*again, sizes=sizes)[0] == distance
    assert total_variation(*again, sizes=sizes)[1] == pytest.approx(p_value, rel=1e-9, abs=1e-300)


@given(parts=st.lists(numbers(MAYBE_MISSING), min_size=1, max_size=5))
@example(parts=[np.array([np.nan], np.float32), np.array([np.nan], np.float32)])
@settings(deadline=None, max_examples=30)
def test_the_merge_of_days_counts_as_the_whole(parts: list[np.ndarray]) -> None:
    at = datetime(2018, 6, 6, tzinfo=UTC)
    merged = summary(merge([profile_columns({"f": part}, timestamp=at) for part in parts])).to_pylist()[0]
    whole = summary(profile_columns({"f": np.concatenate(parts)}, timestamp=at)).to_pylist()[0]
    for exact in ("feature", "count", "missing", "infinite", "min", "max"):
        assert merged[exact] == whole[exact], exact
    for rounded in ("mean", "stddev", "unique_estimate"):
        if whole[rounded] is None:
            assert merged[rounded] is None
        else:
            assert merged[rounded] == pytest.approx(whole[rounded], rel=1e-6, abs=1e-5), rounded


@given(day_rows=st.integers(1, 30), rows=st.integers(1, 60), data=st.data())
@settings(deadline=None)
def test_the_label_p_value_is_twice_the_smaller_exact_tail(
    day_rows: int, rows: int, data: st.DataObject
) -> None:
    day_positives, positives = data.draw(st.integers(0, day_rows)), data.draw(st.integers(0, rows))
    drawn = Counter(
        {
            k: comb(day_rows, k) * comb(rows, day_positives + positives - k)
            for k in range(
                max(0, day_positives + positives - rows), min(day_rows, day_positives + positives) + 1
            )
        }
    )
    low = sum(ways for k, ways in drawn.items() if k <= day_positives)
    high = sum(ways for k, ways in drawn.items() if k >= day_positives)
    exact = min(1.0, float(2 * Fraction(min(low, high), drawn.total())))
    assume(exact > 1e-12)
    assert rate_p_value(day_positives, day_rows, positives, rows) == pytest.approx(exact, rel=1e-6)
