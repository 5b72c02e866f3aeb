"""A branch is deployed after its checks, with commands that exist, from the image that the code location names."""

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from dagster_cloud_cli.config.models import load_dagster_cloud_yaml

from ml_platform.cli.main import app
from ml_platform.kernel.settings import PROJECT_ROOT, Settings

PATH = PROJECT_ROOT / ".github" / "workflows" / "branch-deployment.yml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(PATH.read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]


def steps(job: str) -> Iterator[dict[str, Any]]:
    """The steps of a job."""
    yield from JOBS[job]["steps"]


def scripts(job: str) -> list[str]:
    """The scripts of a job."""
    return [step["run"] for step in steps(job) if "run" in step]


def test_it_is_for_pull_requests_until_they_are_closed() -> None:
    triggers = WORKFLOW[True]  # `on`, as YAML 1.1 reads it
    assert triggers == {"pull_request": {"types": ["opened", "synchronize", "reopened", "closed"]}}


def test_plan_and_ci_come_first_and_a_fork_is_given_no_token() -> None:
    ran = [re.findall(r"ml-platform (\w+)", script) for script in scripts("checks")]
    assert [name for names in ran for name in names] == ["plan", "ci"]
    assert JOBS["deploy"]["needs"] == "checks"
    assert "if" not in JOBS["deploy"], "it is skipped where the checks were skipped or failed"
    own = "github.event.pull_request.head.repo.full_name == github.repository"
    assert own in JOBS["checks"]["if"]
    assert own in JOBS["close"]["if"]


def test_the_options_of_plan_and_ci_exist() -> None:
    group: Any = typer.main.get_command(app)
    for script in scripts("checks"):
        for line in re.findall(r"ml-platform (.*)", script):
            name, *options = shlex.split(line.split(" || ")[0])
            group.commands[name].make_context(name, options)  # a UsageError where an option does not exist


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the command line's own options, at its import
def test_the_commands_of_dagster_plus_exist_with_their_options() -> None:
    from dagster_cloud_cli.entrypoint import app as dagster_cloud

    ci: Any = typer.main.get_command(dagster_cloud).commands["ci"]  # type: ignore[attr-defined]
    given = [step["with"]["command"] for step in steps("deploy") if "command" in step.get("with", {})]
    names = [shlex.split(command)[1] for command in given]
    assert names == ["check", "set-build-output", "deploy", "notify"]
    for command in given:
        _, name, *words = shlex.split(command)
        options = {option for parameter in ci.commands[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= options


def test_every_branch_has_an_environment_of_its_own_before_anything_is_declared(tmp_path: Path) -> None:
    named = [
        step.get("with", {}).get("command") or step.get("run", step.get("name", ""))
        for step in steps("deploy")
    ]
    (script,) = [script for script in scripts("deploy") if "ML_PLATFORM_ENVIRONMENT" in script]
    check = next(number for number, text in enumerate(named) if text.startswith("ci check"))
    assert named.index(script) < check
    for number in ("42", "43"):
        declared = tmp_path / "dagster_cloud.yaml"
        shutil.copy(PROJECT_ROOT / declared.name, declared)
        assert environments(declared) == ["production"]
        environment = {**os.environ, "NUMBER": number}
        command = ["bash", "-eo", "pipefail", "-c", script]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        assert environments(declared) == [f"branch_{number}"]
        found = Settings(environment=f"branch_{number}", lake="s3://shared/lake", region="eu-central-1")
        assert found.lake_uri == f"s3://shared/lake/branch_{number}"
        declared.write_text("locations: []\n")
        assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode != 0


def environments(declared: Path) -> list[str]:
    """The environment of each location of a dagster_cloud.yaml."""
    locations = load_dagster_cloud_yaml(declared.read_text()).locations
    pairs = [
        pair.split("=", 1) for one in locations for pair in (one.container_context or {})["k8s"]["env_vars"]
    ]
    return [value for name, value in pairs if name == "ML_PLATFORM_ENVIRONMENT"]


def test_the_image_is_the_one_of_the_code_location() -> None:
    (location,) = load_dagster_cloud_yaml((PROJECT_ROOT / "dagster_cloud.yaml").read_text()).locations
    assert location.build is not None
    assert WORKFLOW["env"]["IMAGE"] == location.build.registry
    set_output = next(
        s for s in steps("deploy") if "set-build-output" in s.get("with", {}).get("command", "")
    )
    assert f"--location-name={location.location_name} --image-tag=$TAG" in set_output["with"]["command"]
    (build,) = [script for script in scripts("deploy") if "docker" in script]
    assert "make image\n" in build
    assert 'docker push "$IMAGE:$TAG"' in build


def test_actions_are_pinned_by_their_commit_with_the_version_that_people_know() -> None:
    lines = [line for line in PATH.read_text().splitlines() if "uses:" in line]
    assert all(re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line) for line in lines)
    assert len({line.split("@")[1] for line in lines if "dagster-io/" in line}) == 1
    checkouts = [step for job in JOBS for step in steps(job) if "/checkout@" in step.get("uses", "")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False, False]


def test_no_script_contains_what_the_author_of_a_change_can_write() -> None:
    assert [script for job in JOBS for script in scripts(job) if "${{" in script] == []


def test_secrets_are_given_to_the_steps_and_jobs_that_need_them() -> None:
    assert "secrets." not in yaml.safe_dump(JOBS["checks"])
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert JOBS["deploy"]["permissions"] == {"contents": "read", "pull-requests": "write"}
