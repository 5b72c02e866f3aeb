"""Requests that wait are read and scored together, and each gets what it would get alone."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.serving.versions import Loaded
from tests.serving.served import NOBODY, OTHER, ROW, Held, Running, like, running

ASKED = [
    [ROW],
    [OTHER, ROW],
    [NOBODY],
    [{**ROW, "amount": 1.5}],
    [{**OTHER, "customer_id": i} for i in range(5)],
]


@dataclass
class Stalled:
    """Reads of a store whose first one takes until the test lets it go; the keys of each read are kept."""

    champion: Loaded
    then: Callable[[Sequence[Any]], Any] | None = None
    let_go: threading.Event = field(default_factory=threading.Event)
    begun: threading.Event = field(default_factory=threading.Event)
    reads: list[list[Any]] = field(default_factory=list[list[Any]])

    def read(self, keys: Sequence[Any]) -> Any:
        self.reads.append(list(keys))
        if not self.begun.is_set():
            self.begun.set()
            assert self.let_go.wait(30)
        elif self.then is not None:
            self.then(keys)
        return self.champion.features.read(keys)


def test_what_waited_is_read_at_once_and_answered_as_if_it_had_been_asked_alone(
    looked_at: Settings, champion: Loaded
) -> None:
    store = Stalled(champion)
    with waiting(looked_at, store, ASKED) as (service, answers):
        told = [answer.result().json()["predictions"] for answer in answers]
        alone = [service.predict(*rows).json()["predictions"] for rows in ASKED]
    assert [_kept(rows) for rows in told] == [_kept(rows) for rows in alone]
    assert len({row["prediction_id"] for rows in told for row in rows}) == sum(map(len, ASKED))
    assert sorted(map(str, store.reads[1])) == sorted(str(row) for rows in ASKED for row in rows)


def test_a_request_that_is_wrong_leaves_the_others_that_wait_with_it_alone(
    looked_at: Settings, champion: Loaded
) -> None:
    wrong = [{**ROW, "amount": "much"}]
    with waiting(looked_at, Stalled(champion), [[ROW], wrong, [OTHER]]) as (_, answers):
        assert [answer.result().status_code for answer in answers] == [200, 422, 200]


def test_one_that_cannot_be_scored_does_not_fail_the_others(looked_at: Settings, champion: Loaded) -> None:
    def breaks(keys: Sequence[Any]) -> None:
        if any(key["customer_id"] == NOBODY["customer_id"] for key in keys):
            raise KeyError("what nobody expected")

    store = Stalled(champion, then=breaks)
    with waiting(looked_at, store, [[ROW], [NOBODY], [OTHER]]) as (service, answers):
        assert [answer.result().status_code for answer in answers] == [200, 500, 200]
        service.log.close()
        assert service.log.written == 1 + 2  # the one that was read first, and the two


class Panic(BaseException):
    """What a native library raises when it panics: no Exception."""


@pytest.mark.parametrize("raised", [Panic("of a native library"), StopIteration("of a function")])
def test_whatever_is_raised_is_one_answer_and_the_thread_goes_on(
    looked_at: Settings, champion: Loaded, raised: BaseException
) -> None:
    def raises(keys: Sequence[Any]) -> None:
        if any(key["customer_id"] == NOBODY["customer_id"] for key in keys):
            raise raised

    with waiting(looked_at, Stalled(champion, then=raises), [[ROW], [NOBODY], [OTHER]]) as (service, answers):
        assert [answer.result().status_code for answer in answers] == [200, 500, 200]
        assert service.predict(OTHER).status_code == 200


def test_a_store_that_does_not_answer_is_asked_once_for_all_that_wait(
    looked_at: Settings, champion: Loaded
) -> None:
    def is_away(_: Sequence[Any]) -> None:
        raise StoreError("the online store is required and did not answer")

    store = Stalled(champion, then=is_away)
    with waiting(looked_at, store, [[ROW], [OTHER], [NOBODY]]) as (_, answers):
        assert [answer.result().status_code for answer in answers] == [503, 503, 503]
    assert len(store.reads) == 2


def test_who_asks_for_little_does_not_wait_for_who_asks_for_much(
    looked_at: Settings, champion: Loaded
) -> None:
    much = [{**ROW, "customer_id": i} for i in range(500)]
    store = Stalled(champion)
    held = Held({"fraud": like(champion, features=store)})
    with running(looked_at, held) as service, ThreadPoolExecutor(1) as pool:
        large = pool.submit(service.predict, *much)
        assert store.begun.wait(30)
        assert service.predict(OTHER).status_code == 200  # while the large one is still in the store
        assert not large.done()
        store.let_go.set()
        assert len(large.result().json()["predictions"]) == 500


def test_a_request_that_was_given_up_is_not_scored_any_more(looked_at: Settings, champion: Loaded) -> None:
    store = Stalled(champion)
    with waiting(looked_at, store, [[OTHER]], timeout_seconds=0.3, let_go=False) as (service, answers):
        assert [answer.result().status_code for answer in answers] == [503]
        store.let_go.set()
        assert service.predict(NOBODY).status_code == 200
    assert store.reads == [[ROW], [NOBODY]]


@contextmanager
def waiting(
    here: Settings, store: Stalled, asked: Sequence[Sequence[Any]], *, let_go: bool = True, **changed: Any
) -> Any:
    """A service with requests that all came while its thread was in the store, and their answers to come."""
    version = like(store.champion, features=store)
    with running(here, Held({"fraud": version}), **changed) as service, ThreadPoolExecutor(16) as pool:
        first = pool.submit(service.predict, ROW)
        assert store.begun.wait(30)
        answers: list[Future[httpx.Response]] = [pool.submit(service.predict, *rows) for rows in asked]
        _until_in_flight(service, 1 + len(asked))
        if let_go:
            store.let_go.set()
        yield service, answers
        first.result()


def _until_in_flight(service: Running, requests: int) -> None:
    """Wait until so many requests, and the one that asks, are in the service."""
    wanted = f"ml_platform_serving_in_flight {requests + 1}.0"
    with httpx.Client(base_url=service.client.base_url) as client:
        for _ in range(10_000):
            if wanted in client.get("/metrics").text:
                return
    raise AssertionError(f"{requests} requests never were in the service at once")


def _kept(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "prediction_id"} for row in rows]
