"""A person lets one failed partition through: with a reason, for good, for what was published and judged."""

import dagster as dg
import pytest

from ml_platform.gates.acceptances import Acceptance, Accepted, accept, accepted
from ml_platform.gates.guard import closed_gates
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.errors import InputError
from ml_platform.lake.tables import Lake
from tests.lifecycle.toys import Toys, evaluations_of, materializations_of

FIRST, A, B = "2018-06-01", "2018-06-02", "2018-06-03"
OBSERVED = "amount: ks 0.16"


@pytest.fixture
def drifted(toys: Toys) -> Toys:
    """All is made; the profiles of A and B drifted."""
    toys.make(toys.raw, toys.features, first=FIRST, last=B)
    toys.fail(toys.profiles, A, B, observed=OBSERVED)
    assert not toys.run(toys.profiles, first=FIRST, last=B).success
    return toys


def an_acceptance(toys: Toys, partition: str = A, **changed: object) -> Acceptance:
    said = {
        "asset": toys.profiles,
        "check": "drift",
        "partition": partition,
        "reason": "prices went up",
        "actor": "ada",
    }
    return Acceptance(**{**said, **changed})  # type: ignore[arg-type]


def nothing_happened(toys: Toys, lake: Lake, partition: str = A) -> bool:
    closed = closed_gates(toys.instance, toys.catalog.lineage, toys.model, partition)
    return bool(closed) and WAYS_OUT.entries(lake) == []


def test_an_acceptance_opens_the_gate_for_its_partition_alone(lake: Lake, drifted: Toys) -> None:
    assert accept(drifted.instance, lake, an_acceptance(drifted, A)) == OBSERVED
    assert drifted.make(drifted.model, first=A).success
    refusal = drifted.run(drifted.model, first=B).error
    assert f"{drifted.profiles} [{B}]" in refusal and f"[{A}]" not in refusal


def test_an_acceptance_is_recorded_with_who_why_and_what_was_seen(lake: Lake, drifted: Toys) -> None:
    accept(drifted.instance, lake, an_acceptance(drifted, A, new_regime=True))
    [entry] = WAYS_OUT.entries(lake)
    recorded_at = entry.pop("recorded_at")
    assert recorded_at.tzinfo is not None
    assert entry == {
        "way": "accept",
        "judged": "",
        "until": "",
        "asset": drifted.profiles,
        "check": "drift",
        "partition": A,
        "new_regime": True,
        "reason": "prices went up",
        "actor": "ada",
        "evidence": OBSERVED,
    }
    assert accepted(lake, drifted.profiles, "drift") == {A: Accepted("", new_regime=True)}
    assert accepted(lake, drifted.profiles, "label_drift") == accepted(lake, drifted.raw, "drift") == {}


def test_the_evaluation_in_dagster_says_who_let_it_through_and_judges_the_newest_version(
    lake: Lake, drifted: Toys
) -> None:
    accept(drifted.instance, lake, an_acceptance(drifted, A))
    evaluation, _ = evaluations_of(drifted.instance, drifted.profiles, "drift")[-1]
    target = evaluation.target_materialization_data
    newest = materializations_of(drifted.instance, drifted.profiles)[A][-1]
    assert (evaluation.passed, evaluation.partition) == (True, A)
    assert target is not None and target.storage_id == newest.storage_id
    assert evaluation.metadata["observed"].value == f"accepted by ada: prices went up (was: {OBSERVED})"


def test_a_failed_check_of_a_later_materialization_closes_the_gate_again(lake: Lake, drifted: Toys) -> None:
    accept(drifted.instance, lake, an_acceptance(drifted, A))
    drifted.fail(drifted.profiles, A, observed="amount: ks 0.40")
    assert not drifted.run(drifted.profiles, first=A).success
    assert "amount: ks 0.40" in drifted.run(drifted.model, first=A).error


def test_what_failed_again_can_be_accepted_again_and_every_decision_is_kept(
    lake: Lake, drifted: Toys
) -> None:
    accept(drifted.instance, lake, an_acceptance(drifted, A, reason="prices went up"))
    drifted.run(drifted.profiles, first=A)
    accept(drifted.instance, lake, an_acceptance(drifted, A, reason="and stayed up"))
    assert drifted.make(drifted.model, first=A).success
    assert [entry["reason"] for entry in WAYS_OUT.entries(lake)] == ["prices went up", "and stayed up"]
    judged = [e for e, _ in evaluations_of(drifted.instance, drifted.profiles, "drift") if e.partition == A]
    assert [evaluation.passed for evaluation in judged] == [False, True, False, True]


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_an_acceptance_without_a_reason_is_refused(lake: Lake, drifted: Toys, reason: str) -> None:
    with pytest.raises(InputError, match="reason is required"):
        accept(drifted.instance, lake, an_acceptance(drifted, reason=reason))
    assert nothing_happened(drifted, lake)


def test_what_passed_cannot_be_accepted(lake: Lake, drifted: Toys) -> None:
    with pytest.raises(InputError, match="a failed evaluation is required to accept; it passed"):
        accept(drifted.instance, lake, an_acceptance(drifted, FIRST))
    assert WAYS_OUT.entries(lake) == []


@pytest.mark.parametrize("changed", [{"partition": "2018-06-09"}, {"check": "drfit"}, {"asset": "toys/none"}])
def test_what_was_never_evaluated_cannot_be_accepted(
    lake: Lake, drifted: Toys, changed: dict[str, object]
) -> None:
    with pytest.raises(InputError, match="a failed evaluation is required to accept; it was never evaluated"):
        accept(drifted.instance, lake, an_acceptance(drifted, **changed))
    assert nothing_happened(drifted, lake)


def test_a_refused_delivery_without_a_published_version_cannot_be_accepted(lake: Lake, toys: Toys) -> None:
    toys.fail(toys.raw, A)
    toys.run(toys.raw, first=A)
    with pytest.raises(InputError, match="A refused delivery cannot be accepted"):
        accept(toys.instance, lake, an_acceptance(toys, A, asset=toys.raw, check="quality"))
    assert nothing_happened(toys, lake)


def test_a_refused_delivery_over_a_good_version_cannot_be_accepted(lake: Lake, toys: Toys) -> None:
    toys.make(toys.raw, first=A)
    toys.fail(toys.raw, A)
    toys.run(toys.raw, first=A)
    with pytest.raises(InputError, match="the failed rows were refused and not published"):
        accept(toys.instance, lake, an_acceptance(toys, A, asset=toys.raw, check="quality"))
    assert nothing_happened(toys, lake)


def test_a_version_that_nobody_judged_cannot_be_accepted_by_the_failure_of_the_one_before(
    lake: Lake, drifted: Toys
) -> None:
    again = dg.AssetMaterialization(asset_key=drifted.profiles.split("/"), partition=A)
    drifted.instance.report_runless_asset_event(again)
    with pytest.raises(InputError, match="materialized again and not evaluated since"):
        accept(drifted.instance, lake, an_acceptance(drifted, A))
    assert nothing_happened(drifted, lake)


def test_an_acceptance_twice_is_refused_the_second_time(lake: Lake, drifted: Toys) -> None:
    accept(drifted.instance, lake, an_acceptance(drifted, A))
    with pytest.raises(InputError, match="it passed"):
        accept(drifted.instance, lake, an_acceptance(drifted, A))
    assert len(WAYS_OUT.entries(lake)) == 1
