"""Every program of the manifests starts as the image's user from a copy of what the Dockerfile copies.

It has the environment of its manifest, real servers to ask, and nothing that it may write to but its empty volumes.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pyarrow.fs as pa_fs
import pytest
import sqlalchemy as sa
from dagster_graphql.client.query import LAUNCH_PIPELINE_EXECUTION_MUTATION

from ml_platform.kernel.settings import Settings
from tests.databases import take_over
from tests.k8s.cluster import config_map
from tests.k8s.image import FOLDER, as_its_user
from tests.k8s.pods import command_of
from tests.k8s.programs import SIGNED_IN, Program, Running, programs, servers

NAME = "app.kubernetes.io/name"
SERVERS = [program for program in programs() if not program.runs_to_its_end]
ENDING = [program for program in programs() if program.runs_to_its_end]


@pytest.fixture(scope="module")
def running(built_once: Path) -> Iterator[Running]:
    """All programs, of which those that end have ended, beside a registry with a champion."""
    with servers() as found:
        for program in ENDING:
            found.start(program)
        for program in ENDING:
            found.ended(program)
        _register_champion(found, built_once)
        for program in SERVERS:
            found.start(program)
        yield found


def _register_champion(running: Running, home: Path) -> None:
    """What the small built platform has in MLflow, in the cluster's database and bucket."""
    told = config_map(SIGNED_IN, "ml-platform")
    artifacts = told["ML_PLATFORM_MLFLOW_ARTIFACTS"]
    here = Settings(environment=told["ML_PLATFORM_ENVIRONMENT"])
    database = sa.make_url(running.postgres).set(database="mlflow").render_as_string(hide_password=False)
    local = str(home / "mlflow" / "artifacts")

    def changed(text: str) -> str:
        return here.registered_name(text) if text == "fraud" else text.replace(local, artifacts)

    take_over(f"sqlite:///{home}/mlflow/mlflow.db", database, changed=changed)
    store = pa_fs.S3FileSystem(
        endpoint_override=running.store["AWS_ENDPOINT_URL"],
        access_key="tests",
        secret_key="tests",
        region="us-east-1",
        scheme="http",
    )
    pa_fs.copy_files(local, artifacts.removeprefix("s3://"), destination_filesystem=store)


def test_all_have_the_settings_of_production() -> None:
    environments = {
        config_map(program.variant, "ml-platform")["ML_PLATFORM_ENVIRONMENT"] for program in programs()
    }
    assert environments == {"production"}


@pytest.mark.parametrize("program", ENDING, ids=lambda program: program.name)
def test_what_runs_to_its_end_succeeds(running: Running, program: Program) -> None:
    assert running.ended(program) == 0, running.said(program)


@pytest.mark.parametrize("program", SERVERS, ids=lambda program: program.name)
def test_what_serves_passes_its_probe(running: Running, program: Program) -> None:
    assert running.ready(program), running.said(program)


def test_what_mlflow_s_server_logs_is_json(running: Running) -> None:
    for program in SERVERS:
        if program.pod["metadata"]["labels"][NAME] == "mlflow":
            assert running.ready(program), running.said(program)
            lines = running.said(program).splitlines()
            told = [json.loads(line) for line in lines if line.startswith("{")]
            of_loggers = re.compile(r"^(\d{4}/\d\d/\d\d \S+ )?(INFO|WARNING|ERROR|CRITICAL)\b")
            assert [line for line in lines if of_loggers.match(line)] == []
            assert any("GET /health" in one["message"] for one in told if one["logger"] == "uvicorn.access")


@pytest.mark.parametrize("program", SERVERS, ids=lambda program: program.name)
def test_a_program_may_write_to_its_empty_volumes_and_to_nothing_else(
    running: Running, program: Program
) -> None:
    root = running.root(program)
    mounts = {mount["mountPath"]: mount["name"] for mount in program.container["volumeMounts"]}
    empty = {volume["name"] for volume in program.pod["spec"]["volumes"] if "emptyDir" in volume}
    written = {path: may_write(root / path[1:]) for path in [FOLDER, f"{FOLDER}/ml_platform", "/", *mounts]}
    assert written == {path: mounts.get(path) in empty for path in written}


def may_write(path: Path) -> bool:
    """Whether the image's user may write to a file, or make one in a folder."""
    command = ["touch", str(path / "made") if path.is_dir() else str(path)]
    return subprocess.run([*as_its_user(), *command], capture_output=True, check=False).returncode == 0


def test_a_run_and_its_step_are_programs_of_the_image_too(running: Running) -> None:
    """Asked for in the UI by somebody who signed in, queued, dequeued by the daemon, made Jobs of by dagster-k8s."""
    run = launch(running, "online/feature_registry")
    assert status(running, run) == "SUCCESS", running.told()
    commands = {tuple(command_of(pod.manifest["spec"]["containers"][0], {})[:3]) for pod in running.made()}
    assert commands == {("dagster", "api", "execute_run"), ("dagster", "api", "execute_step")}
    assert {pod.exit_code for pod in running.made()} == {0}


def launch(running: Running, asset: str) -> str:
    """The button of the UI for an asset without partitions; the id of the run."""
    location = {"repositoryLocationName": "ml-platform", "repositoryName": "__repository__"}
    selector = {**location, "pipelineName": "__ASSET_JOB", "assetSelection": [{"path": asset.split("/")}]}
    parameters = {"selector": selector, "runConfigData": {}}
    answer = ask(running, LAUNCH_PIPELINE_EXECUTION_MUTATION, {"executionParams": parameters})
    assert "run" in answer["launchPipelineExecution"], answer
    return answer["launchPipelineExecution"]["run"]["runId"]


def status(running: Running, run: str) -> str:
    """How a run ended, once its pods have ended too."""
    query = "query($run: ID!) { runOrError(runId: $run) { ... on Run { status } } }"

    def found() -> str:
        return ask(running, query, {"run": run})["runOrError"]["status"]

    running.wait(lambda: found() in ("SUCCESS", "FAILURE", "CANCELED"))
    running.wait(lambda: all(pod.exit_code is not None for pod in running.made()))
    return found()


def ask(running: Running, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The data that the webserver which may launch runs answers with, asked as the proxy asks for a person."""
    (webserver,) = [
        p for p in SERVERS if p.pod["metadata"]["labels"][NAME] == "dagster-webserver" and not read_only(p)
    ]
    assert running.ready(webserver), running.said(webserver)
    (port,) = webserver.ports.values()
    url = f"http://localhost:{port}/graphql"
    person = {config_map(SIGNED_IN, "ml-platform")["ML_PLATFORM_USER_HEADER"]: "anna@example.com"}
    asked = {"query": query, "variables": variables}
    answer = httpx.post(url, json=asked, headers=person, timeout=60).raise_for_status().json()
    assert "errors" not in answer, answer
    return answer["data"]


def read_only(program: Program) -> bool:
    return "--read-only" in program.container["args"]
