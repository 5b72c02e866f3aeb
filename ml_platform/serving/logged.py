"""What is kept of a request that was answered: enough to ask later what was said, from which values, and by whom."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Answer

Role = Literal["champion", "shadow"]
"""`champion`: this was answered. `shadow`: it was scored beside the answer, and nobody was told."""


@dataclass(frozen=True)
class LoggedBatch:
    """The rows of one request as one version scored them.

    `rows` are the instances as they were asked for, with keys, request values and, where it was given, the id of the
    event. `as_of` is in microseconds since 1970 UTC. Nothing is copied: who offers it does not change it afterwards.
    """

    contract: Contract
    version: int
    run_id: str
    role: Role
    request_id: str
    trace_id: str
    as_of: int
    prediction_ids: Sequence[str]
    rows: Sequence[Mapping[str, Any]]
    answer: Answer

    def __len__(self) -> int:
        return len(self.rows)
