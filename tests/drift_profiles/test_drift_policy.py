"""What closes the drift gate, what does not, and what is not judged at all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from ml_platform.drift_profiles.compute import (
    DriftDecision,
    DriftPolicy,
    FeatureDrift,
    RollingReference,
    judge,
)
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.training_sets.label_drift import judge_rate

POLICY = DriftPolicy(calendar=frozenset({"weekend"}), categories=frozenset({"channel"}))
ROWS = 9_600
Day = dict[str, np.ndarray]


def a_day(seed: int, rows: int = ROWS) -> Day:
    """Card payments of a day: a price, a count with ties, a mean with a third missing, a flag, a category."""
    rng = np.random.default_rng(seed)
    mean = rng.normal(50, 10, rows).astype(np.float32)
    mean[rng.random(rows) < 0.33] = np.nan
    return {
        "amount": rng.gamma(2.0, 25.0, rows).astype(np.float32),
        "count_7d": rng.poisson(6, rows).astype(np.float32),
        "mean_1d": mean,
        "night": (rng.random(rows) < 0.17).astype(np.float32),
        "weekend": np.full(rows, seed % 7 >= 5, dtype=np.float32),
        "channel": rng.choice(np.array(["chip", "web", "stripe"]), rows, p=[0.6, 0.3, 0.1]),
    }


@pytest.fixture(scope="module")
def month() -> list[Day]:
    return [a_day(seed) for seed in range(28)]


def breached(decision: DriftDecision) -> set[str]:
    return {drift.feature for drift in decision.features if drift.breached}


def drift_of(decision: DriftDecision, feature: str) -> FeatureDrift:
    return next(drift for drift in decision.features if drift.feature == feature)


def with_missing(values: np.ndarray, share: float) -> np.ndarray:
    lost = np.random.default_rng(5).random(len(values)) < share
    return np.where(lost, np.float32(np.nan), values)


def with_more_ones(values: np.ndarray, share: float) -> np.ndarray:
    more = values.copy()
    more[np.flatnonzero(values == 0)[: int(share * len(values))]] = 1
    return more


def test_stable_days_pass(month: list[Day]) -> None:
    rolling = RollingReference(POLICY)
    for seed, day in enumerate(month):
        rolling.accept(seed, day)
    for seed in range(100, 140):
        decision = rolling.judge(a_day(seed))
        assert (decision.status, decision.reason) == ("passed", "within bounds")
        assert decision.rows == ROWS and decision.reference_rows == 28 * ROWS


@pytest.mark.parametrize(
    ("feature", "shift"),
    [
        ("amount", lambda values: values * np.float32(1.2)),
        ("amount", lambda values: with_missing(values, 0.05)),
        ("mean_1d", lambda values: with_missing(values, 0.10)),
        ("mean_1d", lambda values: np.nan_to_num(values, nan=50)),
        ("mean_1d", lambda values: np.full_like(values, np.nan)),
        ("night", lambda values: with_more_ones(values, 0.05)),
        ("count_7d", np.zeros_like),
        ("channel", lambda values: np.where(np.arange(len(values)) % 16 == 0, "fax", values)),
    ],
)
def test_a_shifted_feature_fails_the_day_and_is_the_only_one_named(
    month: list[Day], feature: str, shift: Callable[[np.ndarray], np.ndarray]
) -> None:
    day = a_day(100)
    decision = judge({**day, feature: shift(day[feature])}, month, policy=POLICY)
    assert decision.status == "failed"
    assert breached(decision) == {feature}
    assert decision.reason.startswith(f"{feature}: ")


def test_the_reason_names_value_bound_and_significance(month: list[Day]) -> None:
    day = a_day(100)
    lost = judge({**day, "amount": with_missing(day["amount"], 0.05)}, month, policy=POLICY)
    assert "missing share 0.0" in lost.reason and "against 0.0000 (bound 0.025, adjusted p" in lost.reason
    moved = judge({**day, "amount": day["amount"] * np.float32(2)}, month, policy=POLICY)
    assert moved.reason.startswith("amount: ks 0.") and "(bound 0.035, adjusted p" in moved.reason


def test_a_large_distance_of_few_rows_passes_as_chance(month: list[Day]) -> None:
    small = next(
        drift
        for seed in range(200, 300)
        for drift in judge(
            a_day(seed, rows=500), month[:2], policy=replace(POLICY, reference_days=2)
        ).features
        if drift.gated and drift.statistic > drift.bound
    )
    assert not small.breached
    assert "may be chance" in small.reason


def test_a_significant_but_small_distance_passes(month: list[Day]) -> None:
    day = a_day(100)
    decision = judge({**day, "night": with_more_ones(day["night"], 0.02)}, month, policy=POLICY)
    night = drift_of(decision, "night")
    assert night.p_adjusted is not None and night.p_adjusted < POLICY.p_value
    assert decision.status == "passed"


def test_a_calendar_feature_is_measured_and_never_gated(month: list[Day]) -> None:
    decision = judge({**a_day(100), "weekend": np.ones(ROWS, np.float32)}, month, policy=POLICY)
    weekend = drift_of(decision, "weekend")
    assert weekend.statistic > 0.5 and weekend.p_adjusted is None
    assert not weekend.gated and not weekend.breached
    assert decision.status == "passed"


def test_a_calendar_feature_takes_no_part_in_the_adjustment(month: list[Day]) -> None:
    day = a_day(100)
    day["night"] = with_more_ones(day["night"], 0.02)  # significant, so that one test more would show
    calendar = DriftPolicy(calendar=frozenset({"count_7d"}))
    two, one = ("night", "count_7d"), ("night",)
    decisions = [
        judge(
            {f: day[f] for f in features}, [{f: past[f] for f in features} for past in month], policy=calendar
        )
        for features in (two, one)
    ]
    assert drift_of(decisions[0], "night") == drift_of(decisions[1], "night")


def test_a_flag_gets_the_same_verdict_as_number_and_as_category(month: list[Day]) -> None:
    day = a_day(100)
    shifted = {"night": with_more_ones(day["night"], 0.05)}
    reference = [{"night": past["night"]} for past in month]
    number = judge(shifted, reference, policy=POLICY).features[0]
    category = judge(shifted, reference, policy=DriftPolicy(categories=frozenset({"night"}))).features[0]
    assert (number.statistic_name, category.statistic_name) == ("ks", "total_variation")
    assert number.statistic == pytest.approx(category.statistic, abs=1e-12)
    assert number.breached and category.breached


def test_a_missing_category_counts_as_missing_and_not_as_a_category(month: list[Day]) -> None:
    day = a_day(100)
    channel = day["channel"].astype(object)
    channel[::10] = None
    drift = drift_of(judge({**day, "channel": channel}, month, policy=POLICY), "channel")
    assert drift.missing_share == 0.1 and drift.breached and drift.statistic < drift.bound


def test_the_stability_index_is_reported_and_gates_nothing(month: list[Day]) -> None:
    day = a_day(100)
    loose = replace(POLICY, ks_bound=0.99)
    still = drift_of(judge(day, month, policy=loose), "amount")
    moved = judge({**day, "amount": day["amount"] * np.float32(2)}, month, policy=loose)
    assert still.psi < 0.01
    assert drift_of(moved, "amount").psi > 0.25
    assert moved.status == "passed"


def test_with_too_few_accepted_days_nothing_is_judged(month: list[Day]) -> None:
    decision = judge({**a_day(100), "amount": np.zeros(ROWS, np.float32)}, month[:27], policy=POLICY)
    assert decision.status == "not_judged"
    assert decision.reason == "no reference yet: 27 of 28 accepted days"
    assert decision.features == ()


def test_a_day_with_too_few_rows_is_not_judged(month: list[Day]) -> None:
    decision = judge(a_day(100, rows=499), month, policy=POLICY)
    assert decision.status == "not_judged"
    assert decision.reason == "499 rows against 268800: 500 are needed on each side"


def test_only_the_newest_reference_days_count(month: list[Day]) -> None:
    old = {**a_day(50), "amount": np.zeros(ROWS, np.float32)}
    assert judge(a_day(100), [old, *month], policy=POLICY) == judge(a_day(100), month, policy=POLICY)


def test_the_oldest_day_leaves_the_rolling_reference(month: list[Day]) -> None:
    rolling = RollingReference(replace(POLICY, reference_days=3))
    for seed, day in enumerate(month[:5]):
        rolling.accept(f"2018-06-0{seed + 1}", day)
    assert rolling.days == ("2018-06-03", "2018-06-04", "2018-06-05")


def test_a_judged_day_does_not_enter_the_reference(month: list[Day]) -> None:
    rolling = RollingReference(replace(POLICY, reference_days=1))
    rolling.accept(0, month[0])
    bad = {**a_day(100), "amount": np.zeros(ROWS, np.float32)}
    first, second = rolling.judge(bad), rolling.judge(bad)
    assert first == second and first.status == "failed"
    assert rolling.days == (0,)


def test_the_reference_keeps_its_values_when_the_caller_reuses_the_arrays(month: list[Day]) -> None:
    days = [{f: values.copy() for f, values in day.items()} for day in month[:3]]
    rolling = RollingReference(replace(POLICY, reference_days=3))
    for seed, day in enumerate(days):
        rolling.accept(seed, day)
    for day in days:
        day["amount"][:] = 0
    assert rolling.judge(a_day(100)).status == "passed"


def test_infinite_values_are_far_and_break_nothing(month: list[Day]) -> None:
    day = a_day(100)
    endless = np.where(np.arange(ROWS) % 10 == 0, np.float32(np.inf), day["amount"])
    assert breached(judge({**day, "amount": endless}, month, policy=POLICY)) == {"amount"}


def test_a_day_without_a_feature_of_its_reference_is_refused(month: list[Day]) -> None:
    day = {f: values for f, values in a_day(100).items() if f != "night"}
    with pytest.raises(InputError, match=r"'night'. are not on both sides"):
        judge(day, month, policy=POLICY)


def test_the_same_day_cannot_be_accepted_twice(month: list[Day]) -> None:
    rolling = RollingReference(POLICY)
    rolling.accept("2018-06-06", month[0])
    with pytest.raises(InputError, match="'2018-06-06' again"):
        rolling.accept("2018-06-06", month[1])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"amount": np.array(["12", "13"])}, "judged as a number, got an array of <U2"),
        ({"amount": np.zeros(3), "night": np.zeros(2)}, "one value per row"),
        ({"amount": np.zeros((2, 2))}, "one value per row"),
        ({}, "one value per row"),
        ({"amount": np.ma.masked_array([1.0, 2.0], [True, False])}, r"masked ones for \['amount'\]"),
    ],
)
def test_columns_that_cannot_be_judged_are_refused(columns: Day, message: str) -> None:
    with pytest.raises(InputError, match=message):
        RollingReference(POLICY).accept("2018-06-06", columns)


@pytest.mark.parametrize(("field", "value"), [("ks_bound", 0.0), ("p_value", 1.0), ("reference_days", 0)])
def test_a_policy_that_could_not_decide_is_refused(field: str, value: float) -> None:
    with pytest.raises(DeclarationError, match=f"A drift policy needs .*{field}"):
        replace(POLICY, **{field: value})


@pytest.mark.parametrize("positives", [62, 80, 102])
def test_a_label_rate_within_its_usual_range_passes(positives: int) -> None:
    decision = judge_rate(positives, ROWS, [80] * 28, [ROWS] * 28)
    assert (decision.status, decision.reason) == ("passed", "within bounds")


@pytest.mark.parametrize(("positives", "ratio"), [(160, 2.0), (40, 0.5), (0, 0.0)])
def test_a_doubled_halved_or_stopped_label_rate_fails(positives: int, ratio: float) -> None:
    decision = judge_rate(positives, ROWS, [80] * 28, [ROWS] * 28)
    assert decision.status == "failed"
    assert decision.ratio == pytest.approx(ratio)
    assert f"is {ratio:.2f} times the reference's 0.0083" in decision.reason


def test_a_doubled_rate_of_a_handful_of_labels_may_be_chance() -> None:
    decision = judge_rate(4, 600, [2] * 28, [600] * 28)
    assert decision.status == "passed"
    assert decision.reason.endswith("which may be chance")


def test_labels_where_there_never_were_any_fail() -> None:
    assert judge_rate(40, ROWS, [0] * 28, [ROWS] * 28).status == "failed"
    assert judge_rate(0, ROWS, [0] * 28, [ROWS] * 28).status == "passed"


def test_a_label_rate_without_reference_or_rows_is_not_judged() -> None:
    assert judge_rate(900, ROWS, [80] * 27, [ROWS] * 27).reason.startswith("no reference yet: 27 of 28")
    assert judge_rate(90, 400, [80] * 28, [ROWS] * 28).status == "not_judged"
    assert judge_rate(0, 0, [], []).status == "not_judged"


def test_label_rates_use_the_newest_reference_days() -> None:
    late = judge_rate(80, ROWS, [9_000] * 5 + [80] * 28, [ROWS] * 33)
    assert late == judge_rate(80, ROWS, [80] * 28, [ROWS] * 28)


@pytest.mark.parametrize(("positives", "rows"), [([80], [ROWS, ROWS]), ([80], [79]), ([-1], [ROWS])])
def test_label_counts_that_cannot_be_are_refused(positives: list[int], rows: list[int]) -> None:
    with pytest.raises(InputError, match="positives between 0 and the rows of the same day"):
        judge_rate(80, ROWS, positives, rows)
