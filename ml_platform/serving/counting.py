"""Counters and histograms that cost a request next to nothing: it adds to all of them under one lock.

Prometheus's own client takes a lock for each; here whoever scrapes turns the numbers into its families.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]


@dataclass
class Counts:
    """A counter with labels. Who adds holds the lock of all."""

    name: str
    help: str
    labels: Labels
    values: dict[Labels, float] = field(default_factory=dict[Labels, float])

    def add(self, labels: Labels, amount: float = 1) -> None:
        self.values[labels] = self.values.get(labels, 0) + amount

    def family(self) -> CounterMetricFamily:
        found = CounterMetricFamily(self.name, self.help, labels=self.labels)
        for labels, value in self.values.items():
            found.add_metric(labels, value)
        return found


@dataclass
class Histogram:
    """A histogram with labels. Who adds holds the lock of all."""

    name: str
    help: str
    labels: Labels
    bounds: Sequence[float]
    buckets: dict[Labels, list[int]] = field(default_factory=dict[Labels, list[int]])
    sums: dict[Labels, float] = field(default_factory=dict[Labels, float])

    def add(self, labels: Labels, value: float, count: int = 1) -> None:
        """Count a value, as often as it was there."""
        counts = self.buckets.get(labels)
        if counts is None:
            counts = self.buckets[labels] = [0] * (len(self.bounds) + 1)
            self.sums[labels] = 0.0
        counts[bisect_left(self.bounds, value)] += count
        self.sums[labels] += value * count

    def family(self) -> HistogramMetricFamily:
        found = HistogramMetricFamily(self.name, self.help, labels=self.labels)
        for labels, counts in self.buckets.items():
            found.add_metric(labels, list(self._cumulative(counts)), self.sums[labels])
        return found

    def _cumulative(self, counts: Sequence[int]) -> Iterator[tuple[str, float]]:
        total = 0
        for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
            total += count
            yield floatToGoString(bound), total
