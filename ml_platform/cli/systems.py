"""What `ml-platform doctor` asks each external system, and how it tells where that is without its password."""

import os
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from pyarrow.fs import FileType

from ml_platform.cli.object_stores import artifacts, conditional_puts
from ml_platform.kernel.addresses import without_password
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.telemetry import traces_address
from ml_platform.lake.tables import Lake

if TYPE_CHECKING:
    from dagster._core.instance.ref import InstanceRef
    from dagster._serdes import ConfigurableClassData

_NOT_MADE = "not made yet: the first command that needs it makes it"


@dataclass(frozen=True)
class System:
    """One external system: where it is, a question that costs nothing, and what to look at where it is not answered.

    `where` connects to nobody. `ask` is given its address and the seconds that it has; it gives the answer in words,
    and raises whatever the system's client raises.
    """

    name: str
    where: Callable[[], str]
    ask: Callable[[str, float], str]
    look_at: str


def systems(here: Settings) -> list[System]:
    """The external systems of this environment, in the order in which data comes through them."""
    found = [
        System("lake", lambda: here.lake_uri, _lake, "ML_PLATFORM_LAKE, and AWS_… for s3://"),
        System("Dagster storage", partial(_storage, here), _database, f"{here.dagster_home}/dagster.yaml"),
        System("MLflow", lambda: here.tracking_uri, _mlflow, "ML_PLATFORM_MLFLOW_TRACKING_URI"),
        System(
            "artifact store",
            lambda: here.artifact_root,
            lambda root, _: artifacts(root, _NOT_MADE),
            "ML_PLATFORM_MLFLOW_ARTIFACTS, AWS_… and MLFLOW_S3_ENDPOINT_URL",
        ),
        System("Feast registry", lambda: here.registry_url, _database, "ML_PLATFORM_FEAST_REGISTRY"),
        System("online store", partial(_online_address, here), _online_store, "ML_PLATFORM_ONLINE_STORE"),
    ]
    if here.lake_uri.startswith("s3://"):
        look_at = "AWS_ENDPOINT_URL, and what the store's documents say of conditional writes"
        found.insert(
            1, System("conditional puts", lambda: here.lake_uri, partial(conditional_puts, here), look_at)
        )
    if here.otlp_endpoint:
        endpoint = here.otlp_endpoint
        found.append(System("OTLP endpoint", lambda: endpoint, _collector, "ML_PLATFORM_OTLP_ENDPOINT"))
    found += [
        System(
            f"webhook {name}", partial(_webhook_host, url), _connect, f"ML_PLATFORM_WEBHOOKS__{name.upper()}"
        )
        for name in here.webhooks
        if (url := here.webhook(name)) is not None
    ]
    if here.executor == "k8s":
        look_at = f"run_launcher in {here.dagster_home}/dagster.yaml, and the Role of the service account"
        found.append(System("Kubernetes API", partial(_api_host, here), partial(_kubernetes, here), look_at))
    return found


def shown(where: str) -> str:
    """An address without its password; nothing of what cannot be read as one and might have a password in it."""
    return without_password(where) if "://" in where or "@" not in where else "no address, and so not shown"


def passwords(where: str) -> set[str]:
    """The password of an address, as it is written there and as it is meant."""
    try:
        found = urlsplit(where).password
    except ValueError:
        return set()
    return {found, unquote(found)} if found else set()


def _lake(uri: str, _: float) -> str:
    lake = Lake(uri)
    names = lake.table_names()
    filesystem, path = lake.filesystem
    if not names and filesystem.get_file_info(path).type == FileType.NotFound:
        return _NOT_MADE
    return f"{len(names)} tables"


def _storage(here: Settings) -> str:
    """The address of the database of runs and events, as dagster.yaml has it where there is one."""
    reference = _instance(here)
    if reference is None:
        own = here.dagster_storage
        return own.get_secret_value() if own else f"sqlite:///{here.dagster_home}/history/runs.db"
    data = reference.storage_data
    if data is None or data.class_name == "DagsterSqliteStorage":
        return f"sqlite:///{here.dagster_home}/history/runs.db"
    if data.class_name == "DagsterPostgresStorage":
        from dagster_postgres.utils import pg_url_from_config

        return pg_url_from_config(_configured(data))
    if data.class_name == "PostgresStorage":
        from ml_platform.gates.run_storage import url_of

        return url_of(_configured(data))
    raise InputError(f"{data.class_name} is none of the storages that this command can ask")


def _instance(here: Settings) -> "InstanceRef | None":
    """What dagster.yaml says; None where there is none yet."""
    from dagster._core.instance.ref import InstanceRef

    made = (here.dagster_home / "dagster.yaml").exists()
    return InstanceRef.from_dir(str(here.dagster_home)) if made else None


def _configured(data: "ConfigurableClassData") -> Mapping[str, Any]:
    """The configuration of a part of the Dagster instance, with the variables in it read; the part is not made."""
    from dagster._config import process_config, resolve_to_config_type
    from dagster._serdes.config_class import class_from_code_pointer

    kind: Any = class_from_code_pointer(data.module_name, data.class_name)
    done = process_config(resolve_to_config_type(kind.config_type()), data.config_dict)
    if not done.success or done.value is None:
        raise InputError(f"dagster.yaml: {'; '.join(error.message for error in done.errors or ())}")
    return done.value


def _database(url: str, timeout_s: float) -> str:
    import sqlalchemy as sa
    from sqlalchemy.exc import ArgumentError

    try:
        address = sa.make_url(url)
    except ArgumentError as err:
        raise InputError("an address that SQLAlchemy can read is required") from err
    if address.get_backend_name() == "sqlite":
        if not Path(address.database or "").exists():
            return _NOT_MADE
        engine = sa.create_engine(address, poolclass=sa.NullPool)
    else:
        engine = sa.create_engine(
            address, poolclass=sa.NullPool, connect_args={"connect_timeout": max(1, int(timeout_s))}
        )
    with engine.connect() as connection:
        tables = sa.inspect(connection).get_table_names()
    return f"{len(tables)} tables"


def _mlflow(uri: str, timeout_s: float) -> str:
    if not uri.startswith(("http://", "https://")):
        return _database(uri, timeout_s)
    import httpx

    with httpx.Client(timeout=timeout_s) as client:
        answer = client.get(f"{uri.rstrip('/')}/version").raise_for_status()
    return f"version {answer.text.strip()[:20]}"


def _online_address(here: Settings) -> str:
    return here.redis_url or f"sqlite:///{here.online_store_path}"


def _online_store(url: str, timeout_s: float) -> str:
    if url.startswith("sqlite:"):
        return _database(url, timeout_s)
    from redis import Redis

    with Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
        told: Any = client.info("server")
    return f"Redis {told['redis_version']}"


def _collector(endpoint: str, timeout_s: float) -> str:
    import httpx

    # A request without spans is a valid one: no bytes at all.
    with httpx.Client(timeout=timeout_s) as client:
        client.post(
            traces_address(endpoint), content=b"", headers={"Content-Type": "application/x-protobuf"}
        ).raise_for_status()
    return "takes traces"


def _webhook_host(url: str) -> str:
    """Scheme, host and port of a webhook: whatever else its address has is a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("an address that begins with https:// or http:// and a host is required")
    return f"{parts.scheme}://{parts.hostname}:{port or {'http': 80, 'https': 443}[parts.scheme]}"


def _connect(where: str, timeout_s: float) -> str:
    """Connect and say nothing: a webhook has no question, and a message would be read by people."""
    parts = urlsplit(where)
    host, port = str(parts.hostname), int(parts.port or 0)
    with socket.create_connection((host, port), timeout=timeout_s) as connection:
        if parts.scheme == "https":
            with ssl.create_default_context().wrap_socket(connection, server_hostname=host):
                """Its certificate is one that this process trusts."""
    return "can be connected to; whether it takes a message: ml-platform notifications test"


def _api_host(here: Settings) -> str:
    if _has_no_token(_launcher(here)):
        return "the cluster's own"
    with _api_client(here) as api:
        return api.configuration.host


def _has_no_token(launcher: Mapping[str, Any]) -> bool:
    """Whether this is a pod that may not ask the API, as those of the code location and of serving are."""
    from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, SERVICE_TOKEN_FILENAME

    in_pod = launcher["load_incluster_config"] and SERVICE_HOST_ENV_NAME in os.environ
    return in_pod and not Path(SERVICE_TOKEN_FILENAME).exists()


def _api_client(here: Settings) -> Any:
    """A client of the API that the run launcher talks to."""
    from kubernetes import client, config

    launcher = _launcher(here)
    if launcher["load_incluster_config"]:
        found = client.Configuration()
        config.load_incluster_config(client_configuration=found)
        return client.ApiClient(found)
    return config.new_client_from_config(config_file=launcher.get("kubeconfig_file"))


def _launcher(here: Settings) -> Mapping[str, Any]:
    reference = _instance(here)
    data = reference.run_launcher_data if reference is not None else None
    if data is None or data.class_name != "K8sRunLauncher":
        raise InputError("a K8sRunLauncher is required in dagster.yaml where ML_PLATFORM_EXECUTOR is k8s")
    return _configured(data)


def _kubernetes(here: Settings, _: str, timeout_s: float) -> str:
    from kubernetes import client

    launcher = _launcher(here)
    if _has_no_token(launcher):
        return "not asked: this pod has no token for it; the daemon and runs have"
    namespace = launcher["job_namespace"]
    with _api_client(here) as api:
        version: Any = client.VersionApi(api).get_code(_request_timeout=timeout_s)
        try:
            client.BatchV1Api(api).list_namespaced_job(namespace, limit=1, _request_timeout=timeout_s)
        except client.ApiException as err:  # its own text begins with all headers of the answer
            raise StoreError(f"{err.status} {err.reason}: {err.body}") from err
    return f"{version.git_version}, lists the Jobs of {namespace}"
