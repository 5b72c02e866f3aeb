"""The workflow runs commands that exist, stops what is destructive, and takes nothing on trust."""

import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ml_platform.cli.main import app
from ml_platform.kernel.settings import PROJECT_ROOT

PATH = PROJECT_ROOT / ".github" / "workflows" / "ci.yml"
WORKFLOW: dict[Any, Any] = yaml.safe_load(PATH.read_text())


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every step with the name of its job."""
    for name, job in WORKFLOW["jobs"].items():
        for step in job["steps"]:
            yield name, step


def step_of(command: str) -> dict[str, Any]:
    """The one step that runs a command."""
    (found,) = [step for _, step in steps() if command in step.get("run", "")]
    return found


def commands() -> list[list[str]]:
    """The platform's commands in all steps, as the shell would split them."""
    found = [
        re.search(r"ml-platform (.*)", line)
        for _, step in steps()
        for line in step.get("run", "").splitlines()
    ]
    return [shlex.split(match[1].split(" || ")[0]) for match in found if match]


def test_its_commands_are_plan_and_ci_with_options_that_exist() -> None:
    group = typer.main.get_command(app)
    assert [words[0] for words in commands()] == ["plan", "ci"]
    for name, *options in commands():
        command: Any = group.commands[name]  # type: ignore[attr-defined]
        context = command.make_context(name, list(options))  # a UsageError where an option does not exist
        assert context.params["summary"] == Path(f"{name}.md")
    assert context.params["junit"] == Path("junit.xml")


def test_checks_and_tests_are_those_that_run_everywhere() -> None:
    ran = [step["run"] for name, step in steps() if name == "tests" and "run" in step]
    assert ran == ["make .venv", ".ci/run"]


def test_it_runs_for_every_change_and_for_main() -> None:
    triggers = WORKFLOW[True]  # `on`, as YAML 1.1 reads it
    assert triggers == {"pull_request": None, "push": {"branches": ["main"]}}


def test_actions_are_pinned_by_their_commit_and_keep_no_credentials() -> None:
    used = [step for _, step in steps() if "uses" in step]
    assert used and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step["uses"]) for step in used)
    lines = [line for line in PATH.read_text().splitlines() if "uses:" in line]
    assert all(re.search(r" # v\d+\.\d+\.\d+$", line) for line in lines), "with the version that people know"
    checkouts = [step for step in used if "/checkout@" in step["uses"]]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False, False]


def test_it_may_read_the_repository_and_comment_and_nothing_else() -> None:
    allowed = {
        name: job.get("permissions", WORKFLOW["permissions"]) for name, job in WORKFLOW["jobs"].items()
    }
    assert allowed == {
        "tests": {"contents": "read"},
        "assets": {"contents": "read", "pull-requests": "write"},
    }
    with_token = [step["name"] for _, step in steps() if "GH_TOKEN" in step.get("env", {})]
    assert with_token == ["Comment", "A destructive change has the label destructive-ok"]


def test_no_script_contains_what_the_author_of_a_change_can_write() -> None:
    assert [step["run"] for _, step in steps() if "${{" in step.get("run", "")] == []


def test_the_whole_history_is_there_to_compare_with() -> None:
    (checkout, _) = [step for name, step in steps() if name == "assets" and "uses" in step][:2]
    assert checkout["with"]["fetch-depth"] == 0


def run(step: dict[str, Any], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a step's script as the runner does."""
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", step["run"]],
        cwd=folder,
        env={**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def program(path: Path, text: str) -> None:
    """A script in the place of a program that is not here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(("code", "goes_on"), [(0, True), (3, True), (2, False), (1, False)])
def test_the_plan_stops_the_job_only_where_it_could_not_run(tmp_path: Path, code: int, goes_on: bool) -> None:
    program(tmp_path / ".venv" / "bin" / "ml-platform", f'echo "$@" > asked; exit {code}')
    done = run(
        step_of("ml-platform plan"), tmp_path, BASE="release 1", GITHUB_OUTPUT=str(tmp_path / "output")
    )
    assert (done.returncode == 0) == goes_on
    assert (tmp_path / "asked").read_text() == "plan --against origin/release 1 --summary plan.md\n"
    assert (tmp_path / "output").read_text() == f"status={code}\n"


@pytest.mark.parametrize(
    ("labels", "code"), [("bug\ndestructive-ok\n", 0), ("bug\n", 3), ("not-destructive-ok\n", 3), ("", 3)]
)
def test_a_destructive_change_needs_its_label(tmp_path: Path, labels: str, code: int) -> None:
    (tmp_path / "labels").write_text(labels)
    program(tmp_path / "bin" / "gh", "cat labels")
    step = step_of("destructive-ok")
    assert step["if"] == "${{ !cancelled() && steps.plan.outputs.status == '3' }}"
    done = run(step, tmp_path, NUMBER="7")
    assert done.returncode == code, done.stderr
    assert ("::error::" in done.stdout) == (code == 3)


def test_both_summaries_are_posted_also_where_one_is_missing(tmp_path: Path) -> None:
    (tmp_path / "ci.md").write_text("what ci says\n")
    done = run(step_of("GITHUB_STEP_SUMMARY"), tmp_path, GITHUB_STEP_SUMMARY=str(tmp_path / "page"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page").read_text() == (tmp_path / "summary.md").read_text() == "what ci says\n"
    program(tmp_path / "bin" / "gh", 'echo "$@" > asked')
    assert run(step_of("gh pr comment"), tmp_path, NUMBER="7").returncode == 0
    assert (tmp_path / "asked").read_text() == (
        "pr comment 7 --edit-last --create-if-none --body-file summary.md\n"
    )
