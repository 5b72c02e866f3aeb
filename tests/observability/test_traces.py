"""How a run of assets is traced and logged: one trace for a run, whose id is the run's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from ml_platform.cli.instance import Runner, open_instance
from ml_platform.cli.story import corrupted
from ml_platform.kernel.settings import PROJECT_ROOT
from tests.built import CUSTOMERS, NEXT_DAY, Platform, day_of_transactions, opened_copy
from tests.documents import fenced
from tests.otlp import attributes, collector
from tests.support import LAST_DAY, all_assets

TRANSACTIONS, ONLINE = "sources/transactions", "online/customer_spending"
FIRST = "2018-06-24"


@pytest.fixture(scope="module")
def platform(built_once: Path) -> Iterator[Platform]:
    """A platform that the tests of this module make days of again."""
    with opened_copy(built_once) as found:
        yield found


def test_the_steps_of_a_run_are_spans_of_one_trace_with_asset_and_partitions(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collector() as (endpoint, spans):
        monkeypatch.setenv("ML_PLATFORM_OTLP_ENDPOINT", endpoint)
        report = Runner(platform.instance, all_assets()).run([CUSTOMERS, ONLINE], FIRST, LAST_DAY)
        assert report.success, report.error
        made, published = sorted(spans(), key=lambda span: span.start_time_unix_nano)
    for span, asset in ((made, CUSTOMERS), (published, ONLINE)):
        assert span.name == f"materialize {asset}"
        assert span.trace_id.hex() == UUID(report.run_id).hex and not span.parent_span_id
        assert attributes(span) == {
            "ml_platform.asset": asset,
            "ml_platform.partitions": [FIRST, "2018-06-25", LAST_DAY],
            "ml_platform.run_id": report.run_id,
        }
        assert span.status.code == 0
    assert made.span_id != published.span_id
    assert made.start_time_unix_nano < made.end_time_unix_nano <= published.start_time_unix_nano


def test_a_refused_step_is_a_span_that_says_why(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    platform.deliver("transactions", corrupted(day_of_transactions(NEXT_DAY), "terminal_id"))
    with collector() as (endpoint, spans):
        monkeypatch.setenv("ML_PLATFORM_OTLP_ENDPOINT", endpoint)
        refusal = platform.refused(TRANSACTIONS, NEXT_DAY)
        (span,) = spans()
    assert attributes(span)["ml_platform.partitions"] == [NEXT_DAY]
    assert attributes(span)["error.type"] == "Failure"
    assert (span.status.code, span.status.message) == (2, refusal)


def test_a_step_that_breaks_is_a_span_that_repeats_no_value(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("customer 918273645")

    monkeypatch.setattr("ml_platform.releases.component.challenge", breaks)
    with collector() as (endpoint, spans):
        monkeypatch.setenv("ML_PLATFORM_OTLP_ENDPOINT", endpoint)
        assert not platform.run("releases/fraud").success
        (span,) = spans()
    assert attributes(span)["ml_platform.partitions"] == []
    assert attributes(span)["error.type"] == "KeyError"
    assert (span.status.code, span.status.message) == (2, "")


def test_a_collector_that_is_not_there_fails_no_step(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:  # for how long it holds one up: tests/kernel/test_telemetry.py
    monkeypatch.setenv("ML_PLATFORM_OTLP_ENDPOINT", "http://127.0.0.1:9")
    platform.make(ONLINE, LAST_DAY)


@pytest.mark.filterwarnings("ignore:Handling yaml-defined logging configuration")
def test_what_is_logged_of_a_run_is_json_with_its_trace_as_the_document_has_it(
    platform: Platform, capfd: pytest.CaptureFixture[str]
) -> None:
    document = (PROJECT_ROOT / "docs" / "telemetry.md").read_text()
    (lines,) = fenced(document, "yaml")
    config = platform.settings.dagster_home / "dagster.yaml"
    config.write_text(config.read_text() + lines)
    with open_instance(platform.settings) as instance:
        report = Platform(platform.settings, instance).make(ONLINE, LAST_DAY)
        refused = Platform(platform.settings, instance).run(TRANSACTIONS, NEXT_DAY)
    told = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    of_run = [line for line in told if line["run_id"] == report.run_id]
    assert {line["trace_id"] for line in of_run} == {UUID(report.run_id).hex}
    assert {line["partition"] for line in of_run} == {LAST_DAY}
    (made,) = [line for line in of_run if line.get("event") == "ASSET_MATERIALIZATION"]
    assert (made["asset"], made["step"], made["level"]) == (ONLINE, "online__customer_spending", "debug")
    (failed,) = [line for line in told if line.get("event") == "STEP_FAILURE"]
    assert (failed["run_id"], failed["failure"]) == (refused.run_id, refused.error)
