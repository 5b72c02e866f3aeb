"""What plain blocking asset checks let through: the reason for the gates.

When one of these fails, Dagster has changed: see whether what it does now replaces something of ours.
"""

import datetime as dt
from collections.abc import Iterator

import dagster as dg
import pytest

pytestmark = [
    # Dagster's own evaluate_automation_conditions passes a parameter that Dagster calls beta.
    pytest.mark.filterwarnings("ignore:Parameter `include_sources`:dagster.BetaWarning"),
    # Checks with partitions are a preview in Dagster 1.13.
    pytest.mark.filterwarnings(
        "ignore:Specifying a partitions_def on an AssetCheckSpec:dagster.PreviewWarning"
    ),
]

BAD, GOOD = "2018-06-03", "2018-06-04"
NOW = dt.datetime(2018, 6, 20, tzinfo=dt.UTC)
DAYS = dg.DailyPartitionsDefinition("2018-06-01", end_date="2018-06-10")
TWO_DAYS = dg.TimeWindowPartitionMapping(start_offset=-1)


def graph(*, check_partitions: dg.PartitionsDefinition | None = None) -> dg.Definitions:
    """`upstream`, whose blocking check fails on one day, and `downstream`, which reads two days of it."""

    @dg.asset(partitions_def=DAYS)
    def upstream() -> None: ...

    @dg.asset_check(asset=upstream, blocking=True, partitions_def=check_partitions)
    def passed(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=context.run.tags["dagster/partition"] != BAD)

    @dg.asset(
        partitions_def=DAYS,
        deps=[dg.AssetDep(upstream, partition_mapping=TWO_DAYS)],
        automation_condition=dg.AutomationCondition.missing()
        & dg.AutomationCondition.all_deps_blocking_checks_passed(),
    )
    def downstream() -> None: ...

    unchecked = dg.define_asset_job("unchecked", dg.AssetSelection.all().without_checks())
    return dg.Definitions(assets=[upstream, downstream], asset_checks=[passed], jobs=[unchecked])


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
