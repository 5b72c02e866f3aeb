"""When an asset may be made without anybody asking: automation conditions that respect the gates."""

import dagster as dg


def upstream_checks_passed() -> dg.AutomationCondition:
    """True when no mapped upstream partition has a blocking check that has not passed.

    Dagster's `all_deps_blocking_checks_passed()` is true as soon as one of several mapped partitions passed.
    """
    passed = dg.AutomationCondition.all_checks_match(
        dg.AutomationCondition.check_passed(), blocking_only=True
    )
    return (~dg.AutomationCondition.any_deps_match(~passed)).with_label("upstream_blocking_checks_passed")
