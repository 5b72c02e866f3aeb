"""What people ask about gates and do about closed ones, as they type it."""

import json

import pytest

from ml_platform.cli.story import corrupted, scaled
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.partitions import ONE_DAY, day, key_of
from tests.built import NEXT_DAY, Platform, day_of_transactions
from tests.commands import invoke, words
from tests.support import LAST_DAY

EVENTS, PROFILE, MODEL = "sources/transactions", "drift_profiles/fraud", "models/fraud"


@pytest.fixture
def drifted(platform: Platform) -> Platform:
    """The next day has come, half as dear again."""
    platform.deliver("transactions", scaled(day_of_transactions(NEXT_DAY), "tx_amount", by=1.5))
    platform.make(EVENTS, NEXT_DAY)
    platform.refused(PROFILE, NEXT_DAY)
    return platform


def closed_by(asset: str) -> set[str]:
    """Reasons for which an asset keeps the next day's model from being made."""
    found = json.loads(
        invoke("gate", "status", MODEL, "--partition", NEXT_DAY, "--json").stdout.splitlines()[-1]
    )
    return {gate["reason"] for gate in found["closed"] if gate["asset"] == asset}


def test_every_check_is_listed_with_how_many_partitions_passed_it(shared: Platform) -> None:
    listed = invoke("gate", "status", "--json")
    assert listed.exit_code == 0, listed.output
    checks = {
        (row["asset"], row["check"]): row for row in json.loads(listed.stdout.splitlines()[-1])["checks"]
    }
    assert checks[EVENTS, "quality"]["passed"] == len(shared.materialized(EVENTS))
    assert all(row["closed"] == [] for row in checks.values())
    assert ("models/fraud", "onnx_parity") in checks


def test_an_explanation_has_the_evidence_the_past_and_the_ways_out(drifted: Platform) -> None:
    assert invoke("gate", "status").exit_code == 1
    explained = invoke("gate", "explain", MODEL, "--partition", NEXT_DAY)
    assert explained.exit_code == 1
    for part in (
        f"{PROFILE} [{NEXT_DAY}] drift: amount: ks",
        "  status: failed",
        f"UTC {NEXT_DAY} failed, run ",
        f"  way out: if the change is real: ml-platform drift accept {PROFILE} {NEXT_DAY}",
        f"ml-platform gate override {PROFILE} {NEXT_DAY} --check drift",
    ):
        assert part in explained.stdout
    assert invoke("gate", "explain", MODEL, "--partition", LAST_DAY).exit_code == 0


def test_an_override_opens_the_gate_and_is_told_with_who_acted(drifted: Platform) -> None:
    how = ("gate", "override", PROFILE, NEXT_DAY, "--reason", "retrain tonight", "--until")
    opened = invoke(*how, "2999-01-01")
    assert opened.exit_code == 0, opened.output
    assert f"{PROFILE} [{NEXT_DAY}] drift: open until 2999-01-01 00:00 UTC" in opened.stdout
    assert closed_by(PROFILE) == set()
    again = invoke(*how, "2998-01-01")
    assert again.exit_code == 0 and "drift: open until 2998-01-01 00:00 UTC" in again.stdout


def test_an_asset_s_own_failed_check_is_told_with_its_evidence_and_ways_out(drifted: Platform) -> None:
    status = invoke("gate", "status", PROFILE, "--partition", NEXT_DAY)
    assert status.exit_code == 1
    assert (
        f"{PROFILE} [{NEXT_DAY}]: the gate is open\nIts own checks close the gates of what" in status.stdout
    )
    assert f"  - {PROFILE} [{NEXT_DAY}] drift: amount: ks" in status.stdout
    assert f"Way out: if the change is real: ml-platform drift accept {PROFILE} {NEXT_DAY}" in status.stdout
    explained = invoke("gate", "explain", PROFILE, "--partition", NEXT_DAY)
    assert explained.exit_code == 1 and "  status: failed" in explained.stdout


def test_a_release_is_asked_for_the_newest_day_of_its_model(shared: Platform) -> None:
    for command in ("status", "explain"):
        told = invoke("gate", command, "releases/fraud")
        assert told.stdout == f"releases/fraud [{LAST_DAY}]: the gate is open\n"


def test_later_failed_days_are_judged_by_a_new_regime_at_once(drifted: Platform) -> None:
    later = key_of(day(NEXT_DAY) + ONE_DAY)
    drifted.deliver("transactions", scaled(day_of_transactions(later), "tx_amount", by=1.5))
    drifted.make("features/customer_spending", NEXT_DAY)
    drifted.make("features/terminal_risk", NEXT_DAY)
    drifted.make(EVENTS, later)
    drifted.refused(PROFILE, later)
    done = invoke("drift", "accept", PROFILE, NEXT_DAY, "--reason", "prices went up", "--new-regime")
    assert f"{PROFILE} [{NEXT_DAY}] drift: accepted by" in done.stdout
    assert f"{PROFILE} [{later}] judged by the new regime: " in done.stdout
    (line,) = WAYS_OUT.entries(drifted.lake, way=["recheck"])
    assert (line["partition"], line["reason"]) == (later, f"new regime from {NEXT_DAY}: prices went up")
    assert "amount: ks" not in line["evidence"], "the amounts are those of the new regime"


def test_what_is_published_can_be_judged_again_and_says_so_day_by_day(platform: Platform) -> None:
    done = invoke(
        "gate", "recheck", EVENTS, "--from", "2018-06-20", "--to", "2018-06-22", "--reason", "new rule"
    )
    assert done.exit_code == 0, done.output
    assert f"{EVENTS}: 3 judged again, 0 failed" in done.stdout
    days = [entry["partition"] for entry in WAYS_OUT.entries(platform.lake, way=["recheck"])]
    assert days == ["2018-06-20", "2018-06-21", "2018-06-22"]
    assert invoke("gate", "status", MODEL, "--partition", LAST_DAY).exit_code == 0


@pytest.mark.parametrize("asset", [PROFILE, "training_sets/fraud", "features/terminal_risk"])
def test_every_stage_that_keeps_rows_judges_them_again_as_it_did(platform: Platform, asset: str) -> None:
    done = invoke("gate", "recheck", asset, LAST_DAY, "--reason", "to be sure", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout.splitlines()[-1])["rechecked"] == [
        {"partition": LAST_DAY, "passed": True, "failures": ""}
    ]
    assert invoke("gate", "status", MODEL, "--partition", LAST_DAY).exit_code == 0


def test_a_model_cannot_be_judged_again_as_it_is(shared: Platform) -> None:
    refused = invoke("gate", "recheck", MODEL, LAST_DAY, "--reason", "why not")
    assert refused.exit_code == 1 and "materialize it" in refused.output


def test_a_drifted_day_that_is_judged_again_has_still_drifted(drifted: Platform) -> None:
    done = invoke("gate", "recheck", PROFILE, NEXT_DAY, "--reason", "to be sure")
    assert done.exit_code == 1
    assert f"{PROFILE} [{NEXT_DAY}] failed: drift: amount: ks" in done.stdout
    assert closed_by(PROFILE) == {"failed"}


def test_a_refused_day_is_listed_shown_row_by_row_and_dismissed(platform: Platform) -> None:
    platform.deliver("transactions", corrupted(day_of_transactions(NEXT_DAY), "terminal_id"))
    platform.refused(EVENTS, NEXT_DAY)
    listed = json.loads(invoke("refused", "list", "--json").stdout.splitlines()[-1])["refused"]
    assert [(entry["asset"], entry["partition"], entry["published"]) for entry in listed] == [
        (EVENTS, NEXT_DAY, False)
    ]
    shown = json.loads(
        invoke("refused", "show", EVENTS, NEXT_DAY, "--limit", "3", "--json").stdout.splitlines()[-1]
    )
    assert [row["terminal_id"] for row in shown["broken"]["terminal_id not null"]] == [None, None, None]
    dismissed = invoke("refused", "dismiss", EVENTS, NEXT_DAY, "--reason", "they sent a test file")
    assert dismissed.exit_code == 0 and "nothing is published for it" in words(dismissed.output)
    assert "nothing is refused" in invoke("refused", "list").output


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("gate", "status", "models/frod"), "a declared asset is required"),
        (
            ("gate", "explain", MODEL, "--partition", "2018-13-01"),
            "partition requires a day of models/fraud",
        ),
        (("gate", "status", "--partition", LAST_DAY), f"--partition {LAST_DAY} requires an asset"),
        (("gate", "recheck", EVENTS, LAST_DAY, "--reason", " "), "reason is required"),
        (
            ("gate", "recheck", EVENTS, LAST_DAY, "--from", LAST_DAY, "--reason", "r"),
            "either days or a range, --from and --to, are required; got both",
        ),
        (
            ("gate", "override", EVENTS, LAST_DAY, "--until", "9999-12-31T23:59-05:00", "--reason", "r"),
            "until requires a time",
        ),
        (
            ("gate", "override", MODEL, LAST_DAY, "--until", "soon", "--reason", "r"),
            "until requires a time",
        ),
        (
            (
                "gate",
                "override",
                EVENTS,
                LAST_DAY,
                "--until",
                "2999-01-01",
                "--check",
                "drift",
                "--reason",
                "r",
            ),
            "check requires one of the checks of sources/transactions: quality; got drift",
        ),
        (("refused", "show", EVENTS, LAST_DAY), "a refused partition is required"),
        (("refused", "dismiss", EVENTS, LAST_DAY, "--reason", "r"), "a refused partition is required"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    shared: Platform, command: tuple[str, ...], said: str
) -> None:
    result = invoke(*command)
    assert result.exit_code == 1 and said in words(result.output)
    assert WAYS_OUT.entries(shared.lake) == []
