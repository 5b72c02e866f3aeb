"""Which days are a reference, and when breaches that last fail a day."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from ml_platform.drift_profiles.compute import judge
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.drift_profiles.sequence import Columns, DaySequence, LetThrough, PastDay, Verdict
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.partitions import ONE_DAY, day_range, key_of
from ml_platform.kernel.partitions import day as date_of

POLICY = DriftPolicy(reference_days=3, same_weekday_days=2)
FIRST = "2018-06-04"  # a Monday
ROWS = 1_000


@dataclass(frozen=True)
class Accepted:
    judged: str
    new_regime: bool = False


def a_day(seed: int, *, amount: float = 1, night: float = 0.2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "amount": (rng.gamma(2.0, 25.0, ROWS) * amount).astype(np.float32),
        "night": (rng.random(ROWS) < night).astype(np.float32),
    }


def run(
    days: Sequence[Columns],
    policy: DriftPolicy = POLICY,
    accepted: Mapping[str, Accepted] | None = None,
    *,
    first: str = FIRST,
    again_from: int = 0,
) -> dict[str, Verdict]:
    """The verdicts on days in a row, each with its number as content, in two runs that part at `again_from`."""
    keys = [key_of(date_of(first) + n * ONE_DAY) for n in range(len(days))]
    rows = dict(zip(keys, days, strict=True))
    found: dict[str, Verdict] = {}
    past: dict[str, PastDay] = {}
    for part in (keys[:again_from], keys[again_from:]):
        sequence = DaySequence(
            policy, past, LetThrough(accepted or {}), read=lambda wanted: {key: rows[key] for key in wanted}
        )
        for key in part:
            content = str(keys.index(key))
            found[key] = sequence.judge(key, rows[key])
            sequence.remember(key, rows[key], found[key].decision, content=content)
            breached = {f.feature for f in found[key].decision.features if f.breached}
            past[key] = PastDay(found[key].decision.status, frozenset(breached), content)
    return found


def statuses(found: Mapping[str, Verdict]) -> list[str]:
    return [verdict.decision.status for verdict in found.values()]


def day(number: int) -> str:
    return key_of(date_of(FIRST) + number * ONE_DAY)


STABLE = [a_day(seed) for seed in range(4)]
DEAR = [a_day(seed, amount=2) for seed in range(10, 16)]
NIGHTLY = a_day(20, night=0.6)


def test_a_day_is_judged_against_the_days_before_as_if_alone() -> None:
    found = run([*STABLE, DEAR[0]])
    assert statuses(found) == ["not_judged"] * 3 + ["passed", "failed"]
    assert found[day(4)].reference == (day(1), day(2), day(3))
    assert found[day(4)].decision == judge(DEAR[0], STABLE, policy=POLICY)


def test_a_breach_has_to_last_before_it_fails_a_day_and_until_then_it_is_shown() -> None:
    found = run([*STABLE, *DEAR[:3]], replace(POLICY, consecutive=2))
    assert statuses(found)[3:] == ["passed", "passed", "failed", "failed"]
    first, second = found[day(4)].decision, found[day(5)].decision
    assert [(f.feature, f.days_in_row) for f in first.features if f.breached] == [("amount", 1)]
    assert first.reason.startswith("amount: ks 0.") and first.reason.endswith("1 in a row (2 fail a day)")
    assert second.reason.endswith("2 in a row (2 fail a day)")


def test_a_day_that_breached_and_passed_is_no_reference() -> None:
    found = run([*STABLE, DEAR[0], STABLE[0], STABLE[1]], replace(POLICY, consecutive=3))
    assert statuses(found)[4:] == ["passed"] * 3
    assert found[day(6)].reference == (day(2), day(3), day(5))


def test_a_day_without_that_breach_ends_the_row() -> None:
    found = run([*STABLE, DEAR[0], STABLE[0], DEAR[1], NIGHTLY, DEAR[2]], replace(POLICY, consecutive=2))
    assert statuses(found)[4:] == ["passed"] * 5


def test_an_accepted_day_neither_lengthens_the_row_nor_ends_it() -> None:
    policy = replace(POLICY, consecutive=3)
    days = [*STABLE, *DEAR[:5]]
    assert statuses(run(days, policy))[4:] == ["passed", "passed", "failed", "failed", "failed"]
    accepted = run(days, policy, {day(5): Accepted("5")})
    assert statuses(accepted)[4:] == ["passed", "passed", "passed", "failed", "failed"]
    assert accepted[day(6)].decision.features[0].days_in_row == 2


def test_a_row_goes_on_from_one_run_to_the_next() -> None:
    policy = replace(POLICY, consecutive=2)
    days = [*STABLE, *DEAR[:2], *STABLE]
    assert all(run(days, policy, again_from=n) == run(days, policy) for n in range(1, len(days)))


def test_a_new_regime_is_the_reference_of_later_days_and_ends_the_row() -> None:
    accepted = {day(4): Accepted("4", new_regime=True)}
    found = run([*STABLE, *DEAR, STABLE[0]], accepted=accepted)
    assert statuses(found)[4:] == ["failed", *["passed"] * 5, "failed"]
    assert found[day(4)].reference == (day(1), day(2), day(3))
    assert found[day(5)].reference == (day(4),)
    assert found[day(9)].reference == (day(6), day(7), day(8))


def test_other_rows_in_the_place_of_a_new_regime_begin_nothing() -> None:
    accepted = {day(4): Accepted("what it held before", new_regime=True)}
    found = run([*STABLE, *DEAR[:3]], accepted=accepted)
    assert statuses(found)[4:] == ["failed"] * 3
    assert found[day(6)].reference == (day(1), day(2), day(3))


def a_week(seed: int) -> list[dict[str, np.ndarray]]:
    """Five usual days and two on which people spend more."""
    return [a_day(7 * seed + n, amount=2 if n > 4 else 1) for n in range(7)]


WEEKS = [date for seed in range(4) for date in a_week(seed)]


def test_a_weekly_pattern_fails_days_unless_they_are_compared_with_the_same_weekday() -> None:
    every_day = run(WEEKS, replace(POLICY, reference_days=7))
    assert statuses(every_day)[12:14] == ["failed", "failed"]
    found = run(WEEKS, replace(POLICY, same_weekday=frozenset({"amount", "night"})))
    assert statuses(found) == ["not_judged"] * 14 + ["passed"] * 14
    assert found[day(13)].decision.reason == "no reference yet: 1 of 2 accepted days of the same weekday"
    assert found[day(27)].reference == (day(13), day(20))


def test_same_weekday_can_be_for_some_features_only() -> None:
    policy = replace(POLICY, reference_days=7, same_weekday=frozenset({"amount"}))
    found = run(WEEKS, policy)
    assert statuses(found)[7:] == ["passed"] * 21
    saturday = found[day(26)]
    assert [f.feature for f in saturday.decision.features] == ["amount", "night"]
    assert saturday.reference == (day(12), *(day(n) for n in range(19, 26)))
    assert saturday.decision.reference_rows == 7 * ROWS


def test_a_breach_of_any_feature_keeps_a_day_out_of_every_reference() -> None:
    policy = replace(POLICY, reference_days=7, same_weekday=frozenset({"amount"}))
    weeks = [{**WEEKS[n], "night": NIGHTLY["night"]} if n == 19 else WEEKS[n] for n in range(28)]
    found = run(weeks, policy)
    assert found[day(19)].decision.status == "failed"
    assert found[day(26)].reference[:2] == (day(5), day(12))


def test_features_without_enough_days_of_their_weekday_wait_while_the_others_are_judged() -> None:
    found = run(WEEKS[:5], replace(POLICY, same_weekday=frozenset({"amount"})))
    assert statuses(found)[3:] == ["passed", "passed"]
    assert [f.feature for f in found[day(4)].decision.features] == ["night"]
    assert "the other features: no reference yet: 0 of 2" in found[day(4)].decision.reason


def test_a_fixed_reference_stays_and_its_own_days_are_not_judged() -> None:
    policy = replace(POLICY, fixed_reference=(day(1), day(2)))
    found = run([*STABLE, *DEAR[:2]], policy)
    assert statuses(found) == ["not_judged"] * 3 + ["passed", "failed", "failed"]
    assert found[day(0)].decision.reason == f"no reference yet: it is the accepted days {day(1)} … {day(2)}"
    assert found[day(5)].reference == found[day(3)].reference == (day(1), day(2))


def test_a_new_regime_takes_the_place_of_a_fixed_reference() -> None:
    policy = replace(POLICY, fixed_reference=(day(0), day(2)))
    found = run([*STABLE, *DEAR[:3]], policy, {day(4): Accepted("4", new_regime=True)})
    assert statuses(found)[4:] == ["failed", "passed", "passed"]
    assert found[day(6)].reference == (day(4), day(5))


def test_days_are_judged_in_order() -> None:
    sequence = DaySequence(POLICY, {day(3): PastDay("passed")}, LetThrough(), read=lambda wanted: {})
    with pytest.raises(InputError, match=f"one after {day(3)} is required; got {day(3)}"):
        sequence.judge(day(3), a_day(1))


def test_a_reference_day_without_stored_rows_is_an_error_and_not_a_smaller_reference() -> None:
    past = {key_of(date): PastDay("passed") for date in day_range(date_of(day(0)), date_of(day(2)))}
    sequence = DaySequence(
        POLICY, past, LetThrough(), read=lambda wanted: {key: a_day(1) for key in wanted if key != day(1)}
    )
    with pytest.raises(InputError, match=f"{day(1)}: a reference with stored rows is required"):
        sequence.judge(day(3), a_day(1))


def test_a_breach_that_never_has_to_last_cannot_be_declared() -> None:
    with pytest.raises(DeclarationError, match="at least 1 for consecutive, got 0"):
        replace(POLICY, consecutive=0)
