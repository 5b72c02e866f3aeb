"""Ways out that people take in the UI: what the commands do, by the person whom the proxy names."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import pytest

from ml_platform.cli.story import scaled
from ml_platform.definitions import defs
from ml_platform.gates.failures import refusal_of
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.partitions import ONE_DAY, day, key_of
from ml_platform.releases.store import history
from tests.built import NEXT_DAY, Platform, day_of_transactions, platform
from tests.commands import invoke
from tests.releases.conftest import champions, three_champions_once
from tests.webserver import HEADER, Webserver, at_once, finished, webserver

__all__ = ["champions", "platform", "three_champions_once"]

ANN, BOSS = "ann@example.com", "boss@example.com"
EVENTS, PROFILE, MODEL = "sources/transactions", "drift_profiles/fraud", "models/fraud"


def drift_on(found: Platform) -> Platform:
    """The next day has come, half as dear again."""
    found.deliver("transactions", scaled(day_of_transactions(NEXT_DAY), "tx_amount", by=1.5))
    found.make(EVENTS, NEXT_DAY)
    found.refused(PROFILE, NEXT_DAY)
    return found


@pytest.fixture
def drifted(platform: Platform) -> Platform:
    return drift_on(platform)


@pytest.fixture
def behind_proxy(champions: Platform) -> Iterator[Webserver]:
    """A webserver that believes the header of a proxy, on a platform that has drifted and has champions."""
    home = at_once(drift_on(champions).settings.root)
    with webserver(home, definitions="ml_platform.definitions", header=HEADER) as found:
        yield found.signed_in(ANN)


def launched(
    found: Platform, ui: Webserver, job: str, config: Mapping[str, Any]
) -> tuple[dg.DagsterRunStatus, str]:
    """How a run of a job ended that somebody launched who said to be somebody else, and what it refused."""
    answer = ui.launch_job(job, config, tags={"user": BOSS})
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run_id = answer["run"]["runId"]
    status = finished(found.instance, run_id)
    failures = found.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records
    events = [record.event_log_entry.get_dagster_event() for record in failures]
    return status, "".join(refusal_of(event.step_failure_data) or "" for event in events)


def test_the_ledgers_name_who_opened_a_gate_or_moved_a_champion_in_the_ui(
    champions: Platform, behind_proxy: Webserver
) -> None:
    override = {"asset": PROFILE, "partitions": [NEXT_DAY], "hours": 12}
    unreasoned = behind_proxy.launch_job("override_gate", override)
    assert unreasoned["__typename"] == "RunConfigValidationInvalid"
    (error,) = unreasoned["errors"]
    assert 'Missing required config entry "reason"' in error["message"]

    success, failure = dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE
    status, said = launched(champions, behind_proxy, "override_gate", {**override, "reason": " "})
    assert (status, said) == (failure, "reason is required: say why this gate may open; nothing was changed")
    assert WAYS_OUT.entries(champions.lake) == []

    assert launched(champions, behind_proxy, "override_gate", {**override, "reason": "retrain"})[0] == success
    (entry,) = WAYS_OUT.entries(champions.lake)
    assert (entry["way"], entry["actor"], entry["reason"]) == ("override", ANN, "retrain")
    assert invoke("gate", "status", MODEL, "--partition", NEXT_DAY).stdout.count(PROFILE) == 0

    back = {"release": "fraud", "reason": "too many alerts"}
    assert launched(champions, behind_proxy, "rollback", back)[0] == success
    newest = history(champions.settings, "fraud")[-1]
    assert (newest["action"], newest["version"], newest["actor"]) == ("rolled back", 2, ANN)


def run(found: Platform, job: str, config: Mapping[str, Any]) -> str:
    """A job's run in this process; what it refused, or nothing."""
    result = (
        defs()
        .resolve_job_def(job)
        .execute_in_process(
            run_config={"ops": {job: {"config": dict(config)}}},
            instance=found.instance,
            raise_on_error=False,
        )
    )
    failures = [event for event in result.all_events if event.is_step_failure]
    return "".join(refusal_of(event.step_failure_data) or "it broke" for event in failures)


def test_an_override_of_a_range_is_of_all_its_days_or_of_none(drifted: Platform) -> None:
    how = {"asset": PROFILE, "until": "2999-01-01", "reason": "retrain"}
    last = key_of(day(NEXT_DAY) - ONE_DAY)
    said = run(drifted, "override_gate", {**how, "partitions": [NEXT_DAY, last]})
    assert f"{PROFILE} [{last}] drift: a closed gate is required to override; it is open" in said
    assert WAYS_OUT.entries(drifted.lake) == []
    assert run(drifted, "override_gate", {**how, "first": NEXT_DAY, "last": NEXT_DAY}) == ""
    (entry,) = WAYS_OUT.entries(drifted.lake)
    assert (entry["partition"], entry["actor"]) == (NEXT_DAY, drifted.settings.who)


def test_an_override_that_is_ended_closes_the_gate_at_once(drifted: Platform) -> None:
    ended = {"asset": PROFILE, "partition": NEXT_DAY, "reason": "retrained"}
    assert "an override that has not ended is required; there never was one" in run(
        drifted, "end_override", ended
    )
    run(drifted, "override_gate", {"asset": PROFILE, "partitions": [NEXT_DAY], "hours": 12, "reason": "r"})
    assert run(drifted, "end_override", ended) == ""
    explained = invoke("gate", "explain", MODEL, "--partition", NEXT_DAY).stdout
    newest = WAYS_OUT.entries(drifted.lake)[-1]
    assert f"(an override of it ended at {newest['until']})" in explained
    again = invoke("gate", "end-override", PROFILE, NEXT_DAY, "--reason", "to be sure")
    assert again.exit_code == 1 and "the newest one ended at" in again.output


def test_a_day_is_accepted_as_the_command_accepts_it(drifted: Platform) -> None:
    config = {"asset": PROFILE, "partition": NEXT_DAY, "new_regime": True, "reason": "prices went up"}
    assert run(drifted, "accept_drift", config) == ""
    (entry,) = WAYS_OUT.entries(drifted.lake)
    assert (entry["way"], entry["new_regime"], entry["reason"]) == ("accept", True, "prices went up")
    assert "it passed. Nothing was changed" in run(drifted, "accept_drift", config)


def test_a_version_is_promoted_or_refused_as_by_the_command(champions: Platform) -> None:
    config = {"release": "fraud", "to": 1, "reason": "the others alert too often"}
    assert run(champions, "promote", config) == ""
    assert history(champions.settings, "fraud")[-1]["version"] == 1
    assert "another version than the champion is required" in run(champions, "promote", config)
    assert "did you mean fraud?" in run(champions, "promote", {**config, "release": "frauds"})


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "either until or hours is required; got neither"),
        ({"until": "2999-01-01", "hours": 1}, "either until or hours is required; got both"),
        ({"hours": -1}, "until requires a time after"),
        ({"hours": 1e300}, "hours requires a number"),
        ({"until": "soon"}, "until requires a time such as"),
        ({"hours": 1, "check": "quality"}, f"check requires one of the checks of {PROFILE}: drift"),
        ({"hours": 1, "asset": "drift_profiles/frauds"}, "a declared asset is required"),
        ({"hours": 1, "partitions": ["yesterday"]}, f"partition requires a day of {PROFILE}"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    platform: Platform, how: dict[str, Any], said: str
) -> None:
    config = {"asset": PROFILE, "partitions": [NEXT_DAY], "reason": "r", **how}
    assert said in run(platform, "override_gate", config)
    assert WAYS_OUT.entries(platform.lake) == []


def test_a_job_runs_alone_and_once_and_explains_every_field() -> None:
    for name in ("override_gate", "end_override", "accept_drift", "promote", "rollback"):
        job = defs().resolve_job_def(name)
        assert job.executor_def is dg.in_process_executor, "one pod, whatever executes the steps of assets"
        assert job.tags["dagster/max_retries"] == "0", "a rollback that is tried again goes back further"
        assert job.description
        schema: Any = job.get_node_named(name).definition.config_schema
        assert all(one.description for one in schema.config_type.fields.values())
