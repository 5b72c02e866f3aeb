"""What plain blocking asset checks let through: the reason for the gates.

When one of these fails, Dagster has changed: see whether what it does now replaces something of ours.
"""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
import pytest

from tests.lifecycle.locations import BAD, DAYS, GOOD, graph

pytestmark = [
    # Dagster's own evaluate_automation_conditions passes a parameter that Dagster calls beta.
    pytest.mark.filterwarnings("ignore:Parameter `include_sources`:dagster.BetaWarning"),
    # Checks with partitions are a preview in Dagster 1.13.
    pytest.mark.filterwarnings(
        "ignore:Specifying a partitions_def on an AssetCheckSpec:dagster.PreviewWarning"
    ),
]

NOW = dt.datetime(2018, 6, 20, tzinfo=dt.UTC)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def run(
    instance: dg.DagsterInstance, defs: dg.Definitions, *assets: str, partition: str
) -> dg.ExecuteInProcessResult:
    return defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=instance,
        asset_selection=[dg.AssetKey(asset) for asset in assets],
        partition_key=partition,
        raise_on_error=False,
    )


def requested(instance: dg.DagsterInstance, defs: dg.Definitions) -> set[str]:
    result = dg.evaluate_automation_conditions(defs, instance, evaluation_time=NOW)
    return result.get_requested_partitions(dg.AssetKey("downstream"))


def test_the_run_with_the_check_is_stopped_and_the_bad_asset_is_there(
    instance: dg.DagsterInstance,
) -> None:
    result = run(instance, graph(), "upstream", "downstream", partition=BAD)
    made = [event.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
    assert not result.success and made == ["upstream"]


def test_a_later_run_of_the_downstream_alone_goes_through(instance: dg.DagsterInstance) -> None:
    run(instance, graph(), "upstream", partition=BAD)
    assert run(instance, graph(), "downstream", partition=BAD).success


def test_a_run_with_its_checks_left_out_goes_through(instance: dg.DagsterInstance) -> None:
    assert (
        graph().resolve_job_def("unchecked").execute_in_process(instance=instance, partition_key=BAD).success
    )


def test_another_partition_that_passed_opens_the_automation_of_one_that_failed(
    instance: dg.DagsterInstance,
) -> None:
    run(instance, graph(), "upstream", partition=BAD)
    assert BAD not in requested(instance, graph())
    run(instance, graph(), "upstream", partition=GOOD)
    assert BAD in requested(instance, graph())


def test_one_passed_day_of_a_window_opens_the_automation_of_the_whole_window(
    instance: dg.DagsterInstance,
) -> None:
    defs = graph(check_partitions=DAYS)
    run(instance, defs, "upstream", partition=BAD)
    run(instance, defs, "upstream", partition=GOOD)
    assert BAD not in requested(instance, defs)
    assert GOOD in requested(instance, defs)
