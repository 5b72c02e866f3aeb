"""Who launches through the webserver is whom the proxy names: in Dagster's tags, and in the ledger of releases."""

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.backfill import execute_backfill_iteration
from dagster_graphql.client.query import LAUNCH_MULTIPLE_RUNS_MUTATION, LAUNCH_PIPELINE_REEXECUTION_MUTATION
from starlette.requests import HTTPConnection

from ml_platform.cli.signed_in import named_by
from ml_platform.gates.actors import actor_of
from ml_platform.kernel.settings import Settings
from ml_platform.releases.store import history
from tests.built import Platform, platform
from tests.dagster_ui import listed
from tests.support import LAST_DAY
from tests.webserver import HEADER, LOCATION, Webserver, at_once, finished, webserver

__all__ = ["platform"]

ANN, BOB, BOSS = "ann@example.com", "bob@example.com", "boss@example.com"
SPOOFED = {"user": BOSS}
DAYS = ["2018-06-01", "2018-06-02"]

QUEUE = """\
telemetry: {enabled: false}
run_coordinator: {module: dagster._core.run_coordinator, class: QueuedRunCoordinator}
"""
RETRY_BACKFILL = """
mutation($reexecutionParams: ReexecutionParams!) {
  reexecutePartitionBackfill(reexecutionParams: $reexecutionParams) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
CANCEL_BACKFILL = "mutation($id: String!) { cancelPartitionBackfill(backfillId: $id) { __typename } }"
RESUME_BACKFILL = "mutation($id: String!) { resumePartitionBackfill(backfillId: $id) { __typename } }"
REPORT = """
mutation($event: ReportRunlessAssetEventsParams!) {
  reportRunlessAssetEvents(eventParams: $event) { __typename }
}
"""
MAY_LAUNCH = "{ permissions { permission value } }"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose instance queues what is launched, and nobody takes it from the queue."""
    folder = tmp_path_factory.mktemp("asked") / "home"
    (folder / "dagster").mkdir(parents=True)
    (folder / "dagster" / "dagster.yaml").write_text(QUEUE)
    return folder


@pytest.fixture(scope="module")
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(home / "dagster")) as found:
        yield found


@pytest.fixture(scope="module")
def behind_proxy(home: Path) -> Iterator[Webserver]:
    """A webserver that believes the header of a proxy."""
    with webserver(home, definitions="tests.lifecycle.locations:stock", header=HEADER) as found:
        yield found


@pytest.fixture
def ann(behind_proxy: Webserver) -> Webserver:
    return behind_proxy.signed_in(ANN)


@pytest.fixture
def bob(behind_proxy: Webserver) -> Webserver:
    return behind_proxy.signed_in(BOB)


def user_of(instance: dg.DagsterInstance, answer: Mapping[str, Any]) -> str | None:
    """The tag of a launched run, as the instance has it."""
    assert answer["__typename"] == "LaunchRunSuccess", answer
    run = instance.get_run_by_id(answer["run"]["runId"])
    assert run is not None
    return run.tags.get("user")


def user_of_backfill(instance: dg.DagsterInstance, answer: Mapping[str, Any]) -> str | None:
    assert answer["__typename"] == "LaunchBackfillSuccess", answer
    backfill = instance.get_backfill(answer["backfillId"])
    assert backfill is not None
    return backfill.tags.get("user")


def test_a_run_carries_who_launched_it_and_nobody_can_be_somebody_else(
    instance: dg.DagsterInstance, ann: Webserver
) -> None:
    assert user_of(instance, ann.launch("upstream", day=DAYS[0])) == ANN
    assert user_of(instance, ann.launch("upstream", day=DAYS[0], tags=SPOOFED)) == ANN
    assert instance.get_runs_count(dg.RunsFilter(tags=SPOOFED)) == 0


def test_several_runs_at_once_carry_it_each(instance: dg.DagsterInstance, ann: Webserver) -> None:
    wanted = [ann.execution("upstream", day=day, tags=SPOOFED) for day in DAYS]
    answer = ann.ask(LAUNCH_MULTIPLE_RUNS_MUTATION, {"executionParamsList": wanted})
    launched = answer["launchMultipleRuns"]["launchMultipleRunsResult"]
    assert [user_of(instance, one) for one in launched] == [ANN, ANN]


def test_a_run_again_is_of_who_asked_for_it_again(
    instance: dg.DagsterInstance, ann: Webserver, bob: Webserver
) -> None:
    first = ann.launch("upstream", day=DAYS[0])["run"]["runId"]
    again = {"parentRunId": first, "strategy": "ALL_STEPS", "useParentRunTags": True}
    by_hand = bob.execution("upstream", day=DAYS[0], tags=SPOOFED)
    by_hand["executionMetadata"] |= {"rootRunId": first, "parentRunId": first}
    for parameters in (
        {"reexecutionParams": again},
        {"reexecutionParams": {**again, "extraTags": listed(SPOOFED)}},
        {"executionParams": by_hand},
    ):
        answer = bob.ask(LAUNCH_PIPELINE_REEXECUTION_MUTATION, parameters)["launchPipelineReexecution"]
        assert user_of(instance, answer) == BOB


def test_the_runs_of_a_backfill_carry_who_asked_for_it(
    instance: dg.DagsterInstance, ann: Webserver, bob: Webserver
) -> None:
    asked = ann.request_backfill("upstream", DAYS, SPOOFED)
    assert user_of_backfill(instance, asked) == ANN
    carry_out_backfills(instance)
    assert {run.tags["user"] for run in runs_of(instance, asked["backfillId"])} == {ANN}

    told = {"id": asked["backfillId"]}
    assert bob.ask(CANCEL_BACKFILL, told)["cancelPartitionBackfill"]["__typename"] == "CancelBackfillSuccess"
    assert user_of_backfill(instance, asked) == ANN, "who ends it did not start it"
    assert bob.ask(RESUME_BACKFILL, told)["resumePartitionBackfill"]["__typename"] == "ResumeBackfillSuccess"
    assert user_of_backfill(instance, asked) == BOB

    done = instance.get_backfill(asked["backfillId"])
    assert done is not None
    instance.update_backfill(done.with_status(BulkActionStatus.CANCELED))
    parameters = {"parentRunId": asked["backfillId"], "strategy": "ALL_STEPS"}
    retried = ann.ask(RETRY_BACKFILL, {"reexecutionParams": parameters})["reexecutePartitionBackfill"]
    assert user_of_backfill(instance, retried) == ANN
    carry_out_backfills(instance)
    assert {run.tags["user"] for run in runs_of(instance, retried["backfillId"])} == {ANN}


def carry_out_backfills(instance: dg.DagsterInstance) -> None:
    """One round of the daemon that launches the runs of backfills."""
    target = LoadableTargetOrigin(
        executable_path=sys.executable, module_name="tests.lifecycle.locations", attribute="stock"
    )
    origin = InProcessCodeLocationOrigin(target, location_name=LOCATION)
    with WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace:
        list(execute_backfill_iteration(workspace, logging.getLogger("backfill")))


def runs_of(instance: dg.DagsterInstance, backfill: str) -> Sequence[dg.DagsterRun]:
    found = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert found
    return found


def test_an_event_that_is_reported_by_hand_carries_who_reported_it(
    instance: dg.DagsterInstance, ann: Webserver
) -> None:
    event = {"eventType": "ASSET_MATERIALIZATION", "assetKey": {"path": ["last"]}, "partitionKeys": DAYS[:1]}
    ann.ask(REPORT, {"event": event})
    (record,) = instance.fetch_materializations(dg.AssetKey("last"), limit=1).records
    assert record.asset_materialization is not None
    assert (record.asset_materialization.tags or {})["dagster/reporting_user"] == ANN


@pytest.mark.parametrize("headers", [{}, {HEADER: ""}, {HEADER: "  "}, {"X_Forwarded_Email": ANN}])
def test_who_came_around_the_proxy_may_only_look(
    instance: dg.DagsterInstance, behind_proxy: Webserver, headers: dict[str, str]
) -> None:
    before = instance.get_runs_count(), len(instance.get_backfills())
    unnamed = behind_proxy.asked_with(headers)
    assert not any(one["value"] for one in unnamed.ask(MAY_LAUNCH, {})["permissions"])
    assert unnamed.launch("upstream", day=DAYS[0])["__typename"] == "UnauthorizedError"
    assert unnamed.request_backfill("upstream", DAYS)["__typename"] == "UnauthorizedError"
    assert (instance.get_runs_count(), len(instance.get_backfills())) == before


def test_without_the_setting_nobody_is_believed(home: Path, instance: dg.DagsterInstance) -> None:
    with webserver(home, definitions="tests.lifecycle.locations:stock", header=None) as found:
        assert user_of(instance, found.signed_in(ANN).launch("upstream", day=DAYS[0])) is None
    nowhere = Settings(actor="cat")
    assert actor_of(SPOOFED, nowhere) == "cat", "the tag of a run is anybody's word there"


def test_a_webserver_that_only_shows_refuses_those_who_signed_in_too(
    home: Path, instance: dg.DagsterInstance
) -> None:
    before = instance.get_runs_count()
    with webserver(
        home, "--read-only", definitions="tests.lifecycle.locations:stock", header=HEADER
    ) as found:
        ann = found.signed_in(ANN)
        assert ann.launch("upstream", day=DAYS[0])["__typename"] == "UnauthorizedError"
        assert ann.request_backfill("upstream", DAYS)["__typename"] == "UnauthorizedError"
    assert instance.get_runs_count() == before


def test_the_ledger_of_releases_names_who_launched_the_release(
    platform: Platform,
) -> None:
    platform.make("models/fraud", LAST_DAY)
    with webserver(
        at_once(platform.settings.root), definitions="ml_platform.definitions", header=HEADER
    ) as found:
        answer = found.signed_in(ANN).launch("releases/fraud", tags=SPOOFED)
        assert answer["__typename"] == "LaunchRunSuccess", answer
        assert finished(platform.instance, answer["run"]["runId"]) == dg.DagsterRunStatus.SUCCESS
    moves = [(move["version"], move["actor"]) for move in history(platform.settings, "fraud")]
    assert moves == [(1, platform.settings.who), (2, ANN)]


def test_what_the_daemon_launches_is_named_so_and_the_rest_is_of_who_runs_it() -> None:
    @dg.job
    def nothing() -> None: ...

    schedule = dg.ScheduleDefinition("nightly", cron_schedule="0 6 * * *", job=nothing)
    sensor = dg.AutomationConditionSensorDefinition("daily_chain", target=dg.AssetSelection.all())
    for here in (Settings(actor="cat"), Settings(actor="cat", user_header=HEADER)):
        assert actor_of(dg.DagsterRun.tags_for_schedule(schedule), here) == "schedule nightly"
        assert actor_of(dg.DagsterRun.tags_for_sensor(sensor), here) == "sensor daily_chain"
        assert actor_of({"dagster/partition": DAYS[0]}, here) == "cat"
    again = {**dg.DagsterRun.tags_for_sensor(sensor), "user": ANN}
    assert actor_of(again, Settings(user_header=HEADER)) == ANN, "a person had it run again"


def test_a_header_that_is_there_twice_names_nobody() -> None:
    one, other = ((HEADER.lower().encode(), person.encode()) for person in (ANN, BOSS))
    assert named_by(HTTPConnection({"type": "http", "headers": [one]}), HEADER) == ANN
    assert named_by(HTTPConnection({"type": "http", "headers": [one, other]}), HEADER) is None
    assert named_by(None, HEADER) is None


@pytest.mark.parametrize("header", ["", "X Forwarded", "X_Forwarded_Email", "X-Forwarded-Email:"])
def test_a_setting_that_names_no_header_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="user_header"):
        Settings(user_header=header)
