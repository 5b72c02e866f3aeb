"""Scores a challenger beside the champion: what it would have said is logged, and no answer waits for it.

A request hands over what it was answered from and goes on. One thread scores that again with the version in shadow,
from the same values where both versions read the same views. What does not fit into the queue, or cannot be scored,
is counted; nothing of it is ever an error in an answer.
"""

import logging
import threading
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from ml_platform.kernel.errors import StoreError
from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Scorer, ViewRows
from ml_platform.serving.logged import LoggedBatch

log = logging.getLogger(__name__)

_CAPACITY = 1000


class Features(Protocol):
    """Where the online features of a version are read."""

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]: ...


class Shadowing(Protocol):
    """A version that is scored in shadow."""

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
    """Which version of a model is scored in shadow, if one is."""

    def shadow(self, name: str) -> Shadowing | None: ...


class Log(Protocol):
    """Where predictions go."""

    def offer(self, prediction: LoggedBatch) -> None: ...


class Shadow:
    """A bounded queue of answered requests, and the thread that scores them with the version in shadow.

    `capacity` is in predictions.
    """

    def __init__(self, versions: Versions, log: Log, *, capacity: int = _CAPACITY) -> None:
        self._versions, self._log, self._capacity = versions, log, capacity
        self._waiting: deque[tuple[LoggedBatch, Sequence[ViewRows], Shadowing]] = deque()
        self._changed = threading.Condition()
        self._depth = self._lost = self._failed = self._scored = 0
        self._said = ""
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Predictions that wait to be scored in shadow."""
        return self._depth

    @property
    def lost(self) -> int:
        """Predictions that were never scored in shadow, because too many waited."""
        return self._lost

    @property
    def failed(self) -> int:
        """Predictions that could not be scored in shadow; the log says why."""
        return self._failed

    @property
    def scored(self) -> int:
        """Predictions that were scored in shadow and handed to the log."""
        return self._scored

    def offer(self, answered: LoggedBatch, online: Sequence[ViewRows]) -> None:
        """Take an answered request with what was read for it; never waits, and does nothing without a shadow."""
        shadow = self._versions.shadow(answered.contract.model)
        if shadow is None:
            return
        with self._changed:
            if self._closing or self._depth + len(answered) > self._capacity:
                self._lost += len(answered)
                return
            self._depth += len(answered)
            self._waiting.append((answered, online, shadow))
            self._changed.notify()

    def close(self, *, timeout_seconds: float = 5) -> None:
        """Score what waits, and stop; what cannot be scored in time is lost, and counted."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout_seconds)
        with self._changed:
            self._lost, self._depth = self._lost + self._depth, 0
            self._waiting.clear()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if not self._waiting:
                    return
                answered, online, shadow = self._waiting.popleft()
            scored = self._score(answered, online, shadow)
            with self._changed:
                if not self._depth:  # it was counted as lost meanwhile
                    return
                self._depth -= len(answered)
                if scored is None:
                    self._failed += len(answered)
                else:
                    self._log.offer(scored)
                    self._scored += len(answered)

    def _score(
        self, answered: LoggedBatch, online: Sequence[ViewRows], shadow: Shadowing
    ) -> LoggedBatch | None:
        """What the version in shadow says; None when it cannot, which is an error in the log once for each change."""
        try:
            scored = _scored(answered, online, shadow)
        except BaseException as err:  # noqa: BLE001 (whatever it is, it is of the shadow alone)
            said = f"{answered.contract.model} version {shadow.version} is not scored in shadow: {_why(err)}"
            if said != self._said:
                log.error("model %s. Answers are as before", said)
            self._said = said
            return None
        self._said = ""
        return scored


def _scored(answered: LoggedBatch, online: Sequence[ViewRows], shadow: Shadowing) -> LoggedBatch:
    """What the version in shadow says to a request that was answered."""
    theirs, own = answered.contract, shadow.contract
    missing = [*_others(own.request, theirs.request), *_others(own.keys, theirs.keys)]
    if missing:
        raise StoreError(
            f"requests with {', '.join(missing)} are required; those of the champion, version {answered.version}, "
            f"have {', '.join([*theirs.keys, *theirs.request])}"
        )
    read = online if own.views == theirs.views else shadow.features.read(answered.rows)
    with np.errstate(over="ignore"):
        answer = shadow.scorer.score(answered.rows, read, at=answered.as_of)
    return replace(
        answered,
        contract=own,
        version=shadow.version,
        run_id=shadow.run_id,
        role="shadow",
        prediction_ids=[f"{found}-shadow" for found in answered.prediction_ids],
        answer=answer,
    )


def _why(err: BaseException) -> str:
    """What went wrong, without the values of a request that other errors than ours may quote."""
    if isinstance(err, StoreError):
        return str(err).rstrip(".")
    *_, last = traceback.extract_tb(err.__traceback__)
    return f"{type(err).__name__} in {last.name}, {last.filename}:{last.lineno}"


def _others(own: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """What one version is asked with and the other is not, with its type."""
    return [f"{name} ({kind})" for name, kind in own.items() if theirs.get(name) != kind]
