"""Asks every store at a scrape, in threads: one that does not answer takes nobody else's answer away."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_LOG = logging.getLogger(__name__)

FRESH_S = 5.0
"""For so long an answer is given again, so that who scrapes more often asks the stores no more often."""

PATIENCE_S = 5.0
"""A store that has not answered a scrape by then counts as one that does not answer. Prometheus waits ten seconds."""

_OPENING_S = 15.0
"""For so long a store's first question waits for the first questions of others."""


@dataclass(frozen=True)
class Reading:
    """Something that is read of one store, or of several; the first is the one that is asked most."""

    stores: tuple[str, ...]
    read: Callable[[], Iterable[Metric]]


class _Asked:
    """One question under way, in a thread that ends with the process, or its answer.

    While `opening` is held nobody else opens a store: Dagster and MLflow both make new databases by Alembic, which
    keeps what it is doing for the whole process.
    """

    def __init__(self, reading: Reading, *, opening: "threading.Lock | None") -> None:
        self.began = time.monotonic()
        self.metrics: list[Metric] = []
        self.error = "no answer in time"
        self._done = threading.Event()
        threading.Thread(target=self._ask, args=(reading, opening), daemon=True).start()

    @property
    def under_way(self) -> bool:
        return not self._done.is_set()

    def answered(self, deadline: float) -> bool:
        """Whether there is an answer at a time of the monotonic clock; waits for one until then."""
        return self._done.wait(max(0.0, deadline - time.monotonic())) and not self.error

    def _ask(self, reading: Reading, opening: "threading.Lock | None") -> None:
        held = opening is not None and opening.acquire(timeout=_OPENING_S)
        try:
            self.metrics = list(reading.read())
            self.error = ""
        except Exception as err:  # noqa: BLE001 - whichever store it is, its client has errors of its own
            self.error = f"{type(err).__name__}: {err}"
            _LOG.debug("reading %s failed", reading.stores, exc_info=err)
        finally:
            if opening is not None and held:
                opening.release()
            self._done.set()


class StoreCollector(Collector):
    """The metrics of all readings, and for every store whether it answered."""

    def __init__(
        self, readings: Sequence[Reading], *, patience_s: float = PATIENCE_S, fresh_s: float = FRESH_S
    ) -> None:
        self._readings = sorted(readings, key=lambda reading: len(reading.stores))
        self._patience_s, self._fresh_s = patience_s, fresh_s
        self._asked: dict[int, _Asked] = {}
        self._down: dict[str, str] = {}
        self._opened: set[str] = set()
        self._lock, self._opening = threading.Lock(), threading.Lock()

    def describe(self) -> Iterable[Metric]:
        """Nothing beforehand: names are known when stores are asked, and registering asks none."""
        return []

    def collect(self) -> Iterator[Metric]:
        return iter(self.answers(self._patience_s))

    def answers(self, patience_s: float) -> list[Metric]:
        """All metrics that are there after so many seconds, and which stores had not answered by then."""
        down: dict[str, str] = {}
        found: list[Metric] = []
        deadline = time.monotonic() + patience_s
        alone = sum(len(reading.stores) == 1 for reading in self._readings)
        for numbers in (range(alone), range(alone, len(self._readings))):
            asked = {n: self._ask(n) for n in numbers if not down.keys() & set(self._readings[n].stores)}
            for n, question in asked.items():
                store = self._readings[n].stores[0]
                if question.answered(deadline):
                    found += question.metrics
                    self._opened.add(store)
                else:
                    down[store] = question.error
        self._tell(down)
        return [self._up(down), *found]

    def _ask(self, number: int) -> _Asked:
        """The question under way, or its answer while it is fresh; else a new question."""
        with self._lock:
            asked = self._asked.get(number)
            fresh = asked is not None and time.monotonic() - asked.began < self._fresh_s
            if asked is None or not (asked.under_way or fresh):
                reading = self._readings[number]
                opening = None if reading.stores[0] in self._opened else self._opening
                asked = self._asked[number] = _Asked(reading, opening=opening)
            return asked

    def _up(self, down: Mapping[str, str]) -> Metric:
        up = GaugeMetricFamily(
            "ml_platform_up",
            "1 when the store answered all that it was asked for these metrics, 0 when it did not.",
            labels=["store"],
        )
        for store in sorted({store for reading in self._readings for store in reading.stores}):
            up.add_metric([store], float(store not in down))
        return up

    def _tell(self, down: Mapping[str, str]) -> None:
        """Log what has changed since the scrape before."""
        with self._lock:
            before, self._down = self._down, dict(down)
        for store in down.keys() - before.keys():
            _LOG.warning("%s does not answer: %s", store, down[store])
        for store in before.keys() - down.keys():
            _LOG.warning("%s answers again", store)
