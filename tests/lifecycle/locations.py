"""Two code locations for every way to run: one of stock Dagster, one with the same idea compiled by the platform."""

import warnings

import dagster as dg

from tests.lifecycle.toys import Toys

BAD, GOOD = "2018-06-03", "2018-06-04"
DAYS = dg.DailyPartitionsDefinition("2018-06-01", end_date="2018-06-10")
TWO_DAYS = dg.TimeWindowPartitionMapping(start_offset=-1)


def graph(*, check_partitions: dg.PartitionsDefinition | None = None) -> dg.Definitions:
    """`upstream`, whose blocking check fails on one day, `downstream`, which reads two days of it, and `last`."""

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

    @dg.asset(partitions_def=DAYS, deps=[downstream])
    def last() -> None: ...

    unchecked = dg.define_asset_job("unchecked", dg.AssetSelection.all().without_checks())
    return dg.Definitions(assets=[upstream, downstream, last], asset_checks=[passed], jobs=[unchecked])


def stock() -> dg.Definitions:
    """What Dagster has."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return graph(check_partitions=DAYS)


def gated() -> dg.Definitions:
    """The toy graph, in which the profile of one day drifted."""
    toys = _toys("gated")
    toys.fail(toys.profiles, BAD)
    return toys.defs


def gated_far() -> dg.Definitions:
    """The toy graph, in which the raw rows of one day fail: an ancestor two steps above the model."""
    toys = _toys("gated_far")
    toys.fail(toys.raw, BAD)
    return toys.defs


def _toys(group: str) -> Toys:
    return Toys(None, group)  # type: ignore[arg-type]  # whoever loads the location runs it
