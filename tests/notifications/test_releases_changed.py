"""Every line of the promotions ledger is told once, whoever wrote it."""

import datetime as dt

import pytest

from ml_platform.releases.store import PROMOTIONS
from tests.notifications.conftest import Teller


def promoted(
    teller: Teller, version: int, previous: int | None, reason: str, action: str = "promoted"
) -> None:
    entry = {
        "release": "fraud",
        "model": "fraud",
        "version": version,
        "previous": previous,
        "actor": "ada",
        "reason": reason,
        "evidence": "{}",
        "action": action,
    }
    known = {name: entry.get(name) for name in PROMOTIONS.columns}
    PROMOTIONS.append(teller.lake, [known])


@pytest.fixture
def watching(teller: Teller) -> Teller:
    """Someone who began to look now, as the ledger tells time."""
    teller.cursor = None
    teller.look(dt.datetime.now(dt.UTC))
    return teller


def test_a_changed_release_is_told_with_who_why_from_and_to(watching: Teller) -> None:
    promoted(watching, 3, 2, "newest version, gates open")
    [told] = watching.look()
    assert (told["event"], told["asset"]) == ("release_changed", "releases/fraud")
    assert told["title"] == "Release changed: releases/fraud is version 3, before: version 2"
    assert "By ada: newest version, gates open" in told["text"]
    assert {"from": 2, "to": 3, "actor": "ada", "reason": "newest version, gates open"}.items() <= told[
        "details"
    ].items()
    assert watching.look() == []


def test_a_rollback_is_called_one(watching: Teller) -> None:
    promoted(watching, 2, 3, "too many alerts", action="rolled back")
    [told] = watching.look()
    assert told["title"] == "Release rolled back: releases/fraud is version 2, before: version 3"
    assert "It was rolled back. By ada: too many alerts" in told["text"]
    assert told["details"]["action"] == "rolled back"


def test_there_and_back_are_two_messages(watching: Teller) -> None:
    promoted(watching, 3, 2, "newest version, gates open")
    promoted(watching, 2, 3, "rolled back: too many alerts")
    promoted(watching, 3, 2, "newest version, gates open")
    told = watching.look()
    assert [(m["details"]["from"], m["details"]["to"]) for m in told] == [(2, 3), (3, 2), (2, 3)]
    assert len({m["id"] for m in told}) == 3


def test_the_first_version_has_none_before_it(watching: Teller) -> None:
    promoted(watching, 1, None, "newest version, gates open")
    [told] = watching.look()
    assert told["title"].endswith("is version 1, before: none")


def test_what_was_released_before_the_first_look_is_not_told_even_when_the_ledger_grows(
    teller: Teller,
) -> None:
    promoted(teller, 1, None, "long ago")
    teller.cursor = None
    teller.look(dt.datetime.now(dt.UTC))
    promoted(teller, 2, 1, "now")
    assert [message["details"]["to"] for message in teller.look()] == [2]


def test_only_the_releases_that_are_asked_for_are_told(watching: Teller) -> None:
    promoted(watching, 2, 1, "now")
    other = watching.declared(assets=["releases/other"])
    assert other.look() == []
    assert len(watching.declared(assets=["releases/*"]).look()) == 1
