"""The daily chain: what assets declare as their automation, evaluated by the daemon."""

import dagster as dg

from ml_platform.kernel.settings import settings


@dg.definitions
def automation() -> dg.Definitions:
    """Dagster's own sensor of automation conditions, which it makes too, but never starts."""
    status = dg.DefaultSensorStatus.RUNNING if settings().automation else dg.DefaultSensorStatus.STOPPED
    sensor = dg.AutomationConditionSensorDefinition(
        "default_automation_condition_sensor", target=dg.AssetSelection.all(), default_status=status
    )
    return dg.Definitions(sensors=[sensor])
