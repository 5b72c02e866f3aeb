"""The span of a step: what it costs where no collector takes it, and runs that Dagster did not name."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

import pytest

from ml_platform.kernel.telemetry import PATIENCE_S, step_span, trace_id_of
from tests.otlp import attributes, collector

RUN = "0c1b3f0e-6f2e-4a3e-9d53-2b8a5f3c1d77"
LATE_S = 2.0
"""What a busy machine may take beside the waiting: the bound is of seconds, not of a minute."""


@contextmanager
def nobody() -> Iterator[str]:
    """An address at which connections are refused."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def silence() -> Iterator[str]:
    """An address at which connections are taken, and nothing is ever answered."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_without_a_collector_the_patience_is_of_a_few_seconds() -> None:
    assert PATIENCE_S <= 5


@pytest.mark.parametrize("collector_is", [nobody, silence])
def test_a_collector_that_does_not_take_spans_holds_a_step_up_for_no_longer_than_the_patience(
    collector_is: Callable[[], AbstractContextManager[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with collector_is() as endpoint:
        with step_span(endpoint, asset="models/fraud", partitions=["2018-06-26"], run_id=RUN):
            done = time.monotonic()
        waited = time.monotonic() - done
    assert 0 < waited < PATIENCE_S + LATE_S
    assert "Failed to export" in caplog.text, "what was lost is told"


@pytest.mark.parametrize("run_id", [RUN, "nightly-2018-06-26", ""])
def test_a_run_may_be_called_anything_and_its_span_is_of_the_trace_that_its_log_has(run_id: str) -> None:
    with collector() as (endpoint, spans):
        with step_span(endpoint, asset="models/fraud", partitions=["2018-06-26"], run_id=run_id):
            """The step is made."""
        (span,) = spans()
    assert span.trace_id.hex() == trace_id_of(run_id)
    assert attributes(span)["ml_platform.run_id"] == run_id
    assert (trace_id_of(run_id) == UUID(RUN).hex) == (run_id == RUN)
