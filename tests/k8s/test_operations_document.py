"""docs/operations.md: what it asks of a cluster is there, and the migration runs what it says."""

import re
import shlex
from collections.abc import Mapping

import pytest

from tests.k8s.cluster import VARIANTS, Manifest, Pods, matches, of_kind, pods, rendered, workloads
from tests.k8s.jobs import job_of_a_run
from tests.lifecycle.operations import OPERATIONS, documented

UPGRADE = OPERATIONS.split("\n## Upgrade")[1].split("\n## ")[0]
RESTORE = OPERATIONS.split("\n## Restore")[1].split("\n## ")[0]


def commands(verb: str, section: str = UPGRADE) -> list[str]:
    """The commands of kubectl with a verb that a section shows."""
    shown = re.findall(r"^ *\$ (kubectl .*)$", section, re.MULTILINE)
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
    (server,) = [found.containers[0] for found in workloads(variant) if found.name == "mlflow"]
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


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_applied_first_is_all_that_the_migration_needs_and_starts_no_pod(variant: str) -> None:
    (overlay, key, value), *whole = re.findall(
        r"kubectl apply -k ([\w/]+)(?: --selector ([\w./-]+)=([\w-]+))?", UPGRADE
    )
    assert whole == [(overlay, "", "")]
    applied = {
        (manifest["kind"], manifest["metadata"]["name"])
        for manifest in rendered(variant)
        if matches({"matchLabels": {key: value}}, manifest["metadata"].get("labels", {}))
    }
    found = pods(migration(variant))
    assert applied == {("CronJob", "migration"), *referred_to(found), *ways_out(variant, found.labels)}


def referred_to(found: Pods) -> set[tuple[str, str]]:
    """What pods need that a release brings: not Secrets, which no manifest has."""
    tables = [source.get("configMapRef") for c in found.containers for source in c.get("envFrom", ())]
    tables += [volume.get("configMap") for volume in found.spec["volumes"]]
    names = {("ConfigMap", table["name"]) for table in tables if table is not None}
    return names | {("ServiceAccount", found.spec["serviceAccountName"])}


def ways_out(variant: str, labels: Mapping[str, str]) -> set[tuple[str, str]]:
    """The policies that let pods with these labels out, or into a server."""
    return {
        ("NetworkPolicy", manifest["metadata"]["name"])
        for manifest in of_kind(variant, "NetworkPolicy")
        if (manifest["spec"].get("egress") and matches(manifest["spec"]["podSelector"], labels))
        or any(
            matches(peer["podSelector"], labels)
            for rule in manifest["spec"].get("ingress", ())
            for peer in rule["from"]
            if "namespaceSelector" not in peer
        )
    }


def test_a_job_is_made_of_it_and_waited_for_under_the_same_name() -> None:
    (create,), (wait,) = commands("create"), [c for c in commands("wait") if "job/" in c]
    source, name = re.findall(r"--from=cronjob/(\S+) (\S+)", create)[0]
    assert source == migration("production")["metadata"]["name"]
    assert f"job/{name}" in wait and f"job/{name}" in commands("logs")[0]


def test_nobody_who_has_the_databases_open_is_left_running_but_serving() -> None:
    """The code location opens them for what is given in its pod alone, and serving asks MLflow's server."""
    opens = {
        pods.name
        for pods in workloads("production")
        for container in pods.containers
        for env in container.get("env", ())
        if pods.kind == "Deployment" and env["name"] in ("DAGSTER_PG_PASSWORD", "POSTGRES_MLFLOW_PASSWORD")
    }
    assert scaled_down(UPGRADE) == opens - {"code-location"}
    assert scaled_down(RESTORE) == opens - {"code-location"} | {"serving"}


def scaled_down(section: str) -> set[str]:
    """The Deployments that are to have no pods."""
    return set(re.findall(r"deployment/([\w-]+)", " ".join(commands("scale --replicas=0", section))))


@pytest.mark.parametrize("section", [UPGRADE, RESTORE], ids=["upgrade", "restore"])
def test_runs_are_asked_for_that_have_not_ended_once_the_daemon_starts_no_more(section: str) -> None:
    first, *_ = commands("scale", section)
    (asked,) = commands("get pods", section)
    assert first.endswith("deployment/dagster-daemon") and section.index(first) < section.index(asked)
    (selector,) = re.findall(r"--selector (\S+)=(\S+)", asked)
    assert matches({"matchLabels": dict([selector])}, job_of_a_run().labels)
    left_out = re.findall(r"status.phase!=(\w+)", asked)
    assert left_out == ["Succeeded", "Failed"], "Pending ones will run, and have the databases open then"
