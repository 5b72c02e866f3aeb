"""What gates do on their own: overrides that have ended close again."""

import datetime as dt

import dagster as dg

from ml_platform.gates.overrides import close_expired
from ml_platform.kernel.settings import settings
from ml_platform.lake.tables import Lake


@dg.definitions
def gates() -> dg.Definitions:
    """The sensor that evaluates as failed again what an ended override still shows as passed."""
    return dg.Definitions(sensors=[expired_overrides])


@dg.sensor(
    name="expired_overrides",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Closes gates whose override has ended: the failure that it stood for is evaluated again.",
)
def expired_overrides(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Close what has ended; nothing is ever run for it."""
    lake = Lake(settings().lake_uri)
    closed = close_expired(context.instance, lake, now=dt.datetime.now(dt.UTC))
    words = "; ".join(gate.in_words() for gate in closed)
    return dg.SkipReason(f"closed again: {words}" if closed else "no override has ended")
