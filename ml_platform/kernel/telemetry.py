"""Traces: how spans get to an OpenTelemetry collector, and the span of a step that makes partitions of an asset.

OpenTelemetry is loaded only where a collector is set.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import NAMESPACE_OID, UUID, uuid5

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.id_generator import IdGenerator

PATIENCE_S = 5  # a step that is done waits no longer for a collector


def provider(
    endpoint: str, *, service: str, ids: "IdGenerator | None" = None, patience_s: float | None = None
) -> "TracerProvider":
    """Sends spans of a service to a collector over HTTP, in the background; `shutdown` sends what waits."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    exporter = OTLPSpanExporter(endpoint=traces_address(endpoint), timeout=patience_s)
    found = TracerProvider(resource=Resource.create({"service.name": service}), id_generator=ids)
    found.add_span_processor(BatchSpanProcessor(exporter))
    return found


def traces_address(endpoint: str) -> str:
    """Where a collector takes traces, of its address with that path or without."""
    address = endpoint.rstrip("/")
    return address if address.endswith("/v1/traces") else f"{address}/v1/traces"


def trace_id_of(run_id: str) -> str:
    """The trace of a run: the run's own id, so that steps in other processes and all of its logs are of it too.

    Who launches a run may call it otherwise than Dagster does: of an id that is no UUID the trace is made.
    """
    try:
        return UUID(run_id).hex
    except ValueError:
        return uuid5(NAMESPACE_OID, run_id).hex


@contextmanager
def step_span(
    endpoint: str | None, *, asset: str, partitions: Sequence[str], run_id: str
) -> Generator[None, None, None]:
    """A span around a step, in the trace of its run; nothing where no collector is set."""
    if not endpoint:
        yield
        return
    from opentelemetry.trace import SpanKind, StatusCode

    spans = provider(endpoint, service="ml-platform-assets", ids=_of_run(run_id), patience_s=PATIENCE_S)
    span = spans.get_tracer("ml_platform.assets").start_span(
        f"materialize {asset}",
        kind=SpanKind.INTERNAL,
        attributes={
            "ml_platform.asset": asset,
            "ml_platform.partitions": tuple(partitions),
            "ml_platform.run_id": run_id,
        },
    )
    try:
        yield
    except Exception as err:
        # Of a refusal it has the words; other errors may quote a value.
        span.set_status(StatusCode.ERROR, getattr(err, "description", None))
        span.set_attribute("error.type", type(err).__name__)
        raise
    finally:
        span.end()
        spans.shutdown()


def _of_run(run_id: str) -> "IdGenerator":
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class OfRun(RandomIdGenerator):
        """Every span that begins a trace begins that of the run."""

        def generate_trace_id(self) -> int:
            return int(trace_id_of(run_id), 16)

    return OfRun()
