"""What `ml-platform doctor` asks each external system, and how it tells where that is without its password."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake

if TYPE_CHECKING:
    from dagster._core.instance.ref import InstanceRef
    from dagster._serdes import ConfigurableClassData

_NOT_MADE = "not made yet: the first command that needs it makes it"


@dataclass(frozen=True)
class System:
    """One external system: where it is, a question that costs nothing, and what to do where it is not answered.

    `where` connects to nobody. `ask` gives what was answered, in words, and raises what the system's client raises.
    """

    name: str
    where: Callable[[], str]
    ask: Callable[[float], str]
    remedy: str


def systems(here: Settings) -> list[System]:
    """The external systems of this environment, in the order in which data comes through them."""
    found = [
        System("lake", lambda: here.lake_uri, lambda _: _lake(here), _set("LAKE", "AWS_* for s3://")),
        System(
            "Dagster storage",
            lambda: _storage(here),
            lambda timeout_s: _database(_storage(here), timeout_s),
            _set("DAGSTER_STORAGE", "dagster.yaml of DAGSTER_HOME"),
        ),
        System(
            "MLflow",
            lambda: here.tracking_uri,
            lambda timeout_s: _mlflow(here.tracking_uri, timeout_s),
            _set("MLFLOW_TRACKING_URI"),
        ),
        System(
            "Feast registry",
            lambda: here.registry_url,
            lambda timeout_s: _database(here.registry_url, timeout_s),
            _set("FEAST_REGISTRY"),
        ),
        System(
            "online store",
            lambda: here.redis_url or str(here.online_store_path),
            lambda timeout_s: _online_store(here, timeout_s),
            _set("ONLINE_STORE"),
        ),
    ]
    if here.otlp_endpoint:
        endpoint = here.otlp_endpoint
        found.append(
            System(
                "OTLP endpoint",
                lambda: endpoint,
                lambda timeout_s: _collector(endpoint, timeout_s),
                _set("OTLP_ENDPOINT"),
            )
        )
    if here.executor == "k8s":
        found.append(
            System(
                "Kubernetes API",
                lambda: _cluster(here).configuration.host,
                lambda timeout_s: _kubernetes(here, timeout_s),
                "look at run_launcher in dagster.yaml, and at the Role of the service account (k8s/base/dagster)",
            )
        )
    return found


def without_password(text: str) -> str:
    """An address, or words that have some in them, without passwords, and without options that might be one."""
    text = re.sub(r"(\w+://[^\s/@:]*):[^\s]*@", r"\1:***@", text)
    return re.sub(r"(\w+://[^\s?]*)\?\S+", r"\1?…", text)


def passwords(where: str) -> set[str]:
    """The password of an address, as it is written there and as it is meant."""
    try:
        found = urlsplit(where).password
    except ValueError:
        return set()
    return {found, unquote(found)} if found else set()


def _set(variable: str, *others: str) -> str:
    return f"look at ML_PLATFORM_{variable}{''.join(f', or at {other}' for other in others)}"


def _lake(here: Settings) -> str:
    lake = Lake(here.lake_uri)
    filesystem, path = lake.filesystem
    if filesystem.get_file_info(path).type.name == "NotFound":
        return _NOT_MADE
    return f"{len(lake.table_names())} tables"


def _storage(here: Settings) -> str:
    """The address of the database of runs and events, as dagster.yaml has it where there is one."""
    reference = _instance(here)
    if reference is None:
        own = here.dagster_storage
        return own.get_secret_value() if own else f"sqlite:///{here.dagster_home}/history/runs.db"
    data = reference.storage_data
    if data is None or data.class_name == "DagsterSqliteStorage":
        return f"sqlite:///{here.dagster_home}/history/runs.db"
    if data.class_name != "DagsterPostgresStorage":
        raise InputError(f"{data.class_name} is none of the storages that this command can ask")
    from dagster_postgres.utils import pg_url_from_config

    return pg_url_from_config(_configured(data))


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


def _online_store(here: Settings, timeout_s: float) -> str:
    url = here.redis_url
    if url is None:
        return _database(f"sqlite:///{here.online_store_path}", timeout_s)
    from redis import Redis

    with Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
        told: Any = client.info("server")
    return f"Redis {told['redis_version']}"


def _collector(endpoint: str, timeout_s: float) -> str:
    import httpx

    address = endpoint.rstrip("/")
    address = address if address.endswith("/v1/traces") else f"{address}/v1/traces"
    # A request without spans is a valid one: no bytes at all.
    with httpx.Client(timeout=timeout_s) as client:
        client.post(
            address, content=b"", headers={"Content-Type": "application/x-protobuf"}
        ).raise_for_status()
    return "takes traces"


def _cluster(here: Settings) -> Any:
    """A client of the API that the run launcher talks to, and the namespace of its Jobs."""
    from kubernetes import client, config

    told = _launcher(here)
    if told.get("load_incluster_config", True):
        found = client.Configuration()
        config.load_incluster_config(client_configuration=found)
        return client.ApiClient(found)
    return config.new_client_from_config(config_file=told.get("kubeconfig_file"))


def _launcher(here: Settings) -> Mapping[str, Any]:
    reference = _instance(here)
    data = reference.run_launcher_data if reference is not None else None
    if data is None or data.class_name != "K8sRunLauncher":
        raise InputError("a K8sRunLauncher is required in dagster.yaml where ML_PLATFORM_EXECUTOR is k8s")
    return _configured(data)


def _kubernetes(here: Settings, timeout_s: float) -> str:
    from kubernetes import client

    namespace = _launcher(here)["job_namespace"]
    with _cluster(here) as api:
        version: Any = client.VersionApi(api).get_code(_request_timeout=timeout_s)
        client.BatchV1Api(api).list_namespaced_job(namespace, limit=1, _request_timeout=timeout_s)
    return f"{version.git_version}, lists the Jobs of {namespace}"
