"""The image: what the Dockerfile says, and what would be in it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.cluster import K8S, workloads
from tests.k8s.image import DOCKERFILE, copied_sources
from tests.k8s.jobs import job_of_a_run
from tests.k8s.tools import program

DEVELOPERS = {"pytest", "ruff", "hypothesis", "basedpyright", "pip"}


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [program("hadolint"), "--no-color", str(K8S / "Dockerfile")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_the_last_stage_runs_nothing_as_root_and_has_no_health_check() -> None:
    last = DOCKERFILE.split("\nFROM ")[-1]
    assert re.findall(r"^USER (.*)", last, re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" not in DOCKERFILE
    assert "-slim-" in last.splitlines()[0], "without compilers"
    assert "apt-get" not in last
    assert {"title", "version", "revision"} <= set(re.findall(r"org\.opencontainers\.image\.(\w+)=", last))


def test_make_image_builds_it_under_the_name_that_the_manifests_use() -> None:
    done = subprocess.run(
        ["make", "--no-print-directory", "-n", "image"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    (code,) = [pods for pods in workloads("production") if pods.name == "code-location"]
    assert f'docker build --file k8s/Dockerfile --tag "{code.containers[0]["image"]}"' in done.stdout
    assert done.stdout.split()[-1] == "."


def test_every_distribution_is_installed_by_its_hash() -> None:
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert installs == [
        "--no-deps --require-hashes --requirement requirements.lock",
        "--no-deps --no-build-isolation --editable .",
    ]


@pytest.fixture(scope="module")
def leaves() -> set[str]:
    """What is installed here and would not stay in the image."""
    command = [sys.executable, str(K8S / "not_required.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    return set(done.stdout.split())


def test_what_developers_need_leaves_and_what_the_project_needs_stays(leaves: set[str]) -> None:
    assert leaves >= DEVELOPERS
    text = re.search(
        r"^dependencies = \[(.*?)^\]", (PROJECT_ROOT / "pyproject.toml").read_text(), re.MULTILINE | re.DOTALL
    )
    assert text
    wanted = {Requirement(line).name.lower() for line in re.findall(r'^    "(.*?)",', text[1], re.MULTILINE)}
    assert "dagster" in wanted
    assert wanted & leaves == set()


def test_what_is_copied_exists_and_is_sent_to_the_builder() -> None:
    sent = {
        line[1:] for line in (PROJECT_ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = set(copied_sources())
    assert copied == sent
    assert all((PROJECT_ROOT / source).exists() for source in copied)


def test_the_user_and_the_home_are_those_of_the_manifests() -> None:
    for pods in [*workloads("production"), job_of_a_run()]:
        if "/ml-platform:" in pods.containers[0]["image"]:
            assert pods.spec["securityContext"]["runAsUser"] == 10001
            home = "/var/lib/ml-platform"
            assert home in {mount["mountPath"] for mount in pods.containers[0]["volumeMounts"]}
            assert f"ML_PLATFORM_HOME={home}" in DOCKERFILE


@pytest.mark.parametrize("command", ["dagster", "dagster-daemon", "ml-platform", "mlflow"])
def test_what_the_manifests_start_is_a_command_of_what_stays(command: str, leaves: set[str]) -> None:
    from importlib.metadata import entry_points

    owners = {
        found.dist.name.lower() for found in entry_points(group="console_scripts", name=command) if found.dist
    }
    assert owners - leaves
    assert (Path(sys.executable).parent / command).exists()


def test_the_manifests_start_nothing_else() -> None:
    started = {pods.containers[0]["args"][0] for pods in workloads("production") if pods.kind == "Deployment"}
    assert started == {"dagster", "dagster-daemon", "ml-platform", "mlflow"}
