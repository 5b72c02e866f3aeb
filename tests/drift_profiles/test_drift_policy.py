"""What closes the drift gate, what does not, and what is not judged at all."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import ttest_ind

from ml_platform.declarations import load
from ml_platform.drift_profiles.component import policy_of
from ml_platform.drift_profiles.compute import (
    DriftDecision,
    FeatureDrift,
    RollingReference,
    judge,
)
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.drift_profiles.store import split_days
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.training_sets.label_drift import DaySums, judge_mean, judge_rate
from tests.support import of_fraud

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
    assert "missing share 0.0" in lost.reason and "against 0.0000 (bound 0.03, adjusted p" in lost.reason
    moved = judge({**day, "amount": day["amount"] * np.float32(2)}, month, policy=POLICY)
    assert moved.reason.startswith("amount: ks 0.") and "(bound 0.04, adjusted p" in moved.reason


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


def payments(seed: int, *, customers: int = 480) -> Day:
    """Payments of customers, some often and some rarely; all of a customer's share yesterday's mean amount."""
    often = np.random.default_rng(0).uniform(0, 4, customers)
    rng = np.random.default_rng(seed)
    customer = np.repeat(np.arange(customers), rng.poisson(often))
    return {"mean_1d": rng.gamma(2.0, 25.0, customers)[customer], "customer_id": customer}


def test_customers_who_pay_often_do_not_make_a_stable_day_fail() -> None:
    by_customer = DriftPolicy(entity_of={"mean_1d": ("customer_id",)})
    month, days = [payments(seed) for seed in range(28)], [payments(seed) for seed in range(100, 140)]
    decisions = [judge(today, month, policy=by_customer) for today in days]
    assert {decision.status for decision in decisions} == {"passed"}
    assert [drift.feature for drift in decisions[0].features] == ["mean_1d"]  # ids are not judged
    values = [{"mean_1d": past["mean_1d"]} for past in month]
    by_row = [judge({"mean_1d": today["mean_1d"]}, values, policy=DriftPolicy()) for today in days]
    assert sum(decision.status == "failed" for decision in by_row) > 4


def test_a_mean_that_moved_for_every_customer_is_found() -> None:
    policy = DriftPolicy(entity_of={"mean_1d": ("customer_id",)})
    month, today = [payments(seed, customers=5_000) for seed in range(28)], payments(100, customers=5_000)
    moved = judge({**today, "mean_1d": today["mean_1d"] * 1.2}, month, policy=policy)
    assert breached(moved) == {"mean_1d"}


def a_day_of_entities(seed: int, *, shift: float, repeated: int) -> Day:
    """One value per entity, in as many rows as it is repeated."""
    values = {f: column for f, column in a_day(seed, rows=600).items() if f in {"mean_1d", "channel"}}
    values["mean_1d"] = values["mean_1d"] * np.float32(shift)
    return {f: np.repeat(column, repeated) for f, column in {**values, "customer_id": np.arange(600)}.items()}


@pytest.mark.parametrize(("shift", "status"), [(1.0, "passed"), (1.04, "passed"), (1.2, "failed")])
def test_repeating_every_row_of_an_entity_changes_no_verdict(shift: float, status: str) -> None:
    policy = replace(POLICY, entity_of={"mean_1d": ("customer_id",), "channel": ("customer_id",)})
    once, again = (
        judge(
            a_day_of_entities(100, shift=shift, repeated=repeated),
            [a_day_of_entities(seed, shift=1, repeated=repeated) for seed in range(28)],
            policy=policy,
        )
        for repeated in (1, 5)
    )
    assert (once.status, again.status) == (status, status)
    assert breached(again) == breached(once) and again.rows == 5 * once.rows
    for drift, other in zip(once.features, again.features, strict=True):
        assert other.statistic == drift.statistic
        assert other.p_value == pytest.approx(drift.p_value, rel=1e-9)
        assert (other.missing_p_value or 0) == pytest.approx(drift.missing_p_value or 0, rel=1e-9)


def test_repeated_rows_that_are_taken_for_independent_would_fail_the_day() -> None:
    days = [a_day_of_entities(100, shift=1.04, repeated=5)]
    days += [a_day_of_entities(seed, shift=1, repeated=5) for seed in range(28)]
    today, *month = [{"mean_1d": columns["mean_1d"]} for columns in days]
    assert breached(judge(today, month, policy=POLICY)) == {"mean_1d"}


def test_features_of_a_row_are_judged_by_rows_whoever_they_belong_to(month: list[Day]) -> None:
    rng = np.random.default_rng(1)
    policy = replace(POLICY, entity_of={"mean_1d": ("customer_id",)})
    with_ids = [{**past, "customer_id": rng.integers(0, 99, ROWS)} for past in [*month, a_day(100)]]
    decision, without = (
        judge(with_ids[-1], with_ids[:-1], policy=policy),
        judge(a_day(100), month, policy=POLICY),
    )
    assert drift_of(decision, "amount").p_value == drift_of(without, "amount").p_value
    assert drift_of(decision, "mean_1d").p_value > drift_of(without, "mean_1d").p_value


def test_rows_without_an_id_count_one_each(month: list[Day]) -> None:
    policy = replace(POLICY, entity_of={"mean_1d": ("terminal_id",), "channel": ("terminal_id",)})
    nobody = np.full(ROWS, None, dtype=object)
    days = [{**past, "terminal_id": nobody} for past in [*month, a_day(100)]]
    assert judge(days[-1], days[:-1], policy=policy) == judge(a_day(100), month, policy=POLICY)


def test_rows_of_a_combination_of_entities_count_as_those_of_one(month: list[Day]) -> None:
    pairs = [(region, kind) for region in (7, 8, 9, None) for kind in ("mall", "corner", None)]
    pairs = [*pairs, (2**40, "mall")]
    together = {pair: None if None in pair else f"{pair}" for pair in pairs}

    def judged(entity_of: tuple[str, ...]) -> DriftDecision:
        rng, days = np.random.default_rng(2), [*month, a_day(100)]
        drawn = [rng.integers(0, len(pairs), ROWS) for _ in days]
        with_ids = [
            {
                **{name: past[name] for name in ("mean_1d", "channel")},
                "region": np.array([pairs[i][0] for i in chosen], object),
                "kind": np.array([pairs[i][1] for i in chosen], object),
                "both": np.array([together[pairs[i]] for i in chosen], object),
            }
            for past, chosen in zip(days, drawn, strict=True)
        ]
        kept = [{n: c for n, c in day.items() if n in {"mean_1d", "channel", *entity_of}} for day in with_ids]
        policy = replace(POLICY, entity_of={"mean_1d": entity_of, "channel": entity_of})
        return judge(kept[-1], kept[:-1], policy=policy)

    assert judged(("region", "kind")) == judged(("kind", "region")) == judged(("both",))
    assert judged(("region", "kind")) != judged(("region",))


def test_a_day_without_its_id_column_is_refused(month: list[Day]) -> None:
    policy = replace(POLICY, entity_of={"mean_1d": ("customer_id",)})
    with pytest.raises(InputError, match=r"columns \['customer_id'\] are not among"):
        judge(a_day(100), month, policy=policy)


def test_a_day_of_ids_alone_is_refused() -> None:
    policy = replace(POLICY, entity_of={"mean_1d": ("customer_id",)})
    with pytest.raises(InputError, match="at least one column"):
        RollingReference(policy).accept("2018-06-06", {"customer_id": np.arange(3)})


def test_ids_cannot_be_features_of_a_policy() -> None:
    with pytest.raises(DeclarationError, match=r"got \['channel'\] as both"):
        replace(POLICY, entity_of={"mean_1d": ("channel",)})


def test_stored_ids_are_split_by_day_exactly_with_none_for_missing() -> None:
    long = 2**53 + 1
    rows = pa.table(
        {
            "terminal_id": pa.array([long, None, long - 1], pa.int64()),
            "mean_1d": pa.array([1.5, None, 2.5], pa.float32()),
            PARTITION_COLUMN: pa.array([17_688, 17_688, 17_689], pa.date32()),
        }
    )
    first, second = split_days(rows, ["mean_1d", "terminal_id"]).values()
    assert (first["terminal_id"].tolist(), second["terminal_id"].tolist()) == ([long, None], [long - 1])
    assert np.array_equal(first["mean_1d"], np.array([1.5, np.nan], np.float32), equal_nan=True)


def test_the_declared_defaults_are_those_of_the_policy() -> None:
    declared = DriftProfileSpec(name="fraud", feature_service="fraud_scoring")
    catalog = load()
    assert policy_of(declared, catalog) == DriftPolicy(entity_of=declared.entity_of(catalog))


def test_every_field_of_the_policy_can_be_declared() -> None:
    declared = DriftProfileSpec.model_validate(
        {
            "name": "fraud",
            "feature_service": "fraud_scoring",
            "consecutive": 2,
            "same_weekday": ["amount"],
            "same_weekday_days": 3,
            "fixed_reference": {"first": "2018-06-01", "last": "2018-06-28"},
        }
    )
    policy = policy_of(declared, load())
    assert (policy.consecutive, policy.same_weekday, policy.same_weekday_days) == (2, {"amount"}, 3)
    assert policy.fixed_reference == ("2018-06-01", "2018-06-28")
    everything = policy_of(declared.model_copy(update={"same_weekday": True}), load())
    assert everything.same_weekday == {*declared.service(load()).feature_names(load())}


def test_same_weekday_of_what_is_no_feature_is_refused() -> None:
    declared = DriftProfileSpec(name="fraud", feature_service="fraud_scoring", same_weekday=("amout",))
    with pytest.raises(DeclarationError, match=r"got also \['amout'\]"):
        declared.nodes(load())


def test_the_fraud_profile_knows_the_entity_of_every_snapshot_feature() -> None:
    catalog = load()
    (profile,) = of_fraud(DriftProfileSpec)
    entity_of = policy_of(profile, catalog).entity_of
    assert entity_of["customer_mean_amount_1d"] == ("customer_id",)
    assert entity_of["terminal_fraud_rate_30d"] == ("terminal_id",)
    of_rows = {"amount", "is_night", "is_weekend", "amount_over_mean_30d"}
    assert entity_of.keys() == {*profile.service(catalog).feature_names(catalog)} - of_rows


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


def day_of(labels: np.ndarray) -> DaySums:
    return DaySums("2024-01-01", float(labels.sum()), float((labels**2).sum()), len(labels))


def test_numbers_that_doubled_fail_and_those_that_vary_by_chance_do_not() -> None:
    random = np.random.default_rng(0)
    before = [day_of(random.poisson(20, 600).astype(float)) for _ in range(28)]
    usual, doubled = random.poisson(20, 600).astype(float), random.poisson(40, 600).astype(float)
    assert judge_mean(day_of(usual), before).status == "passed"
    failed = judge_mean(day_of(doubled), before)
    assert (failed.status, round(failed.rate / failed.reference_rate)) == ("failed", 2)
    assert failed.reason.startswith("mean label ")
    assert judge_mean(day_of(doubled), before, ratio_bound=3).status == "passed", "significant, but not far"
    assert judge_mean(day_of(usual), before[1:]).reason.startswith("no reference yet: 27 of 28")
    assert judge_mean(day_of(usual[:400]), before).status == "not_judged"


def test_a_mean_is_as_likely_as_welchs_test_says() -> None:
    random = np.random.default_rng(1)
    mine, theirs = random.normal(10, 3, 500), random.normal(10.3, 5, 900)
    found = judge_mean(day_of(mine), [day_of(theirs)], reference_days=1)
    assert found.p_value == pytest.approx(ttest_ind(mine, theirs, equal_var=False).pvalue, rel=1e-9)


def test_far_means_of_few_wild_numbers_may_be_chance() -> None:
    wild, calm = np.concatenate([np.zeros(510), np.full(3, 1e6)]), np.concatenate([np.zeros(510), [1e6]])
    found = judge_mean(day_of(wild), [day_of(calm)], reference_days=1)
    assert found.status == "passed" and "which may be chance" in found.reason


def test_labels_that_are_all_the_same_differ_surely_or_not_at_all() -> None:
    same = day_of(np.full(600, 5.0))
    assert judge_mean(same, [same], reference_days=1).p_value == 1
    assert judge_mean(day_of(np.full(600, 10.0)), [same], reference_days=1).status == "failed"
