"""A failed blocking check keeps gated assets from being made, in whatever run they are asked for."""

from dataclasses import replace

import dagster as dg
import pyarrow as pa
import pytest

from ml_platform.gates.guard import ClosedGate, closed_gates, refusal_text
from ml_platform.kernel.lineage import Check
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import Settings
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import Publication, publish_partitions
from ml_platform.lake.tables import Lake
from tests.lifecycle.toys import BOUND, Toys, materializations_of

A, B, C, D = "2018-06-03", "2018-06-04", "2018-06-05", "2018-06-06"


@pytest.fixture
def built(toys: Toys) -> Toys:
    """Everything that the model of A to D reads is made and has passed."""
    toys.make(toys.raw, toys.features, toys.profiles, first="2018-06-01", last=D)
    return toys


def refused(toys: Toys, partition: str) -> str:
    """The model's refusal for a partition; asserts that not even its work began."""
    toys.made.clear()
    report = toys.run(toys.model, first=partition)
    assert not report.success and not report.materializations
    assert not toys.was_made(toys.model, partition)
    return report.error


def test_the_model_is_made_when_everything_upstream_passed(built: Toys) -> None:
    assert built.make(built.model, first=A).materializations[0].partition == A


def test_a_failed_check_stops_the_model_in_the_same_run(built: Toys) -> None:
    built.fail(built.profiles, A)
    report = built.run(built.profiles, built.model, first=A)
    assert not report.success
    assert built.was_made(built.profiles, A) and not built.was_made(built.model, A)


def test_a_failed_check_stops_the_model_in_every_later_run(built: Toys) -> None:
    built.fail(built.profiles, A)
    assert not built.run(built.profiles, first=A).success
    first, second = refused(built, A), refused(built, A)
    assert f"{built.profiles} [{A}] drift" in first and first == second


def test_a_run_that_waited_while_another_passed_has_the_last_word_when_it_fails(built: Toys) -> None:
    """Dagster keeps what a run found in the row of when it was planned: before that of the run that passed since."""
    waiting = built.planned(built.raw, partition=A)
    built.make(built.raw, first=A)
    built.fail(built.raw, A)
    assert not built.execute(waiting).success
    assert f"{built.raw} [{A}] quality" in refused(built, A)


def test_what_failed_by_other_bounds_than_those_declared_now_is_to_be_judged_again(built: Toys) -> None:
    built.fail(built.profiles, A)
    built.run(built.profiles, first=A)
    lineage = built.catalog.lineage
    node = lineage.node(built.profiles)
    looser = replace(node, blocking_checks=(Check("drift", "other bounds"),))
    lineage = replace(lineage, nodes={**lineage.nodes, node.key: looser})
    closed = closed_gates(built.instance, lineage, built.model, A)
    (failed,) = (gate for gate in closed if gate.reason == "failed")
    assert failed.in_words().endswith("; something else is declared now")
    ways = [line for line in refusal_text(built.model, A, [failed]).splitlines() if "Way out" in line]
    assert "gate recheck" in ways[0] and "drift accept" in ways[1]


def test_a_failed_day_closes_every_window_that_reads_it_and_no_other(built: Toys) -> None:
    built.fail(built.profiles, A)
    built.run(built.profiles, first=A)
    assert A in refused(built, B)
    assert A in refused(built, C)
    assert built.make(built.model, first=D).success


def test_a_passed_day_does_not_open_the_gate_of_a_failed_one(built: Toys) -> None:
    built.fail(built.profiles, A)
    built.run(built.profiles, first=A)
    built.make(built.profiles, first=D)
    assert A in refused(built, A)
    assert built.make(built.model, first=D).success


def test_an_ancestor_two_hops_away_closes_the_gate(built: Toys) -> None:
    built.fail(built.raw, C)
    assert not built.run(built.raw, first=C).success
    words = refused(built, C)
    assert f"{built.raw} [{C}] quality: 7 of 100 rows break it (required: {BOUND}" in words
    assert f"deliver {built.raw} {C} again" in words


def test_a_refused_delivery_over_a_good_version_closes_the_gate_until_a_good_one_comes(built: Toys) -> None:
    built.fail(built.raw, C)
    built.run(built.raw, first=C)
    assert C in refused(built, C)
    built.failing.clear()
    built.make(built.raw, first=C)
    assert built.make(built.model, first=C).success


def test_a_range_of_the_model_is_refused_whole_when_one_of_its_gates_is_closed(built: Toys) -> None:
    built.fail(built.profiles, B)
    built.run(built.profiles, first=B)
    built.made.clear()
    report = built.run(built.model, first=A, last=D)
    assert not report.success and not built.made
    assert f"{built.model} [{B}] is refused" in report.error


def test_an_upstream_made_again_without_an_evaluation_closes_the_gate(built: Toys) -> None:
    again = dg.AssetMaterialization(asset_key=built.profiles.split("/"), partition=A)
    built.instance.report_runless_asset_event(again)
    words = refused(built, A)
    assert f"{built.profiles} [{A}] drift: was materialized again after its last evaluation" in words
    assert f"Way out: materialize {built.profiles} {A}" in words
    built.make(built.profiles, first=A)
    assert built.make(built.model, first=A).success


def test_a_run_that_crashed_between_materialization_and_evaluation_closes_the_gate(built: Toys) -> None:
    built.crash_after_materialization.add((built.profiles, A))
    assert not built.run(built.profiles, first=A).success
    assert "was materialized again after its last evaluation" in refused(built, A)


def test_a_crashed_run_that_left_a_planned_check_changes_nothing(built: Toys) -> None:
    built.crash_before_materialization |= {(built.profiles, A), (built.profiles, "2018-06-07")}
    assert not built.run(built.profiles, first=A).success
    assert built.make(built.model, first=A).success
    built.make(built.raw, built.features, first="2018-06-07")
    assert not built.run(built.profiles, first="2018-06-07").success
    assert f"{built.profiles} [2018-06-07] drift: has no published version" in refused(built, "2018-06-07")


def test_a_failed_evaluation_counts_although_a_later_run_crashed_before_its_own(built: Toys) -> None:
    built.fail(built.profiles, A)
    built.run(built.profiles, first=A)
    built.crash_before_materialization.add((built.profiles, A))
    built.run(built.profiles, first=A)
    assert f"{built.profiles} [{A}] drift: 7 of 100 rows break it" in refused(built, A)


def test_what_was_never_made_closes_the_gate(toys: Toys) -> None:
    words = refused(toys, A)
    assert f"{toys.profiles} [2018-06-01 … {A}] drift: has no published version" in words
    assert f"{toys.raw} [2018-06-01 … {A}] quality: has no published version" in words
    assert f"Way out: materialize {toys.raw} 2018-06-01 … {A}" in words


def test_days_before_an_upstreams_first_are_not_asked_for(toys: Toys) -> None:
    toys.make(toys.raw, toys.features, toys.profiles, first="2018-06-01")
    assert toys.make(toys.model, first="2018-06-01").success


def test_a_run_cannot_leave_the_checks_out(toys: Toys) -> None:
    unchecked = dg.define_asset_job("unchecked", dg.AssetSelection.all().without_checks())
    with pytest.raises(dg.DagsterInvalidDefinitionError, match="unchecked") as refusal:
        dg.Definitions(assets=toys.assets, jobs=[unchecked]).resolve_job_def("unchecked")
    assert "does not support subsetting" in str(refusal.value.__cause__)


def test_the_refusal_names_asset_check_partition_observed_bound_run_and_commands(built: Toys) -> None:
    built.fail(built.profiles, A, observed="amount: ks 0.16")
    run_id = built.run(built.profiles, first=A).run_id
    closed = closed_gates(built.instance, built.catalog.lineage, built.model, A)
    assert closed == [ClosedGate(built.profiles, "drift", (A,), "failed", "amount: ks 0.16", BOUND, run_id)]
    text = refused(built, A)
    assert text == refusal_text(built.model, A, closed)
    for part in (
        f"{built.model} [{A}] is refused",
        f"{built.profiles} [{A}] drift: amount: ks 0.16 (required: {BOUND}, run {run_id[:8]})",
        f"ml-platform gate status {built.model} --partition {A}",
        f"ml-platform drift accept {built.profiles} {A} --reason",
    ):
        assert part in text


def test_a_partition_is_its_own_gate_when_its_result_is_to_be_used(built: Toys) -> None:
    lineage = built.catalog.lineage
    built.fail(built.profiles, A)
    built.run(built.profiles, first=A)
    assert not closed_gates(built.instance, lineage, built.profiles, A)
    assert closed_gates(built.instance, lineage, built.profiles, A, itself=True)


def publish(toys: Toys, lake: Lake, asset: str, content: str) -> None:
    """Tell readers that a day of an asset now has some content, made from what is published upstream."""
    rows = pa.table({"content": [content], "partition_date": pa.array([day(A)], pa.date32())})
    inputs = Inputs.now(lake, toys.catalog.lineage).digest(asset, A)
    made_by = materializations_of(toys.instance, asset)[A][-1].run_id
    publish_partitions(lake, rows, [Publication(asset, A, content, 1, 0, "declaration", made_by, inputs)])


def test_what_was_made_from_rows_that_are_no_longer_published_closes_the_gate(
    home: Settings, built: Toys
) -> None:
    lake, lineage = Lake(home.lake_uri), built.catalog.lineage
    for asset in (built.raw, built.profiles):
        publish(built, lake, asset, "first")
    assert closed_gates(built.instance, lineage, built.model, A, lake=lake) == []
    publish(built, lake, built.raw, "corrected")
    [closed] = closed_gates(built.instance, lineage, built.model, A, lake=lake)
    assert (closed.asset, closed.partitions, closed.reason) == (built.profiles, (A,), "other_inputs")
    words = refusal_text(built.model, A, [closed])
    assert f"{built.profiles} [{A}] inputs: was made from rows that are no longer the published ones" in words
    assert f"Way out: materialize {built.profiles} {A}" in words
    publish(built, lake, built.profiles, "from corrected rows")
    assert closed_gates(built.instance, lineage, built.model, A, lake=lake) == []


def test_the_same_rows_published_again_close_nothing(home: Settings, built: Toys) -> None:
    lake = Lake(home.lake_uri)
    for asset in (built.raw, built.profiles, built.raw):
        publish(built, lake, asset, "the same")
    assert closed_gates(built.instance, built.catalog.lineage, built.model, A, lake=lake) == []
