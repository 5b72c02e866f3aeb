"""An OpenTelemetry collector of the tests' own, and what it was sent."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.http_server import Quiet, answering


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span, by name."""
    return {given.key: _value(given.value) for given in span.attributes}


def _value(given: Any) -> Any:
    kind = given.WhichOneof("value")
    found = getattr(given, kind)
    return [_value(one) for one in found.values] if kind == "array_value" else found


@contextmanager
def collector() -> Iterator[tuple[str, Callable[[], list[Any]]]]:
    """An OpenTelemetry collector: its address, and the spans that it was sent."""
    received: list[Any] = []

    class Handler(Quiet):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                body = gzip.decompress(body)
            assert self.path == "/v1/traces"
            request = ExportTraceServiceRequest.FromString(body)
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    received.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

    with answering(Handler) as port:
        yield f"http://127.0.0.1:{port}", lambda: list(received)
