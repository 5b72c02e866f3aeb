"""Traces: one span for a request, with the feature read and the prediction in it.

Spans are made of times that were taken anyway, once the request is over, and only where a collector is set.
"""

import os
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ml_platform.kernel.telemetry import provider
from ml_platform.serving.exchange import Exchange

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_TRACE_PARENT = re.compile(rb"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_NAMES = {"features": "feature read", "predict": "prediction"}


class Tracing(Protocol):
    """Gives every request the id of a trace, and may send the trace somewhere."""

    def begin(self, exchange: Exchange, headers: Mapping[bytes, bytes]) -> None: ...
    def end(self, exchange: Exchange) -> None: ...
    def close(self) -> None: ...


_PATIENCE_S = 2  # a service that ends waits no longer for a collector


class TraceIds:
    """Ids alone: the caller's own trace, or a new one."""

    def begin(self, exchange: Exchange, headers: Mapping[bytes, bytes]) -> None:
        given = _TRACE_PARENT.fullmatch(headers.get(b"traceparent", b""))
        own = given is not None and given[1].strip(b"0")
        exchange.trace_id = given[1].decode() if given and own else os.urandom(16).hex()

    def end(self, exchange: Exchange) -> None:
        """Nothing is sent."""

    def close(self) -> None:
        """Nothing is open."""


class Spans:
    """Spans sent to an OpenTelemetry collector over HTTP, in the background."""

    def __init__(self, endpoint: str) -> None:
        self._provider = provider(endpoint, service="ml-platform-serving", patience_s=_PATIENCE_S)
        self._tracer: Tracer = self._provider.get_tracer("ml_platform.serving")
        self._epoch = time.time_ns() - time.perf_counter_ns()

    def begin(self, exchange: Exchange, headers: Mapping[bytes, bytes]) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier = {
            name: headers.get(name.encode(), b"").decode("latin-1") for name in ("traceparent", "tracestate")
        }
        span = exchange.span = self._tracer.start_span(
            exchange.method,
            context=TraceContextTextMapPropagator().extract(carrier),
            kind=SpanKind.SERVER,
            start_time=self._epoch + exchange.started,
        )
        exchange.trace_id = f"{span.get_span_context().trace_id:032x}"

    def end(self, exchange: Exchange) -> None:
        from opentelemetry.trace import StatusCode, set_span_in_context

        span = exchange.span
        if span.is_recording():
            about = _about(exchange)
            context = set_span_in_context(span)
            for stage, (began, ended) in list(exchange.stages.items()):
                part = self._tracer.start_span(
                    _NAMES.get(stage, stage),
                    context=context,
                    start_time=self._epoch + began,
                    attributes=about,
                )
                part.end(self._epoch + ended)
            span.update_name(f"{exchange.method} {exchange.route}")
            span.set_attributes(
                about
                | {
                    "http.request.method": exchange.method,
                    "http.route": exchange.route,
                    "http.response.status_code": exchange.status,
                    "ml_platform.request_id": exchange.request_id,
                    "ml_platform.rows": len(exchange.outcomes),
                }
            )
            if exchange.reason is not None:
                span.set_attribute("ml_platform.refused", exchange.reason)
            if exchange.status >= 500:
                span.set_status(StatusCode.ERROR)
        span.end()

    def close(self) -> None:
        """Send what waits."""
        self._provider.shutdown()


def tracing(endpoint: str | None) -> Tracing:
    """Spans where a collector is set; ids alone where none is."""
    return Spans(endpoint) if endpoint else TraceIds()


def _about(exchange: Exchange) -> dict[str, Any]:
    """The version that answered, and the run that trained it."""
    served = exchange.served
    if served is None:
        return {}
    return {
        "ml_platform.model": served.name,
        "ml_platform.model_version": served.version,
        "ml_platform.training_run": served.run_id,
    }
