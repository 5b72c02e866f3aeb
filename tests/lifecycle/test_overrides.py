"""A person opens one gate for a while: it closes on its own, nothing is published by it, and the ledger decides."""

import datetime as dt
from typing import Any

import dagster as dg
import pytest

from ml_platform.gates.acceptances import Acceptance, Accepted, accept, accepted
from ml_platform.gates.evaluations import latest_evaluations
from ml_platform.gates.guard import closed_gates
from ml_platform.gates.outcomes import JUDGED, Evaluation
from ml_platform.gates.overrides import Override, close_expired, override
from ml_platform.gates.recording import evaluation_event, materialization_targets, report_evaluation
from ml_platform.gates.ways_out import UNTIL, WAYS_OUT
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from tests.lifecycle.toys import Toys, materializations_of

A, B, C = "2018-06-02", "2018-06-03", "2018-06-04"
LONG_AGO = dt.datetime(2018, 6, 5, 12, tzinfo=dt.UTC)
FAR = dt.datetime(2999, 1, 1, tzinfo=dt.UTC)
OBSERVED = "amount: ks 0.16"


@pytest.fixture
def drifted(toys: Toys) -> Toys:
    """All is made; the profile of A drifted."""
    toys.make(toys.raw, toys.features, first="2018-06-01", last=C)
    toys.fail(toys.profiles, A, observed=OBSERVED)
    assert not toys.run(toys.profiles, first="2018-06-01", last=C).success
    return toys


def asked(toys: Toys, **changed: Any) -> Override:
    said = {
        "asset": toys.profiles,
        "check": Check("drift"),
        "partition": A,
        "until": FAR,
        "reason": "the model must be retrained tonight",
        "actor": "ada",
    }
    return Override(**{**said, **changed})


def closed(toys: Toys, lake: Lake, partition: str = A) -> list[str]:
    found = closed_gates(toys.instance, toys.catalog.lineage, toys.model, partition, lake=lake)
    return [gate.in_words() for gate in found if gate.reason != "other_inputs"]


def test_an_override_opens_the_gate_of_its_partition_for_every_run_until_it_ends(
    lake: Lake, drifted: Toys
) -> None:
    gate = override(drifted.instance, lake, asked(drifted), now=LONG_AGO)
    assert gate.observed == OBSERVED
    assert closed(drifted, lake) == []
    assert drifted.make(drifted.model, first=A).success


def test_an_override_is_recorded_with_who_why_until_when_and_what_was_seen(lake: Lake, drifted: Toys) -> None:
    override(drifted.instance, lake, asked(drifted), now=LONG_AGO)
    (entry,) = WAYS_OUT.entries(lake)
    told = {
        name: entry[name] for name in ("way", "asset", "check", "partition", "until", "actor", "evidence")
    }
    assert told == {
        "way": "override",
        "asset": drifted.profiles,
        "check": "drift",
        "partition": A,
        "until": "2999-01-01T00:00:00+00:00",
        "actor": "ada",
        "evidence": OBSERVED,
    }
    evaluation = latest_evaluations(drifted.instance, drifted.profiles, "drift", [A])[A].evaluation
    assert evaluation is not None and evaluation.passed
    assert evaluation.metadata[UNTIL].value == entry["until"]
    newest = materializations_of(drifted.instance, drifted.profiles)[A][-1]
    target = evaluation.target_materialization_data
    assert target is not None and target.storage_id == newest.storage_id


def test_an_ended_override_closes_the_gate_without_waiting_for_anyone(lake: Lake, drifted: Toys) -> None:
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    (words,) = closed(drifted, lake)
    assert f"{drifted.profiles} [{A}] drift: {OBSERVED}" in words and "its override has expired" in words
    assert "its override has expired" in drifted.run(drifted.model, first=A).error


def test_the_sensor_evaluates_the_failure_of_an_ended_override_again_once(lake: Lake, drifted: Toys) -> None:
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    assert close_expired(drifted.instance, lake, now=until - dt.timedelta(seconds=1)) == []
    (gate,) = close_expired(drifted.instance, lake, now=until)
    assert (gate.asset, gate.partitions) == (drifted.profiles, (A,))
    evaluation = latest_evaluations(drifted.instance, drifted.profiles, "drift", [A])[A].evaluation
    assert evaluation is not None and not evaluation.passed
    assert str(evaluation.metadata["observed"].value).startswith(OBSERVED)
    assert close_expired(drifted.instance, lake, now=until) == []
    assert "an override of it ended" in closed(drifted, lake)[0]


def test_what_was_evaluated_since_is_left_alone_by_the_sensor(lake: Lake, drifted: Toys) -> None:
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    drifted.failing.clear()
    drifted.make(drifted.profiles, first=A)
    assert close_expired(drifted.instance, lake, now=FAR) == []
    assert closed(drifted, lake) == []


def test_a_longer_override_counts_in_place_of_the_one_before(lake: Lake, drifted: Toys) -> None:
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    override(drifted.instance, lake, asked(drifted, reason="one more night"), now=until)
    assert close_expired(drifted.instance, lake, now=until) == []
    assert closed(drifted, lake) == []
    assert [entry["reason"] for entry in WAYS_OUT.entries(lake)][-1] == "one more night"


def test_an_override_can_be_ended_sooner(lake: Lake, drifted: Toys) -> None:
    override(drifted.instance, lake, asked(drifted), now=LONG_AGO)
    soon = LONG_AGO + dt.timedelta(minutes=1)
    gate = override(drifted.instance, lake, asked(drifted, until=soon, reason="a mistake"), now=LONG_AGO)
    assert gate.observed == OBSERVED
    assert "its override has expired" in closed(drifted, lake)[0]


def test_the_failure_behind_an_override_keeps_its_run_and_the_content_that_it_judged(
    lake: Lake, drifted: Toys
) -> None:
    """So that an acceptance after it counts for that content, and people find the run that failed."""
    key = dg.AssetKey(drifted.profiles.split("/"))
    target = materialization_targets(drifted.instance, key, [A])[A]
    found = Evaluation("drift", False, OBSERVED, "0.04", metadata={JUDGED: "these rows"})
    report_evaluation(drifted.instance, evaluation_event(key, A, found, target))
    failed = latest_evaluations(drifted.instance, drifted.profiles, "drift", [A])[A].run_id
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    assert f"run {failed[:8]}" in closed(drifted, lake)[0]
    close_expired(drifted.instance, lake, now=until)
    assert f"run {failed[:8]}" in closed(drifted, lake)[0]
    accept(drifted.instance, lake, Acceptance(drifted.profiles, "drift", A, "real", "ada", True))
    assert accepted(lake, drifted.profiles, "drift") == {A: Accepted("these rows", new_regime=True)}


def test_what_an_ended_override_stood_for_can_be_accepted_before_the_sensor_has_looked(
    lake: Lake, drifted: Toys
) -> None:
    until = LONG_AGO + dt.timedelta(hours=1)
    override(drifted.instance, lake, asked(drifted, until=until), now=LONG_AGO)
    accept(drifted.instance, lake, Acceptance(drifted.profiles, "drift", A, "real", "ada"))
    assert closed(drifted, lake) == []


def test_an_override_that_only_the_event_log_knows_opens_nothing(
    lake: Lake, drifted: Toys, home: Settings
) -> None:
    override(drifted.instance, Lake(f"{home.lake_uri}-of-someone-else"), asked(drifted), now=LONG_AGO)
    assert len(closed(drifted, lake)) == 1


def test_a_partition_that_was_made_again_after_its_override_is_judged_anew(lake: Lake, drifted: Toys) -> None:
    override(drifted.instance, lake, asked(drifted), now=LONG_AGO)
    assert not drifted.run(drifted.profiles, first=A).success
    assert OBSERVED in closed(drifted, lake)[0]


def test_a_refused_delivery_over_a_good_version_can_be_overridden_and_stays_refused(
    lake: Lake, drifted: Toys
) -> None:
    drifted.fail(drifted.raw, B)
    drifted.run(drifted.raw, first=B)
    override(
        drifted.instance,
        lake,
        asked(drifted, asset=drifted.raw, check=Check("quality"), partition=B),
        now=LONG_AGO,
    )
    override(drifted.instance, lake, asked(drifted), now=LONG_AGO)
    assert closed(drifted, lake, B) == []
    assert len(materializations_of(drifted.instance, drifted.raw)[B]) == 1


def test_a_partition_without_a_published_version_cannot_be_overridden(lake: Lake, toys: Toys) -> None:
    toys.fail(toys.raw, A)
    toys.run(toys.raw, first=A)
    with pytest.raises(InputError, match="a published version is required to override"):
        override(toys.instance, lake, asked(toys, asset=toys.raw, check=Check("quality")), now=LONG_AGO)
    assert WAYS_OUT.entries(lake) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"partition": B}, "a closed gate is required to override; it is open"),
        ({"until": LONG_AGO}, "until requires a time after 2018-06-05 12:00 UTC"),
        ({"reason": " "}, "reason is required"),
    ],
)
def test_an_override_that_cannot_be_is_refused_and_changes_nothing(
    lake: Lake, drifted: Toys, changed: dict[str, object], said: str
) -> None:
    before = closed(drifted, lake)
    with pytest.raises(InputError, match=said):
        override(drifted.instance, lake, asked(drifted, **changed), now=LONG_AGO)
    assert WAYS_OUT.entries(lake) == [] and closed(drifted, lake) == before


def test_what_nobody_evaluated_can_be_overridden_too(lake: Lake, drifted: Toys) -> None:
    drifted.crash_after_materialization.add((drifted.profiles, C))
    drifted.run(drifted.profiles, first=C)
    gate = override(drifted.instance, lake, asked(drifted, partition=C), now=LONG_AGO)
    assert gate.observed == "was materialized again after its last evaluation"
