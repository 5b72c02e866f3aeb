"""Answers requests about models, whatever protocol they came by: checks them, reads, scores, tells, and logs.

It is given who is champion and where predictions are logged, and knows neither registry nor lake nor HTTP. A
prediction is made in steps, so that requests that wait can be scored together (`batching`).
"""

import os
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from pydantic_core import to_json

from ml_platform.kernel.settings import ServingSettings
from ml_platform.models.contract import Contract
from ml_platform.serving.answers import Telling
from ml_platform.serving.compute import Answer, Scorer, ViewRows
from ml_platform.serving.exchange import Exchange, all_in_stage
from ml_platform.serving.instances import Instances, Row
from ml_platform.serving.logged import LoggedBatch
from ml_platform.serving.problems import Refused
from ml_platform.serving.slots import Status

_MICROS = 1_000_000
T = TypeVar("T")
Told = tuple[Answer, Sequence[str]]
"""What the rows of a request were answered, and the ids under which the predictions are logged."""
Steps = Generator[Sequence[Row], Told, T]
"""Work on one request that checks its rows, gives them away to be scored, and tells what came of them."""


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
    """Who is champion, at this moment; `following.Champions` follows the registry."""

    def current(self, name: str) -> Served | None: ...
    def status(self) -> Sequence[Status]: ...
    def shadows(self) -> Sequence[Status]: ...
    def ready(self) -> bool: ...


class Log(Protocol):
    """Where predictions go; `log.PredictionLog` writes them to the lake."""

    def offer(self, prediction: LoggedBatch) -> None: ...


class Shadow(Protocol):
    """Who scores the same again, beside the answer; `shadow.Shadow` does it with a challenger."""

    def offer(self, answered: LoggedBatch, online: Sequence[ViewRows]) -> None: ...


@dataclass(frozen=True)
class Scored:
    """The rows of one request with what was read for them and answered, as of a time in microseconds."""

    served: Served
    at: int
    rows: Sequence[Row]
    answer: Answer
    prediction_ids: Sequence[str]
    online: Sequence[ViewRows]


@dataclass(frozen=True)
class Ready:
    """A version with everything that is made of its contract once."""

    served: Served
    instances: Instances
    telling: Telling


class Service:
    """Answers requests about the models that are served."""

    def __init__(
        self, settings: ServingSettings, versions: Versions, log: Log, shadow: Shadow | None = None
    ) -> None:
        self.versions = versions
        self._log, self._shadow = log, shadow
        self.max_batch = settings.max_batch
        self._replay = None if settings.at is None else round(settings.at.timestamp() * _MICROS)
        self._ready: dict[str, Ready] = {}
        self._making = threading.Lock()

    def names(self) -> list[str]:
        """The models that this service is there for, ready or not."""
        return sorted({status.model for status in self.versions.status()})

    def served(self) -> list[str]:
        """The models that have a version to answer with."""
        return [name for name in self.names() if self.versions.current(name) is not None]

    def ready(self, name: str) -> Ready:
        """What answers for a model now; Refused when there is no such model, or no version of it to serve."""
        served = self.versions.current(name)
        if served is None:
            raise self._no_such("model", name, self.names())
        found = self._ready.get(name)
        return found if found is not None and found.served is served else self._make(served)

    def ready_for(self, service: str) -> Ready:
        """What reads the features of a feature service now: the first model that is served from it."""
        found = {name: self.ready(name) for name in self.served()}
        for ready in found.values():
            if ready.served.contract.feature_service == service:
                return ready
        known = sorted({ready.served.contract.feature_service for ready in found.values()})
        raise self._no_such("service", service, known)

    def now(self) -> int:
        """The time that answers are as of, in microseconds since 1970."""
        return time.time_ns() // 1000 if self._replay is None else self._replay

    def predict(self, ready: Ready, exchange: Exchange) -> Steps[bytes]:
        """Answer the rows of a JSON body."""
        with exchange.stage("validate"):
            rows = ready.instances.parse(exchange.body)
        answer, ids = yield rows
        with exchange.stage("answer"):
            head = {"as_of": exchange.at, "request_id": exchange.request_id, "trace_id": exchange.trace_id}
            return to_json(ready.telling.document(answer, rows, ids, **head), inf_nan_mode="null")

    def score(self, ready: Ready, asked: Sequence[tuple[Exchange, Sequence[Row]]]) -> list[Scored]:
        """Score the rows of some requests, which were checked: of each what was answered, and from what."""
        served, at = ready.served, self.now()
        rows = [row for _, own in asked for row in own]
        with all_in_stage("features", [exchange for exchange, _ in asked]):
            online = served.features.read(rows)
        with all_in_stage("predict", [exchange for exchange, _ in asked]), np.errstate(over="ignore"):
            answer = served.scorer.score(rows, online, at=at)  # infinite, as in training
        start, found = 0, list[Scored]()
        for exchange, own in asked:
            mine = slice(start, start := start + len(own))
            part, read = answer, online
            if len(asked) > 1:
                part, read = answer.part(mine), [view.part(mine) for view in online]
            exchange.served, exchange.at = served, at
            exchange.views, exchange.outcomes = part.views, part.outcomes
            ids = _prediction_ids(len(own))
            found.append(Scored(served, at, own, part, ids, read))
        return found

    def keep(self, exchange: Exchange, scored: Scored) -> None:
        """Log a request that was answered, and have it scored in shadow; not one that was given up meanwhile."""
        if exchange.reason is not None:
            return
        served = scored.served
        logged = LoggedBatch(
            contract=served.contract,
            version=served.version,
            run_id=served.run_id,
            role="champion",
            request_id=exchange.request_id,
            trace_id=exchange.trace_id,
            as_of=scored.at,
            prediction_ids=scored.prediction_ids,
            rows=scored.rows,
            answer=scored.answer,
        )
        self._log.offer(logged)
        if self._shadow is not None:
            self._shadow.offer(logged, scored.online)

    def features(self, ready: Ready, exchange: Exchange, rows: Sequence[Row] | None = None) -> bytes:
        """Answer with the features of views alone, for keys that were checked or are in the body."""
        if rows is None:
            with exchange.stage("validate"):
                rows = ready.instances.keys(exchange.body)
        served = exchange.served = ready.served
        exchange.at = at = self.now()
        with exchange.stage("features"):
            values, views = served.scorer.values(served.features.read(rows), at=at)
        exchange.views = views
        with exchange.stage("answer"):
            rejected = served.scorer.rejected(views, len(rows))
            head = {"as_of": at, "request_id": exchange.request_id, "trace_id": exchange.trace_id}
            return to_json(ready.telling.features(values, views, rejected, rows, **head), inf_nan_mode="null")

    def _no_such(self, what: str, name: str, known: Sequence[str]) -> Refused:
        if not self.versions.ready() and (what == "service" or name in known or not known):
            detail = (
                f"a version that can be served is required for {name[:100]!r}; there is none now. Ask later"
            )
            return Refused(503, "not_ready", detail, headers={"Retry-After": "2"})
        detail = (
            f"a {what} that is served is required ({', '.join(known) or 'there is none'}); got {name[:100]!r}"
        )
        return Refused(404, "unknown_model" if what == "model" else "unknown_service", detail)

    def _make(self, served: Served) -> Ready:
        with self._making:
            found = self._ready.get(served.name)
            if found is None or found.served is not served:
                instances = Instances(served.contract, max_batch=self.max_batch)
                telling = Telling(served.contract, version=served.version, run_id=served.run_id)
                found = self._ready[served.name] = Ready(served, instances, telling)
            return found


def _prediction_ids(rows: int) -> list[str]:
    """Ids that no other prediction has, whichever process made it."""
    stem = os.urandom(12).hex()
    return [f"{stem}-{i}" for i in range(rows)]
