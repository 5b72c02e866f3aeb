"""The prediction log: nothing waits for it, nothing is there twice, and what is lost is counted."""

import datetime as dt
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.lake.engine import small_answer
from ml_platform.lake.journal import Journal
from ml_platform.lake.tables import Lake, Table
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.logged import SCHEMA, cells, encoded, log_table
from tests.serving.logged_toys import AS_OF, DAY, toy_batch

SOON, NEVER = 0.1, 3_600.0


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


def settings_of(home: Path, *, seconds: float = SOON, queue: int = 10_000) -> Settings:
    return Settings(home=home, serving=ServingSettings(log_seconds=seconds, log_queue=queue))


def logged(settings: Settings, what: str = "*", model: str = "toy") -> list[tuple[Any, ...]]:
    scan = Lake(settings.lake_uri).table(log_table(model)).scan()
    return small_answer(f"SELECT {what} FROM ({scan}) ORDER BY prediction_id")


def ids(settings: Settings) -> list[str]:
    return [found for (found,) in logged(settings, "prediction_id")]


def until(holds: Callable[[], bool], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def broken(here: Settings) -> Path:
    """A lake that cannot be written to: a file is where its folder would be."""
    folder = Path(here.lake_uri)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    return folder


def test_a_prediction_is_logged_with_all_that_led_to_it(here: Settings) -> None:
    with closing(PredictionLog(here)) as log:
        log.offer(toy_batch(["a", "b"], version=7, role="shadow"))
    (first, second) = logged(
        here, "version, run_id, role, as_of, event_id, keys, request, outcome, score, alert, partition_date"
    )
    as_of, day = dt.datetime.fromtimestamp(AS_OF / 1e6, dt.UTC), dt.date.fromisoformat(DAY)
    fixed = (7, "run7", "shadow", as_of)
    assert first == (*fixed, "100", {"customer_id": "0"}, '{"amount":10.0}', "scored", 0.0, False, day)
    assert second == (*fixed, None, {"customer_id": "1"}, '{"amount":11.0}', "scored", 0.1, False, day)
    assert logged(here, "features, snapshots, states") == [
        (
            {"amount": 10.0, "spent_7d": 0.1, "over_habit": 2.5},
            {"spending": AS_OF - 3_600_000_000},
            {"spending": "fresh"},
        ),
        ({"amount": 11.0, "spent_7d": None, "over_habit": None}, {}, {"spending": "missing"}),
    ]
    ((at, now),) = logged(here, "max(logged_at), now() AS prediction_id")
    assert now - dt.timedelta(minutes=5) < at <= now


def test_predictions_are_written_while_the_service_runs_on_the_day_that_they_are_of(here: Settings) -> None:
    with closing(PredictionLog(here)) as log:
        log.offer(toy_batch(["a"]))
        log.offer(toy_batch(["b"], as_of=AS_OF + 86_400_000_000))
        log.offer(toy_batch(["c"], model="other"))
        until(lambda: log.written == 3)
        assert (log.depth, log.lost, log.oldest_seconds) == (0, 0, 0)
        days = logged(here, "partition_date::TEXT")
        assert days == [(DAY,), ("2018-06-27",)]
        assert len(logged(here, model="other")) == 1


def test_what_does_not_fit_into_the_queue_is_lost_and_counted_and_nobody_waits(tmp_path: Path) -> None:
    log = PredictionLog(settings_of(tmp_path, seconds=NEVER, queue=5))
    log.offer(toy_batch(["a", "b"]))
    for name in ("c", "d"):
        log.offer(toy_batch([name] * 4))
    assert (log.depth, log.lost, log.written) == (2, 8, 0)
    log.close()
    assert (log.depth, log.lost, log.written) == (0, 8, 2)
    log.offer(toy_batch(["e"]))
    assert log.lost == 9, "after the end nothing is taken"


def test_a_queue_that_is_half_full_is_written_at_once(tmp_path: Path) -> None:
    with closing(PredictionLog(settings_of(tmp_path, seconds=NEVER, queue=5))) as log:
        log.offer(toy_batch(["a", "b", "c"]))
        until(lambda: log.written == 3)


def test_what_cannot_be_written_waits_and_is_written_once_when_it_can_be(
    here: Settings, broken: Path
) -> None:
    with closing(PredictionLog(here)) as log:
        log.offer(toy_batch(["a"]))
        until(lambda: log.failures > 1)
        log.offer(toy_batch(["b"]))
        assert (log.depth, log.lost, log.written) == (2, 0, 0) and log.oldest_seconds > 0
        broken.unlink()
        until(lambda: log.written == 2)
    assert ids(here) == ["a", "b"]


def test_what_cannot_be_written_until_the_end_is_counted_as_lost(here: Settings, broken: Path) -> None:
    log = PredictionLog(here)
    log.offer(toy_batch(["a"]))
    log.close()
    assert (log.depth, log.lost, log.written) == (0, 1, 0)


def test_rows_that_are_no_rows_of_the_log_do_not_keep_the_others_out(here: Settings) -> None:
    with closing(PredictionLog(here)) as log:
        log.offer(toy_batch(["a", 3]))  # pyright: ignore[reportArgumentType]
        until(lambda: log.lost == 2)
        log.offer(toy_batch(["b"]))
    assert ids(here) == ["b"]


def test_rows_that_cannot_even_wait_are_lost_and_whoever_asked_does_not_hear_of_it(here: Settings) -> None:
    with closing(PredictionLog(here)) as log:
        batch = toy_batch(["a", "b"])
        log.offer(replace(batch, rows=[*batch.rows[:1], {"customer_id": 1}]))
        assert (log.depth, log.lost) == (0, 2)
        log.offer(toy_batch(["c"]))
    assert ids(here) == ["c"]


def test_rows_that_wait_with_those_that_are_none_are_written(tmp_path: Path) -> None:
    here = settings_of(tmp_path, seconds=NEVER)
    with closing(PredictionLog(here)) as log:
        for names in (["a"], ["b", 3], ["c"]):
            log.offer(toy_batch(names))  # pyright: ignore[reportArgumentType]
    assert (log.lost, log.written) == (2, 2) and ids(here) == ["a", "c"]


def rows_of(*names: str) -> pa.Table:
    batch = toy_batch(names)
    return encoded(batch.contract, cells(batch, logged_at=0))


def test_a_commit_that_succeeded_without_the_writer_knowing_is_not_made_twice(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(log_table("toy"))
    writer = Journal(table.uri, SCHEMA)
    writer.append(rows_of("a"), number=1)
    writer._table = None  # as after an error: what became of it is asked of the table
    for _ in range(2):
        writer.append(rows_of("a"), number=1)
        writer.append(rows_of("b"), number=2)
    assert sorted(small_answer(f"SELECT prediction_id FROM ({table.scan()})")) == [("a",), ("b",)]


def test_a_writer_that_was_quiet_until_others_forgot_what_it_knows_writes_again(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(log_table("toy"))
    quiet, busy = Journal(table.uri, SCHEMA), Journal(table.uri, SCHEMA)
    quiet.append(rows_of("quiet-1"), number=1)
    long_ago = time.time() - 3600
    for number in range(1, 31):
        busy.append(rows_of(f"busy-{number:02}"), number=number)
        for commit in Path(table.uri, "_delta_log").glob("*.json"):
            os.utime(commit, (long_ago, long_ago))
    assert not Path(table.uri, "_delta_log", f"{1:020}.json").exists()
    quiet.append(rows_of("quiet-2"), number=2)
    found = small_answer(f"SELECT count(*), count(DISTINCT prediction_id) FROM ({table.scan()})")
    assert found == [(32, 32)]


def test_many_small_commits_leave_a_table_of_few_files_that_opens_as_quickly(tmp_path: Path) -> None:
    table = Lake(str(tmp_path)).table(log_table("toy"))
    writers = [Journal(table.uri, SCHEMA, merge_every=20) for _ in range(2)]
    for number in range(1, 101):
        for i, writer in enumerate(writers):
            writer.append(rows_of(f"{i}-{number:03}"), number=number)
            writer.merge_if_due()
    assert len(table.files()) <= 2 * 20 + 1
    found = small_answer(f"SELECT count(*), count(DISTINCT prediction_id) FROM ({table.scan()})")
    assert found == [(200, 200)]


def test_old_versions_of_a_log_are_not_kept_for_ever(tmp_path: Path) -> None:
    table = Table(str(tmp_path / "t"))
    Journal(table.uri, SCHEMA).append(rows_of("a"), number=1)
    kept = DeltaTable(table.uri).metadata().configuration
    assert kept["delta.enableExpiredLogCleanup"] == "true"
    assert (
        kept["delta.logRetentionDuration"]
        == kept["delta.deletedFileRetentionDuration"]
        == "interval 10 minutes"
    )
    assert kept["delta.enableDeletionVectors"] == "false"


def writes(settings: Settings, name: str, requests: int, connection: Connection) -> None:
    """Offer requests of three predictions each, and say how many are in the lake after each."""
    log = PredictionLog(settings)
    for number in range(requests):
        log.offer(toy_batch([f"{name}-{number:04}-{i}" for i in range(3)]))
        connection.send(log.written)
        time.sleep(0.005)
    log.close()
    connection.send(log.written)
    connection.close()


class Worker:
    """A process that logs, as one of the service's."""

    def __init__(self, settings: Settings, name: str, requests: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=writes, args=(settings, name, requests, theirs))
        self.process.start()
        theirs.close()

    def written(self) -> Iterator[int]:
        """What it says to have written, until it ends."""
        while True:
            try:
                yield self.connection.recv()
            except EOFError:
                return


def test_workers_that_write_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, seconds=0.02)
    workers = [Worker(settings, name, 60) for name in ("x", "y")]
    assert [list(worker.written())[-1] for worker in workers] == [180, 180]
    assert [worker.process.join(60) or worker.process.exitcode for worker in workers] == [0, 0]
    found = ids(settings)
    assert len(found) == len(set(found)) == 360


def test_a_killed_worker_loses_only_what_it_had_not_written_and_the_table_stays_readable(
    tmp_path: Path,
) -> None:
    settings = settings_of(tmp_path, seconds=0.2)
    worker = Worker(settings, "x", 10_000)
    offered = written = 0
    for written in worker.written():
        offered += 3
        if written >= 150 and worker.process.pid is not None:
            os.kill(worker.process.pid, signal.SIGKILL)
            break
    offered += 3 * sum(1 for _ in worker.written())
    worker.process.join(60)
    found = ids(settings)
    assert written <= len(found) <= offered + 3, "what it said to have written is there"
    assert found == [f"x-{i // 3:04}-{i % 3}" for i in range(len(found))], "in order, without a gap"
    with closing(PredictionLog(settings)) as after:
        after.offer(toy_batch(["after"]))
    assert ids(settings) == ["after", *found]
