"""The prediction log: what was answered goes to the lake beside the requests, never in their way.

A request hands over what it has, as flat rows, and goes on. A thread writes what waits to a Delta table of each
model. What does not fit into the queue is lost and counted; what cannot be written waits and is tried again; a crash
loses what waits.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from ml_platform.kernel.settings import Settings
from ml_platform.lake.journal import Journal
from ml_platform.lake.tables import Lake
from ml_platform.models.contract import Contract
from ml_platform.serving.logged import SCHEMA, Cells, LoggedBatch, cells, encoded, log_table

_log = logging.getLogger(__name__)

_AT_ONCE = 2048
"""Predictions that are put into columns at once: a call takes 0.7 ms, whatever it is given, and 1.5 µs for each row."""

_PAUSE_S = 0.001


@dataclass(frozen=True, slots=True)
class _Offered:
    """The rows of one request, all of one contract."""

    contract: Contract
    rows: list[Cells]
    at: int


@dataclass(frozen=True)
class _Commit:
    """Rows on their way to a table, with the number under which they are there once, however often it is tried."""

    rows: pa.Table
    number: int
    offered_at: int


@dataclass
class _ModelLog:
    """The table of one model, as this process writes it."""

    journal: Journal
    number: int = 0
    unwritten: deque[_Commit] = field(default_factory=deque[_Commit])


class PredictionLog:
    """A bounded queue of predictions, and the thread that writes them.

    A prediction waits for half of `log_seconds` before it is written, so that writing it has the other half: as long
    as the lake takes what it is given, a crash loses no more than the predictions of the last `log_seconds`.
    """

    def __init__(self, settings: Settings) -> None:
        self._capacity = settings.serving.log_queue
        self._period = settings.serving.log_seconds / 2
        self._lake = Lake(settings.lake_uri)
        self._waiting: deque[_Offered] = deque()
        self._models: dict[str, _ModelLog] = {}
        self._lock = threading.Lock()
        self._depth = self._lost = self._written = self._failures = 0
        self._wake, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="prediction-log", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Predictions that are not in the lake yet: they wait, or are being written."""
        return self._depth

    @property
    def lost(self) -> int:
        """Predictions that will never be in the lake."""
        return self._lost

    @property
    def written(self) -> int:
        """Predictions that are in the lake."""
        return self._written

    @property
    def failures(self) -> int:
        """Writes that failed; each is tried again."""
        return self._failures

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest prediction has waited; 0 when none waits."""
        with self._lock:
            ages = [found.unwritten[0].offered_at for found in self._models.values() if found.unwritten]
            ages += [self._waiting[0].at] if self._waiting else []
        return max(0.0, (_now() - min(ages)) / 1e6) if ages else 0.0

    def offer(self, prediction: LoggedBatch) -> None:
        """Take a request's predictions to be written soon; never waits. What does not fit is lost, and counted."""
        now = _now()
        try:
            offered = _Offered(prediction.contract, cells(prediction, logged_at=now), now)
        except Exception:  # noqa: BLE001 - whatever is in the rows, who asked gets the answer
            self._lose(len(prediction))
            return
        with self._lock:
            if self._closing.is_set() or self._depth + len(prediction) > self._capacity:
                self._lost += len(prediction)
                return
            self._depth += len(prediction)
            self._waiting.append(offered)
            half_full = self._depth * 2 > self._capacity
        if half_full:
            self._wake.set()

    def close(self, *, timeout_seconds: float = 10) -> None:
        """Write what waits, and stop; what cannot be written in time is lost, and counted."""
        with self._lock:
            self._closing.set()
        self._wake.set()
        self._thread.join(timeout_seconds)
        with self._lock:
            self._lost, self._depth = self._lost + self._depth, 0
        if self._lost:
            _log.warning("prediction log: %s predictions were lost", f"{self._lost:,}")

    def _run(self) -> None:
        failed = False
        while not self._closing.is_set():
            self._wake.wait(self._period)
            if failed:
                self._closing.wait(self._period)  # a full queue does not make a broken lake whole
            self._wake.clear()
            failed = not self._write_all()
        self._write_all()

    def _write_all(self) -> bool:
        """Put what waits into columns and write it, the oldest first; whether all of it was written."""
        for commit, model in self._encoded():
            model.unwritten.append(commit)
        written = [self._write(name, model) for name, model in self._models.items()]
        return all(written)

    def _write(self, name: str, model: _ModelLog) -> bool:
        try:
            while model.unwritten:
                commit = model.unwritten[0]
                model.journal.append(commit.rows, number=commit.number)
                with self._lock:
                    model.unwritten.popleft()
                    self._written += commit.rows.num_rows
                    self._depth -= commit.rows.num_rows
            model.journal.merge_if_due()
        except BaseException:  # noqa: BLE001 - whatever the lake says, requests go on and it is tried again
            self._failures += 1
            _log.warning(
                "prediction log: %s could not be written; %s predictions wait and it is tried again",
                log_table(name),
                f"{self._depth:,}",
                exc_info=True,
            )
            return False
        return True

    def _encoded(self) -> Iterator[tuple[_Commit, _ModelLog]]:
        """What waits as one commit for each model."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        rows: dict[str, list[pa.Table]] = {}
        for group in _groups(taken):
            rows.setdefault(group[0].contract.model, []).extend(self._columns(group))
            time.sleep(_PAUSE_S)
        for name, tables in rows.items():
            if not tables:
                continue
            model = self._model(name)
            model.number += 1
            yield _Commit(pa.concat_tables(tables), model.number, taken[0].at), model

    def _columns(self, group: list[_Offered]) -> Iterator[pa.Table]:
        """The rows of some requests; of those that can be no rows, each alone is lost."""
        rows = [row for offered in group for row in offered.rows]
        try:
            yield encoded(group[0].contract, rows)
        except BaseException:  # noqa: BLE001 - one request's rows keep nobody else's out of the log
            if len(group) > 1:
                for one in group:
                    yield from self._columns([one])
                return
            self._lose(len(rows))
            with self._lock:
                self._depth -= len(rows)

    def _lose(self, rows: int) -> None:
        """Count rows that can be no rows of the table, and say why."""
        _log.exception("prediction log: %s predictions cannot be rows of the log, and are lost", rows)
        with self._lock:
            self._lost += rows

    def _model(self, name: str) -> _ModelLog:
        if name not in self._models:
            journal = Journal(self._lake.table(log_table(name)).uri, SCHEMA)
            with self._lock:
                self._models[name] = _ModelLog(journal)
        return self._models[name]


def _groups(taken: list[_Offered]) -> Iterator[list[_Offered]]:
    """Requests of one contract, in their order, a few predictions at a time."""
    groups: dict[int, tuple[list[_Offered], int]] = {}
    for offered in taken:
        contract = id(offered.contract)
        group, rows = groups.get(contract, ([], 0))
        group.append(offered)
        groups[contract] = (group, rows + len(offered.rows))
        if groups[contract][1] >= _AT_ONCE:
            yield groups.pop(contract)[0]
    yield from (group for group, _ in groups.values())


def _now() -> int:
    return time.time_ns() // 1000
