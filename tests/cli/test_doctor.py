"""Doctor says of every external system what is configured, what answers and what to do, and shows no password."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_platform.cli.doctor import examined
from ml_platform.cli.object_stores import conditional_puts
from ml_platform.cli.systems import System, without_password
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from tests.commands import invoke, words
from tests.http_server import Quiet, answering
from tests.k8s.api import Allowed, KubernetesApi, allowed_by
from tests.k8s.loopback import role
from tests.k8s.pods import Node
from tests.object_store import BUCKET, running_store
from tests.postgres_server import running_postgres
from tests.redis_server import running_redis
from tests.serving.test_telemetry import collector

PASSWORD = "not/to be@seen"
QUOTED = "not%2Fto%20be%40seen"
EMBEDDED = ("lake", "Dagster storage", "MLflow", "artifact store", "Feast registry", "online store")


def told(*, healthy: bool) -> dict[str, dict[str, Any]]:
    """What the command says of each system; no part of a password is in it."""
    result = invoke("doctor", "--json", "--timeout", "2")
    assert result.exit_code == (0 if healthy else 1), result.output
    assert PASSWORD not in result.output and QUOTED not in result.output
    found = json.loads(result.stdout)
    assert found["healthy"] is healthy
    return {system.pop("system"): system for system in found["systems"]}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that nobody listens on, kept so that nobody else takes it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_an_empty_home_is_healthy_and_stays_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / "home"))
    found = told(healthy=True)
    assert tuple(found) == EMBEDDED
    assert {system["said"].split(":")[0] for system in found.values()} == {"not made yet"}
    assert str(tmp_path / "home" / "lake") in found["lake"]["configured"]
    assert not (tmp_path / "home").exists()


def test_a_system_that_answers_is_told_with_what_it_says(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis(password=PASSWORD) as redis, collector() as (endpoint, spans):
        monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
        monkeypatch.setenv("ML_PLATFORM_OTLP_ENDPOINT", endpoint)
        found = told(healthy=True)
        assert spans() == []
    assert found["online store"]["said"].startswith("Redis ")
    assert found["online store"]["configured"] == f"redis://:***@127.0.0.1:{redis.port}/0"
    assert (found["OTLP endpoint"]["configured"], found["OTLP endpoint"]["said"]) == (
        endpoint,
        "takes traces",
    )


def test_a_database_that_answers_is_told_with_its_tables(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_postgres(["postgres"]) as urls:
        monkeypatch.setenv("ML_PLATFORM_FEAST_REGISTRY", urls["postgres"])
        assert told(healthy=True)["Feast registry"]["said"] == "0 tables"


def test_each_system_that_does_not_answer_is_told_with_what_to_look_at(
    home: Settings, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = f"somebody:{QUOTED}@127.0.0.1:{closed_port}"
    for name, value in {
        "ONLINE_STORE": f"redis://{server}/0",
        "FEAST_REGISTRY": f"postgresql+psycopg2://{server}/feast?sslmode=disable",
        "MLFLOW_TRACKING_URI": f"http://{server}",
        "OTLP_ENDPOINT": f"http://{server}/?key={QUOTED}",
    }.items():
        monkeypatch.setenv(f"ML_PLATFORM_{name}", value)
    found = told(healthy=False)
    down = {name for name, system in found.items() if not system["answers"]}
    assert down == {"MLflow", "Feast registry", "online store", "OTLP endpoint"}
    for name in down:
        assert f"somebody:***@127.0.0.1:{closed_port}" in found[name]["configured"]
        assert "refused" in found[name]["said"]
    assert found["MLflow"]["to_do"] == "look at ML_PLATFORM_MLFLOW_TRACKING_URI"
    said = words(invoke("doctor").output)
    assert "Feast registry does not answer: OperationalError" in said
    assert "; look at ML_PLATFORM_FEAST_REGISTRY" in said


def test_the_storage_of_dagster_is_the_one_of_its_instance(
    home: Settings, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = {"hostname": "127.0.0.1", "port": closed_port, "db_name": "dagster", "username": "dagster"}
    storage = {"postgres": {"postgres_db": {**database, "password": {"env": "OF_THE_TEST"}}}}
    (home.dagster_home / "dagster.yaml").write_text(yaml.safe_dump({"storage": storage}))
    found = told(healthy=False)["Dagster storage"]
    assert found["said"].startswith("InputError") and "OF_THE_TEST" in found["said"]
    monkeypatch.setenv("OF_THE_TEST", PASSWORD)
    found = told(healthy=False)["Dagster storage"]
    assert f"dagster:***@127.0.0.1:{closed_port}/dagster" in found["configured"]
    assert "refused" in found["said"] and "dagster.yaml" in found["to_do"]


@pytest.fixture
def in_an_object_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The endpoint of a store with a bucket, in which lake and artifacts are."""
    with running_store() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ML_PLATFORM_LAKE", f"s3://{BUCKET}/lake")
        monkeypatch.setenv("ML_PLATFORM_MLFLOW_ARTIFACTS", f"s3://{BUCKET}/mlflow")
        yield variables["AWS_ENDPOINT_URL"]


def test_an_object_store_is_asked_for_the_lake_for_artifacts_and_for_conditional_puts(
    home: Settings, in_an_object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = told(healthy=True)
    assert list(found)[:2] == ["lake", "conditional puts"]
    assert found["conditional puts"]["said"] == "a second write of an object is refused"
    assert found["artifact store"]["said"] == "may be listed"
    assert found["artifact store"]["configured"] == f"s3://{BUCKET}/mlflow"
    assert Lake(f"s3://{BUCKET}/lake").files() == {}, "what was written is removed"
    monkeypatch.setenv("ML_PLATFORM_LAKE", "s3://of-nobody/lake")
    monkeypatch.setenv("ML_PLATFORM_MLFLOW_ARTIFACTS", "s3://of-nobody/mlflow")
    found = told(healthy=False)
    assert {name for name, system in found.items() if not system["answers"]} == {
        "lake",
        "conditional puts",
        "artifact store",
    }
    assert "there is no bucket of-nobody" in found["lake"]["said"]
    for name in ("conditional puts", "artifact store"):
        assert "bucket does not exist" in found[name]["said"]


class Forgetful(Quiet):
    """An object store that takes every write, whatever its condition."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_DELETE()

    def do_DELETE(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_store_that_writes_an_object_twice_is_no_store_for_a_lake(
    in_an_object_store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Forgetful) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        with pytest.raises(StoreError, match="this one wrote it twice"):
            conditional_puts(Settings(), f"s3://{BUCKET}/lake/development", 5)


def test_a_webhook_is_connected_to_and_sent_nothing(
    home: Settings, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("ML_PLATFORM_WEBHOOKS__ON_CALL", f"http://127.0.0.1:{port}/services/{PASSWORD}")
        monkeypatch.setenv(
            "ML_PLATFORM_WEBHOOKS__TEAM", f"https://u:{QUOTED}@127.0.0.1:{closed_port}/{QUOTED}"
        )
        found = told(healthy=False)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b"", "it was hung up without a word"
    assert found["webhook on_call"]["configured"] == f"http://127.0.0.1:{port}"
    assert found["webhook on_call"]["answers"] and "notifications test" in found["webhook on_call"]["said"]
    assert found["webhook team"]["configured"] == f"https://127.0.0.1:{closed_port}"
    assert "refused" in found["webhook team"]["said"]
    assert found["webhook team"]["to_do"] == "look at ML_PLATFORM_WEBHOOKS__TEAM"


def test_a_webhook_without_a_certificate_that_is_trusted_does_not_answer(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(Quiet) as port:
        monkeypatch.setenv("ML_PLATFORM_WEBHOOKS__ON_CALL", f"https://127.0.0.1:{port}/x")
        assert not told(healthy=False)["webhook on_call"]["answers"]
    monkeypatch.setenv("ML_PLATFORM_WEBHOOKS__ON_CALL", f"{PASSWORD}")
    assert "https:// or http:// and a host" in told(healthy=False)["webhook on_call"]["said"]


def test_an_address_that_is_none_is_told_without_it(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", f"rediss//:{PASSWORD}@host")
    monkeypatch.setenv("ML_PLATFORM_FEAST_REGISTRY", f"postgresql:/{QUOTED}@host")
    found = told(healthy=False)
    assert "redis://[[user]:password@]host" in found["online store"]["said"]
    assert "an address that SQLAlchemy can read" in found["Feast registry"]["said"]


def test_a_system_that_hangs_holds_up_no_other() -> None:
    never, asked = threading.Event(), threading.Event()

    def hang(_: str, __: float) -> str:
        asked.set()
        never.wait()
        return "too late"

    def answer(_: str, __: float) -> str:
        assert asked.wait(20)
        return "here"

    found = examined(
        [System("one", lambda: "a", hang, "b"), System("two", lambda: "c", answer, "d")],
        timeout_s=2,
        loading_s=0,
    )
    never.set()
    assert [(f.answers, f.said, f.to_do) for f in found] == [
        (False, "no answer in time", "look at b"),
        (True, "here", ""),
    ]


def write_launcher(home: Settings, **changed: Any) -> None:
    """An instance whose runs are Jobs."""
    required = ("service_account_name", "instance_config_map", "dagster_home")
    launcher = {"job_namespace": "here", **dict.fromkeys(required, "x"), **changed}
    instance = {"run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher}}
    (home.dagster_home / "dagster.yaml").write_text(yaml.safe_dump(instance))


@pytest.mark.parametrize("allowed", [allowed_by(role()), frozenset()], ids=["with its Role", "without"])
def test_the_kubernetes_api_is_asked_where_steps_are_pods(
    home: Settings, allowed: Allowed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_EXECUTOR", "k8s")
    assert "K8sRunLauncher is required" in told(healthy=False)["Kubernetes API"]["said"]
    with KubernetesApi("here", allowed, Node({}, {}, {}, tmp_path)).serving() as api:
        kubeconfig = api.kubeconfig(tmp_path / "kubeconfig")
        write_launcher(home, load_incluster_config=False, kubeconfig_file=str(kubeconfig))
        found = told(healthy=bool(allowed))["Kubernetes API"]
    assert found["configured"] == api.url
    if allowed:
        assert found["said"] == "v1.37.0, lists the Jobs of here"
    else:
        assert "list of jobs in here is not allowed" in found["said"] and "Role" in found["to_do"]


def test_a_pod_that_may_not_ask_the_kubernetes_api_is_healthy_without(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_EXECUTOR", "k8s")
    write_launcher(home)
    assert told(healthy=False)["Kubernetes API"]["said"].startswith("ConfigException"), "this is no pod"
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert told(healthy=True)["Kubernetes API"]["said"].startswith("not asked")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:a@h:1/0", "redis://:***@h:1/0"),
        (
            "could not reach postgresql+psycopg2://u:a:b@h/d now",
            "could not reach postgresql+psycopg2://u:***@h/d now",
        ),
        ("https://h/v1?token=a&b=c", "https://h/v1?…"),
        ("s3://bucket/lake", "s3://bucket/lake"),
        ("http://h:4318/v1/traces", "http://h:4318/v1/traces"),
    ],
)
def test_addresses_are_shown_without_passwords(text: str, shown: str) -> None:
    assert without_password(text) == shown
