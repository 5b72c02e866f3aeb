"""A model that should have updated and did not is told with the reason: the gate, the run that failed, or nobody."""

import datetime as dt

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.lineage import Node
from ml_platform.notifications.lateness import due_day, last_tick
from tests.notifications.conftest import Teller

FIRST, A, B = "2018-06-01", "2018-06-02", "2018-06-03"


def at(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


IN_TIME, LATE = at("2018-06-04 07:59"), at("2018-06-04 08:00")
"""The toys retrain at 06:00; at the 4th that of the 3rd is due, and has two hours."""


@pytest.fixture
def made(teller: Teller) -> Teller:
    """Everything that the model of B reads is made."""
    teller.evaluated(teller.toys.raw, FIRST, A, B, passed=True)
    teller.evaluated(teller.toys.profiles, FIRST, A, B, passed=True)
    teller.look(IN_TIME)
    return teller


def test_a_refused_step_is_told_with_the_very_refusal(teller: Teller) -> None:
    toys = teller.toys
    teller.evaluated(toys.raw, FIRST, A, passed=True)
    teller.evaluated(toys.profiles, FIRST, passed=True)
    teller.evaluated(toys.profiles, A)
    teller.look()
    refusal = toys.run(toys.model, first=A).error
    [told] = teller.look()
    assert (told["event"], told["title"]) == ("model_not_updated", f"Not updated: {toys.model} [{A}]")
    assert told["text"] == refusal
    assert f"{toys.model} [{A}] is refused: 1 blocking check(s) upstream have not passed." in refusal
    toys.run(toys.model, first=A)
    assert teller.look() == [], "the same refusal in another run is the same event"


def test_a_model_that_was_made_in_between_is_told_again_when_it_is_refused_in_the_same_words(
    teller: Teller,
) -> None:
    toys = teller.toys
    toys.make(toys.raw, toys.features, toys.profiles, first=FIRST, last=A)
    teller.look()

    def refused() -> list[str]:
        teller.evaluated(toys.profiles, A)
        assert not toys.run(toys.model, first=A).success
        return [told["event"] for told in teller.look()]

    assert refused() == ["gate_closed", "model_not_updated"]
    teller.evaluated(toys.profiles, A, passed=True)
    toys.make(toys.model, first=A)
    teller.look()
    assert refused() == ["gate_closed", "model_not_updated"]


def test_a_failed_check_of_a_step_s_own_is_told_as_a_closed_gate_only(teller: Teller) -> None:
    teller.toys.fail(teller.toys.raw, A)
    teller.toys.run(teller.toys.raw, first=A)
    assert [message["event"] for message in teller.look()] == ["gate_closed"]


def test_a_late_model_is_told_once_with_the_gate_that_is_closed(teller: Teller) -> None:
    toys = teller.toys
    teller.look(IN_TIME)
    teller.evaluated(toys.raw, FIRST, A, B, passed=True)
    teller.evaluated(toys.profiles, FIRST, A, passed=True)
    teller.evaluated(toys.profiles, B)
    assert [message["event"] for message in teller.look(IN_TIME)] == ["gate_closed"]
    [told] = teller.look(LATE)
    assert (told["event"], told["title"]) == ("model_not_updated", f"Not updated: {toys.model} [{B}]")
    assert f"  - {toys.profiles} [{B}] drift: 7 of 100 rows break it" in told["text"]
    assert "Way out: " in told["text"]
    assert told["text"] == toys.run(toys.model, first=B).error
    assert teller.look(LATE + dt.timedelta(hours=20)) == [], "nor is the refusal of a run another event"


def test_a_late_model_that_nobody_started_says_so(made: Teller) -> None:
    [told] = made.look(LATE)
    assert "was due at 2018-06-04 06:00 UTC and is not made: no run was started for it" in told["text"]
    assert f"dg launch --assets {made.toys.model} --partition {B}" in told["text"]
    assert made.look(LATE) == []


def test_a_late_model_whose_run_failed_says_with_what_error(made: Teller) -> None:
    made.toys.crash_before_materialization.add((made.toys.model, B))
    report = made.toys.run(made.toys.model, first=B)
    assert made.look(IN_TIME) == []
    [told] = made.look(LATE)
    assert f"run {report.run_id[:8]} failed.\nRuntimeError: {made.toys.model} crashed" in told["text"]
    assert told["details"]["runs"] == [report.run_id]


def test_a_model_that_is_made_in_time_is_not_late_and_the_next_day_is_judged_by_itself(made: Teller) -> None:
    made.toys.instance.report_runless_asset_event(
        dg.AssetMaterialization(made.toys.model.split("/"), partition=B)
    )
    assert made.look(LATE) == []
    [told] = made.look(LATE + dt.timedelta(days=1))
    assert told["partitions"] == ["2018-06-04"]


def test_a_model_of_an_ended_source_is_never_late(teller: Teller) -> None:
    assert teller.look(at("2018-06-14 08:00")) == teller.look(at("2026-01-01 12:00")) == []
    assert [message["partitions"] for message in teller.look(at("2018-06-13 08:00"))] == [["2018-06-12"]]


def test_grace_is_declared(made: Teller) -> None:
    patient = made.declared(grace="6h")
    assert patient.look(LATE) == []
    assert len(patient.look(at("2018-06-04 12:00"))) == 1


@given(st.integers(1_514_764_800, 1_546_300_799), st.integers(0, 23), st.integers(0, 59))
def test_the_last_tick_of_a_daily_cron_is_today_s_or_yesterday_s(second: int, hour: int, minute: int) -> None:
    now = dt.datetime.fromtimestamp(second, dt.UTC)
    today = now.replace(hour=hour, minute=minute, second=0)
    expected = today if today <= now else today - dt.timedelta(days=1)
    assert last_tick(f"{minute} {hour} * * *", now) == expected


@pytest.mark.parametrize(
    ("tick", "lag", "due"),
    [
        ("2018-06-04 00:00", 0, "2018-06-03"),
        ("2018-06-03 23:59", 0, "2018-06-02"),
        ("2018-06-11 06:00", 7, "2018-06-03"),
        ("2018-06-01 06:00", 0, None),
        ("2018-06-13 06:00", 0, "2018-06-12"),
        ("2018-06-14 06:00", 0, None),
    ],
)
def test_due_is_the_newest_complete_day_that_the_model_has(tick: str, lag: int, due: str | None) -> None:
    node = Node("models/some", dt.date(2018, 6, 1), dt.date(2018, 6, 12), lag=lag)
    assert due_day(node, at(tick)) == due


def test_a_weekly_model_is_due_by_its_last_week(teller: Teller) -> None:
    assert last_tick("0 6 * * 1", at("2018-06-08 05:00")) == at("2018-06-04 06:00")
