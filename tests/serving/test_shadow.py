"""A challenger is scored beside the answers: from the same values, never in their way, and what is lost is counted."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.lake.engine import small_answer
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.serving.compute import ViewRows
from ml_platform.serving.exchange import Exchange
from ml_platform.serving.following import Champions
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.logged import LoggedBatch, log_table
from ml_platform.serving.service import Service
from ml_platform.serving.shadow import Shadow
from ml_platform.serving.versions import Loaded, load
from tests.serving.variants import MODEL, Change, registered

AT = 1_530_057_600_000_000  # 2018-06-27 00:00 UTC
ROWS = [
    {"customer_id": customer, "terminal_id": 2, "amount": 55.0, "transaction_time": 1_530_000_000}
    for customer in (1, 2, 99_999_999)
]


class Kept:
    """A log that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[LoggedBatch] = []

    def offer(self, prediction: LoggedBatch) -> None:
        self.batches.append(prediction)


class Slow:
    """A store that answers once it may."""

    def __init__(self, of: Loaded) -> None:
        self._of, self.answers = of, threading.Event()

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]:
        assert self.answers.wait(30)
        return self._of.features.read(keys)


class NoStore:
    """Online features that nobody may read again."""

    def read(self, keys: Sequence[Mapping[str, Any]]) -> list[ViewRows]:
        raise AssertionError("they were read before")


class One:
    """One version that is in shadow all the time."""

    def __init__(self, found: Any) -> None:
        self.found = found

    def shadow(self, name: str) -> Any:
        return self.found if name == MODEL else None


def version(here: Settings, number: int) -> Loaded:
    found = registry.version(here, MODEL, number)
    assert found is not None
    return load(here, found)


def changed(here: Settings, change: Change) -> Loaded:
    return load(here, registered(here, seed=6, contract=change))


@pytest.fixture(scope="module")
def champion(looked_at: Settings) -> Loaded:
    return version(looked_at, 1)


@pytest.fixture(scope="module")
def challenger(looked_at: Settings) -> Loaded:
    return version(looked_at, 2)


def answered(served: Loaded, rows: Sequence[dict[str, Any]] = ROWS) -> tuple[LoggedBatch, list[ViewRows]]:
    online = served.features.read(rows)
    batch = LoggedBatch(
        contract=served.contract,
        version=served.version,
        run_id=served.run_id,
        role="champion",
        request_id="request",
        trace_id="trace",
        as_of=AT,
        prediction_ids=[f"p{i}" for i in range(len(rows))],
        rows=rows,
        answer=served.scorer.score(rows, online, at=AT),
    )
    return batch, online


def until(holds: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def log() -> Kept:
    return Kept()


@pytest.fixture(scope="module")
def of_other_views(looked_at: Settings) -> Loaded:
    """A challenger that does not read what the champion reads: for it, a value is old after a minute."""

    def shorter(contract: dict[str, Any]) -> None:
        contract["views"][0]["ttl_seconds"] = 60

    return changed(looked_at, shorter)


def test_the_challenger_scores_the_same_rows_from_the_values_that_were_read(
    champion: Loaded, challenger: Loaded, log: Kept
) -> None:
    batch, online = answered(champion)
    with closing(Shadow(One(replace(challenger, features=NoStore())), log)) as shadow:
        shadow.offer(batch, online)
        until(lambda: shadow.scored == len(ROWS))
    (found,) = log.batches
    assert (found.role, found.version, found.run_id) == ("shadow", 2, challenger.run_id)
    assert (found.request_id, found.trace_id, found.as_of) == ("request", "trace", AT)
    assert (found.contract, found.rows) == (challenger.contract, batch.rows)
    assert found.prediction_ids == ["p0-shadow", "p1-shadow", "p2-shadow"]
    expected = challenger.scorer.score(ROWS, online, at=AT)
    assert found.answer.scores == expected.scores != batch.answer.scores
    assert found.answer.views == batch.answer.views
    assert (shadow.lost, shadow.failed, shadow.depth) == (0, 0, 0)


def test_a_challenger_of_other_views_reads_its_own(
    champion: Loaded, of_other_views: Loaded, log: Kept
) -> None:
    batch, online = answered(champion)
    wrong = [ViewRows([None] * len(ROWS), read.values) for read in online]
    with closing(Shadow(One(of_other_views), log)) as shadow:
        shadow.offer(batch, wrong)
        until(lambda: shadow.scored == len(ROWS))
    expected = of_other_views.scorer.score(ROWS, online, at=AT)
    assert log.batches[0].answer.views == expected.views
    assert log.batches[0].answer.scores == expected.scores


def test_what_does_not_fit_is_lost_and_counted_and_nobody_waits(
    champion: Loaded, of_other_views: Loaded, log: Kept
) -> None:
    store = Slow(of_other_views)
    batch, online = answered(champion)
    with closing(Shadow(One(replace(of_other_views, features=store)), log, capacity=7)) as shadow:
        began = time.monotonic()
        for _ in range(1000):
            shadow.offer(batch, online)
        assert time.monotonic() - began < 1
        assert (shadow.depth, shadow.lost) == (6, 2_994)
        store.answers.set()
        until(lambda: shadow.depth == 0)
        shadow.offer(batch, online)
        until(lambda: shadow.scored == 9)
        assert shadow.lost == 2_994
    assert len(log.batches) == 3


def test_what_cannot_be_scored_is_counted_and_said_once_without_its_values(
    champion: Loaded, challenger: Loaded, log: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    secret = [{**row, "amount": "a secret"} for row in ROWS]
    batch, online = answered(champion)
    with closing(Shadow(One(challenger), log)) as shadow:
        for _ in range(3):
            shadow.offer(replace(batch, rows=secret), online)
        until(lambda: shadow.failed == 9)
        (record,) = [found for found in caplog.records if found.levelno == logging.ERROR]
        assert "version 2 is not scored in shadow: ValueError in _as_array" in record.getMessage()
        assert "secret" not in caplog.text
        shadow.offer(batch, online)
        until(lambda: shadow.scored == len(ROWS))
    assert len(log.batches) == 1


def test_a_challenger_that_asks_for_more_than_requests_have_is_not_scored(
    looked_at: Settings, champion: Loaded, log: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    def more(contract: dict[str, Any]) -> None:
        contract["request"] = {**contract["request"], "channel": "string"}

    batch, online = answered(champion)
    with closing(Shadow(One(changed(looked_at, more)), log)) as shadow:
        shadow.offer(batch, online)
        until(lambda: shadow.failed == len(ROWS))
    assert (
        "requests with channel (string) are required; those of the champion, version 1, have" in caplog.text
    )
    assert log.batches == []


def test_without_a_challenger_nothing_happens(champion: Loaded, log: Kept) -> None:
    batch, online = answered(champion)
    with closing(Shadow(One(None), log)) as shadow:
        shadow.offer(batch, online)
        assert (shadow.depth, shadow.lost) == (0, 0)
    assert (shadow.scored, log.batches) == (0, [])


def test_what_waits_is_scored_before_it_ends(champion: Loaded, challenger: Loaded, log: Kept) -> None:
    batch, online = answered(champion)
    shadow = Shadow(One(challenger), log)
    for _ in range(50):
        shadow.offer(batch, online)
    shadow.close()
    assert (shadow.scored, shadow.lost) == (50 * len(ROWS), 0)
    shadow.offer(batch, online)
    assert shadow.lost == len(ROWS), "who offers afterwards is told in the count"


def test_what_cannot_be_scored_in_time_is_lost_and_counted(
    champion: Loaded, of_other_views: Loaded, log: Kept
) -> None:
    store = Slow(of_other_views)
    batch, online = answered(champion)
    shadow = Shadow(One(replace(of_other_views, features=store)), log)
    for _ in range(3):
        shadow.offer(batch, online)
    shadow.close(timeout_seconds=0.1)
    assert (shadow.lost, shadow.depth) == (3 * len(ROWS), 0)
    store.answers.set()
    until(lambda: "shadow" not in [thread.name for thread in threading.enumerate()])
    assert (shadow.lost, shadow.scored, log.batches) == (3 * len(ROWS), 0, [])


def test_the_lake_has_what_was_answered_and_what_the_challenger_would_have_said(released: Settings) -> None:
    given = ServingSettings.model_validate({"shadow": "challenger", "log_seconds": 0.2, "at": AT / 1e6})
    here = released.model_copy(update={"serving": given})
    registry.client(here).set_registered_model_alias(MODEL, "challenger", "2")
    champions = Champions(here)
    champions.look()
    log = PredictionLog(here)
    shadow = Shadow(champions, log)
    service = Service(given, champions, log, shadow)
    exchange = Exchange(request_id="r", method="POST", trace_id="t")
    (scored,) = service.score(service.ready(MODEL), [(exchange, ROWS)])
    service.keep(exchange, scored)
    answer, ids = scored.answer, scored.prediction_ids
    shadow.close()
    log.close()
    scan = Lake(here.lake_uri).table(log_table(MODEL)).scan()
    found = small_answer(
        f"SELECT role, version, prediction_id, score FROM ({scan}) ORDER BY role, prediction_id"
    )
    assert [row[:3] for row in found[:3]] == [("champion", 1, name) for name in ids]
    assert [row[:3] for row in found[3:]] == [("shadow", 2, f"{name}-shadow") for name in ids]
    assert [row[3] for row in found[:3]] == list(answer.scores)
    assert all(
        score != other for score, other in zip(answer.scores, [row[3] for row in found[3:]], strict=True)
    )
