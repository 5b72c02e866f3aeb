"""No message is lost, none is told twice where that can be known, and none keeps the others waiting."""

import logging
from typing import Any

import pytest

from ml_platform.kernel.errors import InputError
from ml_platform.notifications import delivery
from ml_platform.notifications.store import NOTIFICATIONS, overview
from tests.notifications.conftest import Teller

A, B = "2018-06-02", "2018-06-03"


@pytest.fixture
def closed(teller: Teller) -> Teller:
    """One gate has closed."""
    teller.evaluated(teller.toys.raw, A)
    return teller


@pytest.fixture
def both_closed(closed: Teller) -> Teller:
    """Two gates of two assets have closed."""
    closed.evaluated(closed.toys.profiles, B)
    return closed


def assets(told: list[dict[str, Any]]) -> list[str]:
    return [message["asset"].split("/")[1] for message in told]


def test_a_webhook_that_answers_with_an_error_gets_the_message_at_the_next_look_once(closed: Teller) -> None:
    closed.hook.answers = [500, 502, 503]
    tried = closed.look()
    assert len(tried) == 3 and len({message["id"] for message in tried}) == 1
    assert closed.words == "0 sent, 1 waiting for the next look: HTTP 503 ok"
    [entry] = overview(closed.lake)
    assert (entry.status, entry.answer) == ("pending", "HTTP 503 ok")
    assert closed.look() == tried[:1]
    assert closed.look() == []
    assert [line["status"] for line in NOTIFICATIONS.entries(closed.lake)] == ["pending", "sent"]


def test_an_error_that_passes_is_over_within_the_look(closed: Teller) -> None:
    closed.hook.answers = [503, 429]
    assert len(closed.look()) == 3
    assert closed.words == "1 sent"


def test_every_attempt_has_the_message_s_id_as_idempotency_key(both_closed: Teller) -> None:
    both_closed.hook.answers = [500]
    both_closed.hook.take()
    requests = list[tuple[dict[str, str], dict[str, Any]]]()
    both_closed.hook.take = lambda: requests.extend(both_closed.hook.requests) or []  # type: ignore[method-assign]
    both_closed.look()
    keys = [headers["idempotency-key"] for headers, _ in requests]
    assert keys == [body["id"] for _, body in requests]
    assert keys[0] == keys[1] != keys[2]


def test_a_message_that_is_never_taken_keeps_no_other_waiting(both_closed: Teller) -> None:
    both_closed.hook.answers = [400]
    assert assets(both_closed.look()) == ["raw", "profiles"]
    assert both_closed.words == "1 sent, 1 waiting for the next look: HTTP 400 ok"
    both_closed.hook.answers = [400]
    assert assets(both_closed.look()) == ["raw"]
    assert assets(both_closed.look()) == ["raw"]
    assert both_closed.look() == []


def test_where_nobody_listens_messages_wait(both_closed: Teller) -> None:
    there = both_closed.settings
    nowhere = there.model_validate({**there.model_dump(), "webhooks": {"on_call": "http://127.0.0.1:9/none"}})
    both_closed.settings = nowhere
    assert both_closed.look() == []
    assert "0 sent, 2 waiting for the next look: ConnectError" in both_closed.words
    both_closed.settings = there
    assert assets(both_closed.look()) == ["raw", "profiles"]


def test_what_a_look_has_no_time_for_comes_first_in_the_next(
    both_closed: Teller, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "BUDGET_S", 0.0)
        assert both_closed.look() == []
    assert "2 waiting for the next look: not tried" in both_closed.words
    assert assets(both_closed.look()) == ["raw", "profiles"]
    assert both_closed.look() == []


def test_a_crash_after_sending_and_before_the_cursor_moves_does_not_send_again(both_closed: Teller) -> None:
    cursor = both_closed.cursor
    assert len(both_closed.look()) == 2
    both_closed.cursor = cursor
    assert both_closed.look() == []


def test_a_crash_with_messages_that_wait_loses_none_of_them(both_closed: Teller) -> None:
    cursor = both_closed.cursor
    both_closed.hook.answers = [400, 400]
    tried = both_closed.look()
    both_closed.cursor = cursor
    assert both_closed.look() == tried
    assert both_closed.look() == []


def test_what_was_told_before_a_crash_is_left_out_of_a_message_that_has_more(closed: Teller) -> None:
    cursor = closed.cursor
    assert [message["partitions"] for message in closed.look()] == [[A]]
    closed.evaluated(closed.toys.raw, B)
    closed.cursor = cursor
    assert [message["partitions"] for message in closed.look()] == [[B]]


def test_the_address_is_told_to_nobody(closed: Teller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    closed.hook.answers = [404]
    closed.look()
    closed.look()
    written = [str(NOTIFICATIONS.entries(closed.lake)), caplog.text, closed.words, str(closed.settings)]
    assert [text for text in written if "secret-path" in text] == []


@pytest.mark.parametrize("address", ["hooks.example.com/secret", "ftp://hooks.example.com", "https://"])
def test_an_address_that_cannot_be_one_is_refused_and_not_repeated(closed: Teller, address: str) -> None:
    there, cursor = closed.settings, closed.cursor
    closed.settings = there.model_validate({**there.model_dump(), "webhooks": {"on_call": address}})
    with pytest.raises(InputError, match=r"an address such as https://.* is required") as refused:
        closed.look()
    assert "secret" not in str(refused.value)
    assert closed.cursor == cursor


def test_a_cursor_that_somebody_else_wrote_is_refused(closed: Teller) -> None:
    closed.cursor = "42"
    with pytest.raises(InputError, match="a cursor that this sensor wrote is required; got '42'"):
        closed.look()
