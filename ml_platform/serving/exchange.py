"""One request on its way to its answer: what is known of it, for whoever counts, traces or logs it afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from ml_platform.serving.compute import Outcome, ViewState
from ml_platform.serving.problems import Reason, problem_of

if TYPE_CHECKING:
    from ml_platform.serving.service import Served


@dataclass(slots=True)
class Exchange:
    """One request, and what became of it.

    `stages` are when each part of the work began and ended, on the process's own clock in nanoseconds; `at` is what
    the answer is as of, in microseconds since 1970. `caller` is the name of the key that came with it; `complete` is
    whether all of the request has come.
    """

    request_id: str
    method: str
    trace_id: str = ""
    started: int = field(default_factory=perf_counter_ns)
    body: bytes = b""
    complete: bool = False
    caller: str | None = None
    route: str = "(none)"
    served: "Served | None" = None
    at: int = 0
    stages: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    views: Sequence[ViewState] = ()
    outcomes: Sequence[Outcome] = ()
    status: int = 0
    reason: Reason | None = None
    error: Exception | None = None
    span: Any = None

    def refuse(self, err: Exception) -> Response:
        """The answer to a request that raised something, which is remembered for the log."""
        problem = problem_of(err)
        self.reason, self.error = problem.reason, err
        return problem.response(self.request_id)

    def stage(self, name: str) -> "Stage":
        """Time a part of the work."""
        return Stage(name, [self.stages])


class Stage:
    """A part of the work on some requests, timed whether it succeeds or not."""

    __slots__ = ("_name", "_of_requests", "_started")

    def __init__(self, name: str, of_requests: Sequence[dict[str, tuple[int, int]]]) -> None:
        self._name, self._of_requests = name, of_requests

    def __enter__(self) -> None:
        self._started = perf_counter_ns()

    def __exit__(self, *_: object) -> None:
        ended = perf_counter_ns()
        for stages in self._of_requests:
            stages[self._name] = (self._started, ended)


def all_in_stage(name: str, exchanges: Sequence[Exchange]) -> Stage:
    """Time a part of the work that is done for some requests at once: each has waited for all of it."""
    return Stage(name, [exchange.stages for exchange in exchanges])
