"""Dagster takes its instance of the cluster, and the Jobs that it makes are complete and allowed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dagster._cli.api import api_cli
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._daemon.cli import create_dagster_daemon_cli
from typer.main import get_command

from ml_platform.cli.main import app
from ml_platform.gates import run_storage
from ml_platform.gates.run_storage import PostgresStorage
from tests.k8s.cluster import K8S, VARIANTS, of_kind, quantity, rendered, workloads
from tests.k8s.jobs import INSTANCE, RecordingApi, job_manifest, launcher, launcher_config, launcher_settings
from tests.k8s.test_schemas import VERSIONS

VERBS = {
    "create": "create",
    "delete": "delete",
    "list": "list",
    "read": "get",
}
RESOURCES = {
    "job": ("batch", "jobs"),
    "job_status": ("batch", "jobs/status"),
    "pod": ("", "pods"),
    "pod_log": ("", "pods/log"),
    "event": ("", "events"),
}


def test_dagster_takes_the_instance_as_it_is() -> None:
    told, _ = dagster_instance_config(str(INSTANCE.parent))
    assert told["run_monitoring"]["enabled"] is True
    assert told["concurrency"]["pools"] == {"granularity": "run", "default_limit": 1}
    assert told["telemetry"]["enabled"] is False


def test_the_launcher_takes_its_part_and_no_field_that_it_does_not_have() -> None:
    given = launcher_settings()
    assert launcher_config(given)["job_namespace"] == "somewhere"
    with pytest.raises(AssertionError):
        launcher_config({**given, "service_acount_name": "x"})
    run = {**given["run_k8s_config"], "job_spec": {}}
    with pytest.raises(AssertionError):
        launcher_config({**given, "run_k8s_config": run})


@pytest.fixture
def reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstanceRef:
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "of-a-test")
    monkeypatch.setenv("POD_NAMESPACE", "somewhere")
    return InstanceRef.from_dir(str(tmp_path), config_dir=str(INSTANCE.parent))


def test_every_part_of_the_instance_is_a_class_that_takes_its_configuration(reference: InstanceRef) -> None:
    made = [reference.run_coordinator, reference.compute_log_manager, reference.local_artifact_storage]
    assert [type(part).__name__ for part in made] == [
        "QueuedRunCoordinator",
        "NoOpComputeLogManager",
        "LocalArtifactStorage",
    ]
    storage = reference.storage_data
    assert (storage.module_name, storage.class_name) == (run_storage.__name__, PostgresStorage.__name__)
    assert "of-a-test" not in str(reference.to_dict()), "the password stays in the environment"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("component", ["run_worker", "step_worker"])
def test_the_jobs_of_runs_and_steps_fit_their_schema(component: str, version: str) -> None:
    kubernetes_validate.validate(job_manifest(component), version, strict=True)


@pytest.mark.parametrize("component", ["run_worker", "step_worker"])
def test_jobs_are_removed_after_a_day_and_never_tried_again_by_kubernetes(component: str) -> None:
    spec = job_manifest(component)["spec"]
    assert (spec["backoffLimit"], spec["ttlSecondsAfterFinished"]) == (0, 86400)


@pytest.mark.parametrize("component", ["run_worker", "step_worker"])
def test_jobs_get_settings_and_secrets_and_a_disk_that_they_may_fill(component: str) -> None:
    (container,) = job_manifest(component)["spec"]["template"]["spec"]["containers"]
    sources = [name for source in container["envFrom"] for name in source]
    assert sources == ["configMapRef", "secretRef"]
    names = {env["name"] for env in container["env"]}
    assert {"DAGSTER_HOME", "DAGSTER_PG_PASSWORD", "POD_NAMESPACE"} <= names
    volumes = job_manifest(component)["spec"]["template"]["spec"]["volumes"]
    filled = sum(quantity(volume["emptyDir"]["sizeLimit"]) for volume in volumes)
    assert filled < quantity(container["resources"]["limits"]["ephemeral-storage"]), (
        "else it is evicted first"
    )


def verbs_used() -> set[tuple[str, str, str]]:
    """Group, resource and verb of all that dagster-k8s asks the API, to start, watch, explain and end a run or step."""
    api = RecordingApi()
    client = launcher(api)._api_client
    client.create_namespaced_job_with_retries(body=None, namespace="n")
    client.get_job_status("job", "n")
    client.get_pod_names_in_job("job", "n")
    client.get_pod_by_name("pod", "n")
    client.retrieve_pod_logs("pod", "n", container_name="c")
    client.retrieve_pod_events("pod", "n")
    client.get_job_debug_info("job", "n")
    client.delete_job("job", "n")
    return {asked_for(name) for name in api.asked}


def asked_for(call: str) -> tuple[str, str, str]:
    """`read_namespaced_pod_log` as group, resource and verb."""
    verb, what = call.split("_namespaced_")
    return (*RESOURCES[what], VERBS[verb])


def allowed(role: Any) -> Iterator[tuple[str, str, str]]:
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                yield from ((group, resource, verb) for verb in rule["verbs"])


def test_the_role_allows_what_dagster_asks_the_api_and_nothing_else() -> None:
    (role,) = of_kind("production", "Role")
    assert ("", "pods", "delete") in verbs_used()
    assert set(allowed(role)) == verbs_used()


def test_nobody_else_has_a_role_and_nobody_else_has_a_token() -> None:
    for variant, writable in (("production", set()), ("production with sign-in", {"dagster-webserver"})):
        bound = {
            subject["name"] for binding in of_kind(variant, "RoleBinding") for subject in binding["subjects"]
        }
        assert bound == {"dagster-daemon", "dagster-run"} | writable
        assert not [m for m in rendered(variant) if m["kind"].startswith("Cluster")]
        assert all(m["automountServiceAccountToken"] is False for m in of_kind(variant, "ServiceAccount"))
        with_token = {p.name for p in workloads(variant) if p.spec["automountServiceAccountToken"]}
        assert with_token == {"dagster-daemon", "dagster-webserver", "migration"}


def test_the_webserver_changes_nothing_unless_it_is_said() -> None:
    for variant, read_only in (("production", True), ("local", True), ("production with sign-in", False)):
        (webserver,) = [
            m for m in of_kind(variant, "Deployment") if m["metadata"]["name"] == "dagster-webserver"
        ]
        (container,) = webserver["spec"]["template"]["spec"]["containers"]
        assert ("--read-only" in container["args"]) is read_only


def test_every_process_of_dagster_logs_json() -> None:
    commands: dict[str, Any] = {
        "code-location": api_cli.commands["grpc"],
        "dagster-daemon": create_dagster_daemon_cli().commands["run"],
        "dagster-webserver": get_command(app).commands["webserver"],  # type: ignore[attr-defined]
    }
    for pods in (pods for variant in VARIANTS for pods in workloads(variant) if pods.name in commands):
        args = pods.containers[0]["args"]
        known = {option for parameter in commands[pods.name].params for option in parameter.opts}
        assert {arg for arg in args if arg.startswith("--")} <= known
        assert args[args.index("--log-format") + 1] == "json", pods.name


def test_the_workspace_names_the_location_that_the_code_location_serves() -> None:
    (entry,) = yaml.safe_load((K8S / "base" / "dagster" / "workspace.yaml").read_text())["load_from"]
    server = entry["grpc_server"]
    (code,) = [m for m in of_kind("production", "Deployment") if m["metadata"]["name"] == server["host"]]
    args = code["spec"]["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--port") + 1] == str(server["port"])
    assert args[args.index("--location-name") + 1] == server["location_name"]
