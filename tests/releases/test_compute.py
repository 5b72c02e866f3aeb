"""What a release's history says, and what it takes not to be worse."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.models.resampling import Difference, Interval
from ml_platform.releases.compute import ALL_ROWS, PROMOTED, ROLLED_BACK, Compared, standing


def moves(*steps: tuple[str, int]) -> list[dict[str, Any]]:
    """A history of moves, each from where the one before has led."""
    before = [None, *(version for _, version in steps)]
    return [
        {"action": action, "version": version, "previous": previous}
        for (action, version), previous in zip(steps, before, strict=False)
    ]


def promoted(*versions: int) -> list[tuple[str, int]]:
    return [(PROMOTED, version) for version in versions]


def test_a_rollback_goes_to_the_champion_before_and_a_second_one_further_back() -> None:
    assert standing(moves(*promoted(1, 4, 5))).before == 4
    once = standing(moves(*promoted(1, 4, 5), (ROLLED_BACK, 4)))
    assert (once.champion, once.before, set(once.withdrawn)) == (4, 1, {5})
    twice = standing(moves(*promoted(1, 4, 5), (ROLLED_BACK, 4), (ROLLED_BACK, 1)))
    assert (twice.champion, twice.before, set(twice.withdrawn)) == (1, None, {4, 5})


def test_what_was_withdrawn_is_so_until_somebody_promotes_it() -> None:
    again = standing(moves(*promoted(1, 2, 3), (ROLLED_BACK, 1), (PROMOTED, 3)))
    assert (again.champions, set(again.withdrawn)) == ((1, 3), {2})


def test_who_promotes_an_older_version_withdraws_the_newer_until_a_rollback_undoes_it() -> None:
    chosen = moves(*promoted(1, 4, 5, 1))
    found = standing(chosen)
    assert (found.champion, found.before, set(found.withdrawn)) == (1, 5, {4, 5})
    undone = standing(moves(*promoted(1, 4, 5, 1), (ROLLED_BACK, 5)))
    assert (undone.champion, undone.before, set(undone.withdrawn)) == (5, 4, {1, 4})


def test_an_alias_that_was_moved_by_hand_and_put_back_is_withdrawn() -> None:
    history = moves(*promoted(1, 2))
    history.append({"action": ROLLED_BACK, "version": 2, "previous": 7})
    found = standing(history)
    assert (found.champions, set(found.withdrawn)) == ((1, 2), {7})


def test_without_a_history_nobody_is_champion() -> None:
    assert (standing([]).champion, standing([]).before) == (None, None)
    assert standing(moves(*promoted(3))).before is None


@given(st.lists(st.booleans(), max_size=30))
def test_going_back_and_on_never_leads_to_what_was_withdrawn(back: list[bool]) -> None:
    """A daily release promotes newer and newer versions; in between people roll back, as often as they can."""
    steps: list[tuple[str, int]] = []
    newest = 0
    for wanted in back:
        now = standing(moves(*steps))
        if wanted and now.before is not None:
            assert now.before not in now.withdrawn
            assert now.before < (now.champion or 0)
            steps.append((ROLLED_BACK, now.before))
        else:
            newest += 1
            steps.append((PROMOTED, newest))
    found = standing(moves(*steps))
    assert list(found.champions) == sorted(set(found.champions))
    assert set(found.champions).isdisjoint(found.withdrawn)
    assert {*found.champions, *found.withdrawn} == set(range(1, newest + 1))


def compared(**changed: Any) -> Compared:
    values: dict[str, Any] = {
        "rows_of": ALL_ROWS,
        "metric": "average_precision",
        "margin": 0.05,
        "rows": 60_000,
        "positives": 400,
        "candidate": 0.70,
        "champion": 0.70,
        "difference": Difference(Interval(-0.02, 0.02, "terminal"), worse=0.001),
    }
    return Compared(**{**values, **changed})


RULE = {"confidence": 0.95, "minimum_positives": 100}
UNSURE = Difference(Interval(-0.2, 0.2, "terminal"), worse=0.3)


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({}, "passed"),
        ({"difference": UNSURE}, "failed"),  # what many positives cannot show is refused
        ({"difference": UNSURE, "positives": 99}, "passed"),  # with few the estimate decides
        ({"candidate": 0.64, "positives": 99}, "failed"),
        ({"difference": None}, "passed"),
        ({"candidate": 0.64, "difference": None}, "failed"),
        ({"rows_of": "night", "difference": UNSURE}, "failed"),
        ({"rows_of": "night", "difference": UNSURE, "positives": 99}, "not judged"),
        ({"rows_of": "night", "candidate": None, "champion": None, "difference": None}, "not judged"),
    ],
)
def test_not_worse_is_shown_by_enough_draws_or_with_few_positives_by_the_estimate(
    changed: dict[str, Any], verdict: str
) -> None:
    assert compared(**changed).verdict(**RULE) == verdict


def test_a_comparison_says_both_values_the_difference_and_how_sure_it_is() -> None:
    said = compared(candidate=0.71).in_words(minimum_positives=100)
    assert said == (
        "average_precision 0.7100 against the champion's 0.7000, +0.0100 (95% interval -0.0200 to +0.0200, "
        "0.1% of draws by terminal worse by more than 0.05)"
    )
    few = compared(rows_of="night", positives=7).in_words(minimum_positives=100)
    assert few.startswith("slice night: ") and few.endswith("; 7 positives are fewer than 100: not judged)")
