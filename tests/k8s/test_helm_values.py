"""The values for Dagster's chart say what the cluster's own dagster.yaml says."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.cluster import K8S, of_kind, quantity
from tests.k8s.jobs import INSTANCE, launcher_settings

VALUES: dict[str, Any] = yaml.safe_load((K8S / "dagster-helm-values.yaml").read_text())
OURS: dict[str, Any] = yaml.safe_load(INSTANCE.read_text())


def snake(value: Any) -> Any:
    """The keys of a mapping as dagster.yaml spells them: `maxRetries` is `max_retries`."""
    if not isinstance(value, dict):
        return value
    return {re.sub(r"(?<=[a-z])([A-Z])", r"_\1", key).lower(): snake(one) for key, one in value.items()}


def test_runs_are_the_same() -> None:
    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    ours = launcher_settings()
    described = launcher["runK8sConfig"]
    assert {snake({key: None}).popitem()[0]: value for key, value in described.items()} == ours[
        "run_k8s_config"
    ]
    assert [source["name"] for source in launcher["envSecrets"]] == ours["env_secrets"]
    assert [source["name"] for source in launcher["envConfigMaps"]] == ours["env_config_maps"]
    assert VALUES["global"]["postgresqlSecretName"] == ours["postgres_password_secret"]
    assert VALUES["global"]["dagsterHome"] == ours["dagster_home"]


def test_queue_monitoring_and_retries_are_the_same() -> None:
    daemon = VALUES["dagsterDaemon"]
    assert snake(daemon["runMonitoring"]) == OURS["run_monitoring"]
    assert snake(daemon["runRetries"]) == OURS["run_retries"]
    queue = daemon["runCoordinator"]
    assert (queue["enabled"], queue["type"]) == (True, "CustomRunCoordinator")
    assert queue["config"] == {"customRunCoordinator": {**OURS["run_coordinator"], "config": {}}}
    assert snake(VALUES["concurrency"]) == {"enabled": True, **OURS["concurrency"]}
    logs = VALUES["computeLogManager"]["config"]["customComputeLogManager"]
    assert {name: logs[name] for name in ("module", "class")} == OURS["compute_logs"]


def test_logs_of_runs_are_the_same() -> None:
    given = VALUES["pythonLogs"]
    assert {snake({key: None}).popitem()[0]: value for key, value in given.items()} == OURS["python_logs"]


def test_the_webserver_logs_json_by_a_variable_that_it_reads() -> None:
    told = {env["name"]: env.get("value") for env in VALUES["dagsterWebserver"]["env"]}
    assert told["DAGSTER_WEBSERVER_LOG_FORMAT"] == "json"
    webserver = Path(sys.executable).with_name("dagster-webserver")
    refused = subprocess.run(
        [webserver, "--empty-workspace"],
        env={**os.environ, "DAGSTER_WEBSERVER_LOG_FORMAT": "xml"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Invalid value for '--log-format'" in refused.stderr


def test_the_database_is_the_same() -> None:
    database, ours = VALUES["postgresql"], OURS["storage"]["custom"]["config"]["postgres_db"]
    assert database["enabled"] is False
    assert (database["postgresqlHost"], database["service"]["port"]) == (ours["hostname"], ours["port"])
    assert (database["postgresqlUsername"], database["postgresqlDatabase"]) == (
        ours["username"],
        ours["db_name"],
    )
    assert database["postgresqlScheme"] == ours["scheme"]


def test_every_pod_is_restricted_and_has_the_image_and_the_resources_of_ours() -> None:
    (code,) = VALUES["dagster-user-deployments"]["deployments"]
    deployments = {
        m["metadata"]["name"]: m["spec"]["template"]["spec"] for m in of_kind("production", "Deployment")
    }
    for name, pod in {
        "dagster-webserver": VALUES["dagsterWebserver"],
        "dagster-daemon": VALUES["dagsterDaemon"],
        "code-location": code,
    }.items():
        ours = deployments[name]
        (container,) = ours["containers"]
        assert pod["podSecurityContext"] == ours["securityContext"]
        assert pod["securityContext"] == container["securityContext"]
        assert pod["resources"] == container["resources"]
        assert f"{pod['image']['repository']}:{pod['image']['tag']}" == container["image"]
        assert quantity(pod["resources"]["requests"]["memory"]) > 0
    args = deployments["code-location"]["containers"][0]["args"]
    assert code["dagsterApiGrpcArgs"] == args[args.index("--module-name") :]
