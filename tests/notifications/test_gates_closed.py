"""When a gate closes, its webhook is told once, with the refusal, and told nothing when nothing is new."""

import datetime as dt

import dagster as dg
import pytest

from ml_platform.gates.acceptances import Acceptance, accept
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.overrides import Override, close_expired, override
from ml_platform.gates.recording import evaluation_event, report_evaluation
from ml_platform.kernel.lineage import Check
from ml_platform.notifications.store import NOTIFICATIONS
from tests.lifecycle.toys import BOUND
from tests.notifications.conftest import LATER, Teller

FIRST, A, LAST = "2018-06-01", "2018-06-02", "2018-06-12"


@pytest.fixture
def drifted(teller: Teller) -> Teller:
    """The profile of A drifted."""
    teller.evaluated(teller.toys.profiles, A, observed="amount: ks 0.16")
    return teller


def test_a_closed_gate_is_told_once_with_the_refusal_and_the_ways_out(teller: Teller) -> None:
    toys = teller.toys
    toys.make(toys.raw, first=A)
    toys.fail(toys.profiles, A, observed="amount: ks 0.16")
    assert not toys.run(toys.profiles, first=A).success
    [told] = teller.look()
    assert (told["event"], told["webhook"]) == ("gate_closed", "on_call")
    assert told["title"] == f"Gate closed: {toys.profiles} [{A}] drift"
    (run,) = told["details"]["runs"]
    lines = told["text"].splitlines()
    assert lines[0] == f"{toys.profiles} [{A}] drift: amount: ks 0.16 (required: {BOUND}, run {run[:8]})"
    assert lines[1] == f"Until it passes these are refused where they read it: {toys.model}."
    assert lines[2] == f"To see it again: ml-platform gate explain {toys.model} --partition {A}"
    assert f"ml-platform drift accept {toys.profiles} {A} --reason '…'" in told["text"]
    assert (told["asset"], told["partitions"]) == (toys.profiles, [A])
    assert told["details"] == {"check": "drift", "observed": "amount: ks 0.16", "bound": BOUND, "runs": [run]}
    assert toys.instance.get_run_by_id(run) is not None
    assert teller.look() == teller.look() == []


def test_what_was_refused_is_told_to_be_not_published(teller: Teller) -> None:
    teller.toys.fail(teller.toys.raw, A)
    teller.toys.run(teller.toys.raw, first=A)
    [told] = teller.look()
    assert "It was not published; the last good version stays." in told["text"]
    assert f"deliver {teller.toys.raw} {A} again" in told["text"]


def test_the_same_finding_again_is_no_news_and_another_one_is(drifted: Teller) -> None:
    assert len(drifted.look()) == 1
    drifted.evaluated(drifted.toys.profiles, A, observed="amount: ks 0.16")
    drifted.evaluated(drifted.toys.profiles, A, observed="amount: ks 0.16")
    assert drifted.look() == []
    drifted.evaluated(drifted.toys.profiles, A, observed="amount: ks 0.40")
    [told] = drifted.look()
    assert "amount: ks 0.40" in told["text"]


def test_a_gate_that_opened_and_closes_again_is_news(drifted: Teller) -> None:
    assert len(drifted.look()) == 1
    drifted.evaluated(drifted.toys.profiles, A, passed=True, observed="")
    drifted.evaluated(drifted.toys.profiles, A, observed="amount: ks 0.16")
    [told] = drifted.look()
    assert told["partitions"] == [A]


def test_an_acceptance_is_not_told(drifted: Teller) -> None:
    drifted.look()
    acceptance = Acceptance(drifted.toys.profiles, "drift", A, "prices went up", "ada")
    accept(drifted.toys.instance, drifted.lake, acceptance)
    assert drifted.look() == []


def test_an_override_is_not_told_and_its_end_is(drifted: Teller) -> None:
    drifted.look()
    toys, until = drifted.toys, LATER + dt.timedelta(hours=1)
    asked = Override(toys.profiles, Check("drift"), A, until, "the model must be retrained tonight", "ada")
    override(toys.instance, drifted.lake, asked, now=LATER)
    assert drifted.look() == []
    assert len(close_expired(toys.instance, drifted.lake, now=until)) == 1
    [told] = drifted.look()
    assert "drift: amount: ks 0.16 (an override of it ended at 2018-07-12T13:00:00+00:00)" in told["text"]


def test_many_failed_partitions_of_one_check_are_one_message(teller: Teller) -> None:
    toys = teller.toys
    days = [f"2018-06-{number:02}" for number in range(1, 13)]
    toys.fail(toys.raw, *(key for key in days if key != "2018-06-05"), observed="7 of 100 rows break it")
    assert not toys.run(toys.raw, first=FIRST, last=LAST).success
    [told] = teller.look()
    assert (
        told["title"] == f"Gate closed: {toys.raw} [2018-06-01 … 2018-06-04, 2018-06-06 … 2018-06-12] quality"
    )
    assert told["text"].count("7 of 100 rows break it") == 3
    assert "… and 8 more" in told["text"]
    assert len(told["partitions"]) == 11
    assert teller.look() == []


def test_the_check_of_an_asset_without_partitions_is_told_too(teller: Teller) -> None:
    key = dg.AssetKey([teller.toys.group, "release"])
    found = Evaluation("not_worse", passed=False, observed="0.61", bound="at least 0.65")
    report_evaluation(teller.toys.instance, evaluation_event(key, None, found, None))
    [told] = teller.look()
    assert told["title"] == f"Gate closed: {teller.toys.group}/release not_worse"
    assert told["text"].startswith(
        f"{teller.toys.group}/release not_worse: 0.61 (required: at least 0.65, run "
    )
    assert (told["partitions"], len(told["details"]["runs"])) == ([], 1)


def test_what_is_not_asked_for_is_not_told(drifted: Teller) -> None:
    cursor = drifted.cursor
    for declared in ({"assets": ["models/*"]}, {"events": ["release_changed"]}):
        other = drifted.declared(**declared)
        other.cursor = cursor
        assert other.look() == []
    named = drifted.declared(assets=[f"{drifted.toys.group}/pro*"])
    named.cursor = cursor
    assert len(named.look()) == 1


def test_the_first_look_tells_nothing_of_the_past(drifted: Teller) -> None:
    drifted.cursor = None
    assert drifted.look() == []


def test_a_look_at_nothing_new_leaves_the_lake_alone(teller: Teller) -> None:
    teller.evaluated(teller.toys.raw, A, passed=True)
    assert teller.look() == []
    assert teller.words == "nothing to tell"
    assert teller.lake.table_names() == []


def test_without_an_address_nothing_is_sent_and_what_happens_waits(drifted: Teller) -> None:
    cursor, with_address = drifted.cursor, drifted.settings
    drifted.settings = with_address.model_copy(update={"webhooks": {}})
    assert drifted.look() == []
    assert "ML_PLATFORM_WEBHOOKS__ON_CALL is not set" in drifted.words
    assert drifted.cursor == cursor
    drifted.settings = with_address
    assert len(drifted.look()) == 1


def test_the_ledger_has_what_was_told(drifted: Teller) -> None:
    [told] = drifted.look()
    [line] = NOTIFICATIONS.entries(drifted.lake)
    assert (line["webhook"], line["id"], line["status"]) == ("on_call", told["id"], "sent")
    assert line["answer"] == "HTTP 200 ok"


def test_a_check_that_holds_nothing_up_is_told_once_as_a_warning(teller: Teller) -> None:
    instance, profiles = teller.toys.instance, teller.toys.profiles
    found = Evaluation("concept_drift", passed=False, observed="0.4, was 0.7", bound=BOUND, blocking=False)
    for _ in range(2):
        report_evaluation(instance, evaluation_event(dg.AssetKey(profiles.split("/")), A, found, None))
    [told] = teller.look()
    assert (told["event"], told["title"]) == ("check_warned", f"Warning: {profiles} [{A}] concept_drift")
    assert told["text"].splitlines()[1:] == ["Nothing is refused because of it."]
    assert told["details"]["observed"] == "0.4, was 0.7"
    assert teller.look() == []
    assert teller.declared(events=["gate_closed"]).look() == []
