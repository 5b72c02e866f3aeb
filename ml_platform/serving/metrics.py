"""What Prometheus is told about the service: how fast, how fresh, by which version, and what was refused or lost."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from time import perf_counter_ns
from typing import Protocol, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ml_platform.serving.counting import Counts, Histogram
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.service import Versions

T = TypeVar("T")
_P = "ml_platform_serving_"
_SECONDS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_HOUR = 3600.0
_AGES = tuple(hours * _HOUR for hours in (1, 2, 4, 8, 12, 18, 24, 30, 36, 48, 72, 96, 168, 336, 720))
_NS = 1_000_000_000
_MICROS = 1_000_000


class LogState(Protocol):
    """How the prediction log is."""

    @property
    def depth(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def written(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def oldest_seconds(self) -> float: ...


class ShadowState(Protocol):
    """How scoring in shadow is."""

    @property
    def depth(self) -> int: ...
    @property
    def lost(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def scored(self) -> int: ...


class Metrics(Collector):
    """The metrics of one service, in a registry of their own."""

    def __init__(self, versions: Versions, log: LogState, shadow: ShadowState | None) -> None:
        self._versions, self._log, self._shadow = versions, log, shadow
        self._lock = threading.Lock()
        self.in_flight = 0
        self.requests = Counts(f"{_P}requests", "Requests answered.", ("route", "status"))
        self.refused = Counts(f"{_P}refused", "Requests answered with a problem, by reason.", ("reason",))
        self.predictions = Counts(f"{_P}predictions", "Rows answered.", ("model", "version", "outcome"))
        self.missing = Counts(f"{_P}missing", "Rows for whose key a view had nothing.", ("model", "view"))
        self.breaches = Counts(
            f"{_P}ttl_breaches", "Rows whose values of a view were older than its ttl.", ("model", "view")
        )
        self.store_errors = Counts(f"{_P}store_errors", "Requests that a store did not answer.", ("route",))
        self.seconds = Histogram(
            f"{_P}stage_seconds",
            "Seconds of each stage; `request` is all of a request that has any.",
            ("stage",),
            _SECONDS,
        )
        self.ages = Histogram(
            f"{_P}features_age_seconds", "Age of the values of a view, of each row.", ("model", "view"), _AGES
        )
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def count(self, exchange: Exchange) -> None:
        """Count a request that is over."""
        seconds = (perf_counter_ns() - exchange.started) / _NS
        with self._lock:
            self.requests.add((exchange.route, str(exchange.status)))
            if exchange.stages:  # probes and scrapes would make every quantile a small one
                self.seconds.add(("request",), seconds)
            for name, (began, ended) in list(exchange.stages.items()):
                self.seconds.add((name,), (ended - began) / _NS)
            if exchange.reason is not None:
                self.refused.add((exchange.reason,))
                if exchange.reason == "store":
                    self.store_errors.add((exchange.route,))
            if exchange.served is not None:
                self._count_rows(exchange, exchange.served.name, str(exchange.served.version))

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            families = [
                *(
                    counts.family()
                    for counts in (
                        self.requests,
                        self.refused,
                        self.predictions,
                        self.missing,
                        self.breaches,
                        self.store_errors,
                    )
                ),
                self.seconds.family(),
                self.ages.family(),
            ]
        yield from families
        yield _gauge("in_flight", "Requests that are being answered.", self.in_flight)
        yield from self._of_log()
        yield from self._of_versions()

    def _count_rows(self, exchange: Exchange, model: str, version: str) -> None:
        for outcome, rows in _counted(exchange.outcomes):
            self.predictions.add((model, version, outcome), rows)
        for view in exchange.views:
            for state, rows in _counted(view.states):
                if state == "missing":
                    self.missing.add((model, view.name), rows)
                elif state == "stale":
                    self.breaches.add((model, view.name), rows)
            for time, rows in _counted(view.times):
                if time is not None:
                    self.ages.add((model, view.name), (exchange.at - time) / _MICROS, rows)

    def _of_log(self) -> Iterator[Metric]:
        log, shadow = self._log, self._shadow
        yield _gauge("log_queue_depth", "Predictions that are not in the lake yet.", log.depth)
        yield _gauge("log_oldest_seconds", "How long the oldest of them has waited.", log.oldest_seconds)
        yield _counter("log_lost", "Predictions that will never be in the lake.", log.lost)
        yield _counter("log_written", "Predictions that are in the lake.", log.written)
        yield _counter(
            "log_write_failures", "Writes to the lake that failed; each is tried again.", log.failures
        )
        if shadow is not None:
            yield _gauge("shadow_queue_depth", "Predictions that wait to be scored in shadow.", shadow.depth)
            yield _counter("shadow_lost", "Predictions never scored in shadow: too many waited.", shadow.lost)
            yield _counter("shadow_failed", "Predictions that could not be scored in shadow.", shadow.failed)
            yield _counter("shadow_scored", "Predictions that were scored in shadow.", shadow.scored)

    def _of_versions(self) -> Iterator[Metric]:
        of_model = ("model", "role")
        info = GaugeMetricFamily(
            f"{_P}version_info",
            "Versions that are served.",
            labels=(*of_model, "version", "run_id", "origin"),
        )
        version = GaugeMetricFamily(f"{_P}version", "Number of the version served; 0: none.", labels=of_model)
        refused = GaugeMetricFamily(
            f"{_P}version_refused",
            "Number of a version that has the alias and is refused; 0: none.",
            labels=of_model,
        )
        registry = GaugeMetricFamily(
            f"{_P}registry_up", "Whether the model registry answers.", labels=of_model
        )
        problems = GaugeMetricFamily(
            f"{_P}problems", "What is not as it should be, in number.", labels=of_model
        )
        for status in (*self._versions.status(), *self._versions.shadows()):
            labels = (status.model, status.role)
            version.add_metric(labels, status.version or 0)
            refused.add_metric(labels, status.refused or 0)
            registry.add_metric(labels, float(status.registry))
            problems.add_metric(labels, len(status.problems))
            if status.version is not None:
                found = (*labels, str(status.version), status.run_id or "", status.origin or "")
                info.add_metric(found, 1)
        yield from (info, version, refused, registry, problems)


def _counted(values: Sequence[T]) -> Iterator[tuple[T, int]]:
    """How often each value is there; most requests have one row."""
    if len(values) == 1:
        yield values[0], 1
    else:
        yield from Counter(values).items()


def _gauge(name: str, help_text: str, value: float) -> Metric:
    found = GaugeMetricFamily(_P + name, help_text)
    found.add_metric((), value)
    return found


def _counter(name: str, help_text: str, value: float) -> Metric:
    found = CounterMetricFamily(_P + name, help_text)
    found.add_metric((), value)
    return found
