"""`ml-platform features publish` brings a view online; `features online` shows what is there."""

import json

import pytest

from tests.built import CUSTOMERS, NEXT_DAY, Platform, day_of_transactions
from tests.commands import invoke, words
from tests.support import LAST_DAY

PUBLISH = ("features", "publish", "customer_spending")


def made(*arguments: str) -> list[tuple[str, str | None, str | None]]:
    """What a publication has made: assets with their first and last partition."""
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    steps = json.loads(done.stdout.splitlines()[-1])["made"]
    return [(step["asset"], step["first"], step["last"]) for step in steps]


def test_what_a_view_lacks_is_made_and_published_and_nothing_else(platform: Platform) -> None:
    registry = ("online/feature_registry", None, None)
    assert made(*PUBLISH) == [registry, ("online/customer_spending", LAST_DAY, LAST_DAY)]
    platform.deliver("transactions", day_of_transactions(NEXT_DAY))
    platform.make("sources/transactions", NEXT_DAY)
    assert made(*PUBLISH) == [
        (CUSTOMERS, NEXT_DAY, NEXT_DAY),
        registry,
        ("online/customer_spending", NEXT_DAY, NEXT_DAY),
    ]
    published = platform.rows(CUSTOMERS, NEXT_DAY).to_pylist()[0]
    key = f"customer_id={published['customer_id']}"
    row = json.loads(invoke("features", "online", "customer_spending", key, "--json").stdout.splitlines()[-1])
    assert row["event_timestamp"] == "2018-06-28T00:00:00+00:00"
    assert row["customer_mean_amount_30d"] == published["customer_mean_amount_30d"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("publish", "customer_spendin"), "did you mean customer_spending?"),
        (("online", "customer_spending", "customer_id=999999999"), "a key that is online is required"),
        (("online", "customer_spending", "customer_id=x"), "its key is required, as customer_id=INT64"),
        (("online", "customer_spending", "terminal_id=1"), "its key is required, as customer_id=INT64"),
    ],
)
def test_what_is_not_there_is_said(shared: Platform, arguments: tuple[str, ...], said: str) -> None:
    done = invoke("features", *arguments)
    assert done.exit_code == 1
    assert said in words(done.output)
