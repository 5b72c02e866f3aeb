"""docs/operations.md: what it asks of a cluster is there, and the migration runs what it says."""

import re
import shlex

import pytest

from tests.k8s.cluster import VARIANTS, Manifest, matches, of_kind, rendered, workloads
from tests.lifecycle.operations import OPERATIONS, documented

UPGRADE = OPERATIONS.split("\n## Upgrade")[1].split("\n## ")[0]


def commands(verb: str) -> list[str]:
    """The commands of kubectl with a verb that the section on upgrades shows."""
    shown = re.findall(r"^ *\$ (kubectl .*)$", UPGRADE, re.MULTILINE)
    return [command for command in shown if f" {verb} " in command]


def migration(variant: str) -> Manifest:
    (found,) = of_kind(variant, "CronJob")
    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_migration_runs_the_documented_commands_one_after_the_other(variant: str) -> None:
    spec = migration(variant)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    run = [container["args"] for container in [*spec["initContainers"], *spec["containers"]]]
    shown = [shlex.split(line.replace("$MLFLOW", "$(MLFLOW)")) for line in documented("Upgrade").splitlines()]
    assert run == shown


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_migration_moves_the_databases_that_the_servers_have(variant: str) -> None:
    (server,) = [pods.containers[0] for pods in workloads(variant) if pods.name == "mlflow"]
    (moved,) = migration(variant)["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    told = [{env["name"]: env.get("value") for env in container["env"]} for container in (server, moved)]
    assert told[0]["MLFLOW_BACKEND_STORE_URI"] == told[1]["MLFLOW"]
    assert server["image"] == moved["image"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_migration_runs_when_somebody_asks_for_it_and_once(variant: str) -> None:
    spec = migration(variant)["spec"]
    assert spec["suspend"] is True
    job = spec["jobTemplate"]["spec"]
    assert (job["backoffLimit"], job["template"]["spec"]["restartPolicy"]) == (0, "Never")


def test_what_is_applied_first_is_the_migration_and_nothing_else() -> None:
    overlays = re.findall(r"kubectl apply -k ([\w/]+)(?: --selector ([\w./-]+)=([\w-]+))?", UPGRADE)
    (overlay, key, value), *whole = overlays
    assert whole == [(overlay, "", "")]
    applied = [
        manifest
        for manifest in rendered("production")
        if matches({"matchLabels": {key: value}}, manifest["metadata"].get("labels", {}))
    ]
    assert {manifest["kind"] for manifest in applied} == {"ServiceAccount", "CronJob"}
    assert {manifest["metadata"]["name"] for manifest in applied} == {"migration"}


def test_a_job_is_made_of_it_and_waited_for_under_the_same_name() -> None:
    (create,), (wait,) = commands("create"), [c for c in commands("wait") if "job/" in c]
    source, name = re.findall(r"--from=cronjob/(\S+) (\S+)", create)[0]
    assert source == migration("production")["metadata"]["name"]
    assert f"job/{name}" in wait and f"job/{name}" in commands("logs")[0]


def test_nobody_who_has_the_databases_open_is_left_running_but_serving() -> None:
    """The code location opens them for what is given in its pod alone, and serving asks MLflow's server."""
    scaled = set(re.findall(r"deployment/([\w-]+)", " ".join(commands("scale"))))
    opens = {
        pods.name
        for pods in workloads("production")
        for container in pods.containers
        for env in container.get("env", ())
        if pods.kind == "Deployment" and env["name"] in ("DAGSTER_PG_PASSWORD", "POSTGRES_MLFLOW_PASSWORD")
    }
    assert scaled == opens - {"code-location"}
