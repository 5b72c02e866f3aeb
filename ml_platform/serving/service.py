"""Answers requests about models, whatever protocol they came by: checks them, reads, scores, tells, and logs.

It is given who is champion and where predictions are logged, and knows neither registry nor lake nor HTTP. One
request is one call in one thread.
"""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from pydantic_core import to_json

from ml_platform.kernel.settings import ServingSettings
from ml_platform.models.contract import Contract
from ml_platform.serving.answers import Telling
from ml_platform.serving.compute import Answer, Scorer, ViewRows
from ml_platform.serving.instances import Instances
from ml_platform.serving.logged import LoggedBatch
from ml_platform.serving.problems import Refused

_MICROS = 1_000_000


class Features(Protocol):
    """Where the online features of a version are read."""

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]: ...


class Served(Protocol):
    """A version that is ready to serve."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def run_id(self) -> str: ...
    @property
    def contract(self) -> Contract: ...
    @property
    def scorer(self) -> Scorer: ...
    @property
    def features(self) -> Features: ...


class Versions(Protocol):
    """Who is champion, at this moment; `serving/following.py` follows the registry."""

    def current(self, name: str) -> Served | None: ...
    def shadow(self, name: str) -> Served | None: ...
    def status(self) -> Sequence[Any]: ...


class Log(Protocol):
    """Where predictions go; `serving/log.py` writes them to the lake."""

    def offer(self, prediction: LoggedBatch) -> None: ...


@dataclass(slots=True)
class Exchange:
    """One request on its way to its answer: who it is, and when it got how far.

    `stages` are the seconds that each part took; `reason` is why it was refused, if it was.
    """

    request_id: str
    trace_id: str
    caller: str | None = None
    body: bytes = b""
    served: Served | None = None
    at: int = 0
    stages: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    answer: Answer | None = None


@dataclass(frozen=True)
class Ready:
    """A version with everything that is made of its contract once."""

    served: Served
    instances: Instances
    telling: Telling


class Service:
    """Answers requests about the models that are served."""

    def __init__(self, settings: ServingSettings, versions: Versions, log: Log) -> None:
        self.versions = versions
        self._log = log
        self._max_batch = settings.max_batch
        self._replay = None if settings.at is None else round(settings.at.timestamp() * _MICROS)
        self._ready: dict[str, Ready] = {}
        self._making = threading.Lock()

    def names(self) -> list[str]:
        """The models that this service is there for, ready or not."""
        return [status.model for status in self.versions.status()]

    def ready(self, name: str) -> Ready:
        """What answers for a model now; Refused when there is no such model, or no version of it to serve."""
        served = self.versions.current(name)
        if served is None:
            if name in self.names():
                detail = (
                    f"a version of {name} is required that can be served; there is none now. Ask again later"
                )
                raise Refused(503, "not_ready", detail, headers={"Retry-After": "2"})
            served_names = ", ".join(self.names()) or "none"
            raise Refused(
                404,
                "unknown_model",
                f"a model that is served is required ({served_names}); got {name[:100]!r}",
            )
        found = self._ready.get(name)
        return found if found is not None and found.served is served else self._make(served)

    def now(self) -> int:
        """The time that answers are as of, in microseconds since 1970."""
        return time.time_ns() // 1000 if self._replay is None else self._replay

    def predict(self, ready: Ready, exchange: Exchange) -> bytes:
        """Answer the rows of a JSON body."""
        started = time.perf_counter_ns()
        rows = ready.instances.parse(exchange.body)
        exchange.stages["validate"] = (started, time.perf_counter_ns())
        answer, ids = self.score(ready, rows, exchange)
        started = time.perf_counter_ns()
        document = ready.telling.document(
            answer, rows, ids, at=exchange.at, request_id=exchange.request_id, trace_id=exchange.trace_id
        )
        told = to_json(document, inf_nan_mode="null")
        exchange.stages["answer"] = (started, time.perf_counter_ns())
        return told

    def score(
        self, ready: Ready, rows: Sequence[dict[str, Any]], exchange: Exchange
    ) -> tuple[Answer, Sequence[str]]:
        """Score rows that have been checked, with ids under which the predictions are logged."""
        served = exchange.served = ready.served
        exchange.at = at = self.now()
        started = time.perf_counter_ns()
        online = served.features.read(rows)
        read = time.perf_counter_ns()
        with np.errstate(over="ignore"):  # what is no float32 is refused by name, not warned about
            answer = served.scorer.score(rows, online, at=at)
        exchange.stages |= {"features": (started, read), "predict": (read, time.perf_counter_ns())}
        exchange.answer = answer
        ids = _prediction_ids(len(rows))
        self._log.offer(
            LoggedBatch(
                contract=served.contract,
                version=served.version,
                run_id=served.run_id,
                role="champion",
                request_id=exchange.request_id,
                trace_id=exchange.trace_id,
                as_of=at,
                prediction_ids=ids,
                rows=rows,
                answer=answer,
            )
        )
        return answer, ids

    def _make(self, served: Served) -> Ready:
        with self._making:
            found = self._ready.get(served.name)
            if found is None or found.served is not served:
                instances = Instances(served.contract, max_batch=self._max_batch)
                telling = Telling(served.contract, version=served.version, run_id=served.run_id)
                found = self._ready[served.name] = Ready(served, instances, telling)
            return found


def _prediction_ids(rows: int) -> list[str]:
    """Ids that no other prediction has, whichever process made it."""
    stem = os.urandom(12).hex()
    return [f"{stem}-{i}" for i in range(rows)]
