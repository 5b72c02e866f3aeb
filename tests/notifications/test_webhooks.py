"""A declared webhook is a sensor that runs from the start, and commands say what became of it."""

import json
from typing import Any

import dagster as dg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ml_platform import declarations
from ml_platform.cli.main import app
from ml_platform.cli.story import corrupted
from ml_platform.definitions import defs
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.settings import Settings, settings
from ml_platform.notifications.component import scope_of
from ml_platform.notifications.spec import WebhookSpec
from tests.built import Platform, day_of_transactions
from tests.notifications.conftest import Hook, Teller
from tests.support import LAST_DAY

SENSOR = "notifications_on_call"


def looked(instance: dg.DagsterInstance, cursor: str | None) -> Any:
    """One tick of the declared sensor, as Dagster makes it."""
    sensor = defs().resolve_sensor_def(SENSOR)
    context = dg.build_sensor_context(instance, cursor, resources={"environment": settings()})
    with context:
        return sensor.evaluate_tick(context)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["notifications", *arguments])


def test_the_declared_sensor_runs_from_the_start_and_does_nothing_without_an_address(
    home: Settings, instance: dg.DagsterInstance
) -> None:
    sensor = defs().resolve_sensor_def(SENSOR)
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert 30 <= (sensor.minimum_interval_seconds or 0) <= 60
    tick = looked(instance, None)
    assert tick.skip_message == "ML_PLATFORM_WEBHOOKS__ON_CALL is not set: no URL is set; nothing is sent"
    assert (tick.run_requests or [], tick.cursor) == ([], None)


def test_a_refused_delivery_reaches_the_webhook_through_dagster_s_own_tick(
    platform: Platform, hook: Hook
) -> None:
    cursor = looked(platform.instance, None).cursor
    bad = corrupted(day_of_transactions(LAST_DAY).slice(0, 100), "terminal_id")
    platform.deliver("transactions", bad, known_at=f"{LAST_DAY}T23:59:59")
    platform.refused("sources/transactions", LAST_DAY)
    refusal = platform.refused("releases/fraud")
    tick = looked(platform.instance, cursor)
    closed, refused = hook.take()
    assert closed["title"] == f"Gate closed: sources/transactions [{LAST_DAY}] quality"
    assert "terminal_id not null" in closed["text"]
    assert "refused where they read it: models/fraud, releases/fraud." in closed["text"]
    assert f"ml-platform gate explain models/fraud --partition {LAST_DAY}" in closed["text"]
    assert (refused["event"], refused["asset"]) == ("model_not_updated", "releases/fraud")
    assert refused["text"] == refusal
    assert tick.skip_message == "2 sent"
    assert looked(platform.instance, tick.cursor).skip_message == "nothing to tell"


def test_a_pattern_that_no_asset_has_is_refused_when_definitions_load() -> None:
    spec = WebhookSpec(name="on_call", assets=("models/*", "model/fraud"))
    with pytest.raises(DeclarationError, match=r"Webhook 'on_call': .*models/fraud.*; got 'model/fraud'"):
        scope_of(spec, declarations.load())


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": []},
        {"events": ["gate_opened"]},
        {"format": "xml"},
        {"timeout": "60s"},
        {"url": "https://x"},
    ],
)
def test_a_webhook_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        WebhookSpec.model_validate({"name": "on_call", **wrong})


def test_two_webhooks_may_share_an_address(home: Settings, hook: Hook) -> None:
    spec = WebhookSpec(name="releases", url_setting="on_call")
    assert settings().webhook(spec.url_name) == hook.url
    assert spec.url_variable == "ML_PLATFORM_WEBHOOKS__ON_CALL"


def test_a_test_message_is_sent_at_once_and_the_answer_is_printed(home: Settings, hook: Hook) -> None:
    done = invoke("test", "on_call", "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout.splitlines()[-1])
    [told] = hook.take()
    assert (told["event"], told["title"]) == ("test", "A test of on_call: nothing has happened")
    assert said == {"webhook": "on_call", "id": told["id"], "taken": True, "answer": "HTTP 200 ok"}


def test_a_test_message_that_is_not_taken_is_an_error(home: Settings, hook: Hook) -> None:
    hook.answers = [403]
    done = invoke("test", "on_call")
    assert (done.exit_code, done.stdout) == (1, "on_call: not taken: HTTP 403 ok\n")


@pytest.mark.parametrize(
    "address", ["ftp://hooks.example.com/x", "https:///x", "http://hooks.example.com:port/x", "http://[::1/x"]
)
def test_what_is_no_address_is_refused_and_not_repeated(
    home: Settings, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("ML_PLATFORM_WEBHOOKS__ON_CALL", address)
    done = invoke("test", "on_call")
    assert done.exit_code == 1
    assert "an address such as https://hooks.example.com/… is required" in done.stdout
    assert address not in done.output


def test_a_test_without_an_address_says_where_to_set_it(home: Settings) -> None:
    done = invoke("test", "on_call")
    assert done.exit_code == 1
    assert "its address is required in ML_PLATFORM_WEBHOOKS__ON_CALL, which is not set" in done.stdout


def test_the_list_shows_what_was_sent_and_what_waits(teller: Teller) -> None:
    assert invoke("list").stdout == "nothing was told yet\n"
    teller.hook.answers = [400]
    for partition in ("2018-06-02", "2018-06-03"):
        teller.evaluated(teller.toys.raw, partition)
        teller.look()
        teller.hook.answers = [400]
    done = invoke("list", "--json")
    listed = json.loads(done.stdout.splitlines()[-1])["notifications"]
    assert [(told["status"], told["answer"]) for told in listed] == [
        ("pending", "HTTP 400 ok"),
        ("sent", "HTTP 200 ok"),
    ]
    assert {"title", "text", "event", "id", "webhook", "recorded_at"} <= set(listed[0])
    assert "quality" in invoke("list").stdout
