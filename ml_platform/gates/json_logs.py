"""What Dagster logs of a run as JSON, with the trace that its steps' spans are of.

Dagster is told in `dagster.yaml`, under `python_logs`: docs/telemetry.md has the lines.
"""

import logging
from typing import Any

from dagster import DagsterEvent

from ml_platform.gates.failures import words_of
from ml_platform.kernel.json_logs import JsonFormatter
from ml_platform.kernel.telemetry import trace_id_of


class RunJsonFormatter(JsonFormatter):
    """A record of Dagster as one line of JSON: what was said, by which run and step, of which partitions."""

    def about(self, record: logging.LogRecord) -> dict[str, Any]:
        meta: dict[str, Any] | None = getattr(record, "dagster_meta", None)
        if meta is None:
            return super().about(record)
        tags, event = meta["job_tags"] or {}, meta["dagster_event"]
        told = {
            "message": meta["orig_message"],
            "run_id": meta["run_id"],
            "trace_id": trace_id_of(meta["run_id"]) if meta["run_id"] else None,
            "step": meta["step_key"],
            "partition": tags.get("dagster/partition"),
            "first_partition": tags.get("dagster/asset_partition_range_start"),
            "last_partition": tags.get("dagster/asset_partition_range_end"),
            **(_of(event) if event is not None else {}),
        }
        return {name: value for name, value in told.items() if value is not None}


def _of(event: DagsterEvent) -> dict[str, Any]:
    key = event.asset_key
    return {
        "event": event.event_type_value,
        "asset": key.to_user_string() if key is not None else None,
        "failure": words_of(event.step_failure_data) if event.is_step_failure else None,
    }
