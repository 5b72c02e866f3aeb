"""Every program that the manifests start from the platform's image, started on this machine as the image's user."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from ml_platform.serving.keys import new_key
from tests.k8s import probes
from tests.k8s.api import KubernetesApi, allowed_by
from tests.k8s.cluster import VARIANTS, Pods, config_map, of_kind, workloads
from tests.k8s.image import Machine, environment
from tests.k8s.loopback import role
from tests.k8s.pods import Pod
from tests.k8s.stores import PASSWORDS, make_databases
from tests.object_store import running_store
from tests.postgres_server import running_postgres
from tests.redis_server import free_port, running_redis

NAMESPACE = "ml-platform"
SIGNED_IN = "production with sign-in"
"""The variant whose settings runs have, and every program that is in it."""
REDIS_PASSWORD = "redis-of-a-test"
PATIENCE = 180.0
"""Seconds that a busy machine may take for a program to start."""


@dataclass(frozen=True)
class Program:
    """One container of the image, on ports of this machine, as the only one of a pod."""

    name: str
    variant: str
    kind: str
    pod: Mapping[str, Any]
    ports: Mapping[int, int]

    @property
    def container(self) -> Mapping[str, Any]:
        return self.pod["spec"]["containers"][0]

    @property
    def runs_to_its_end(self) -> bool:
        return self.kind in ("Job", "CronJob")


@cache
def programs() -> tuple[Program, ...]:
    """Whatever the rendered manifests start from the image, each command once; read from them, and listed nowhere.

    A command that several variants have is that of production with sign-in, else that of production: programs of two
    environments would not see each other's runs.
    """
    found: dict[tuple[str, ...], Program] = {}
    for variant in (SIGNED_IN, "production", *VARIANTS):
        for pods in workloads(variant):
            for container in pods.containers:
                command = (*container.get("command", ()), *container.get("args", ()))
                if container["image"] == image_of(variant) and command not in found:
                    found[command] = _program(variant, pods, container)
    return tuple(found.values())


def image_of(variant: str) -> str:
    """The platform's image: that of the code location."""
    (code,) = [pods for pods in workloads(variant) if pods.name == "code-location"]
    return code.containers[0]["image"]


def bucket_of(variant: str) -> str:
    """The bucket of the lake, in which MLflow's artifacts are too."""
    told = config_map(variant, "ml-platform")
    (bucket,) = {urlsplit(told[f"ML_PLATFORM_{name}"]).netloc for name in ("LAKE", "MLFLOW_ARTIFACTS")}
    return bucket


def _program(variant: str, pods: Pods, container: Mapping[str, Any]) -> Program:
    ports = {port["containerPort"]: free_port() for port in container.get("ports", ())}
    here = _moved(container, {**ports, **{str(port): str(mine) for port, mine in ports.items()}})
    name = f"{pods.name} {container['name']} of {variant}".replace(" ", "-")
    metadata = {"name": name, "namespace": NAMESPACE, "labels": dict(pods.labels)}
    spec = {**pods.spec, "containers": [here], "initContainers": []}
    return Program(name, variant, pods.kind, {"metadata": metadata, "spec": spec}, ports)


def _moved(value: Any, ports: Mapping[Any, Any]) -> Any:
    """What a manifest says, with other ports."""
    if isinstance(value, Mapping):
        return {key: _moved(inner, ports) for key, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, ports) for inner in value]
    return ports.get(value, value)


@dataclass
class Running:
    """The programs that were started, the servers that they ask, and the pods that Dagster made."""

    machine: Machine
    api: KubernetesApi
    postgres: str
    store: Mapping[str, str]
    pods: dict[str, Pod] = field(default_factory=dict[str, Pod])

    def start(self, program: Program) -> Pod:
        """Start a program; it need not be ready."""
        pod = self.pods[program.name] = Pod(program.pod, self._machine_of(program))
        pod.start()
        assert not pod.waits, pod.waits
        return pod

    def ended(self, program: Program) -> int:
        """The exit code of a program that runs to its end."""
        process = self.pods[program.name].process
        assert process is not None
        return process.wait(PATIENCE)

    def ready(self, program: Program) -> bool:
        """Whether a program passes its probe, once it had the time to start; False for one that ended."""
        pod, container = self.pods[program.name], program.container
        probe = container.get("readinessProbe") or container["startupProbe"]
        deadline = time.monotonic() + PATIENCE
        while pod.exit_code is None and time.monotonic() < deadline:
            if probes.passes(probe, container, lambda command: self._exit_code(program, command)):
                return True
            time.sleep(0.2)
        return False

    def said(self, program: Program) -> str:
        """What a program has printed, from its last lines on."""
        return f"{program.name} says:\n{self.pods[program.name].log.read_text()[-6000:]}"

    def root(self, program: Program) -> Path:
        """Where a program's root folder is on this machine."""
        return self.machine.folder / program.pod["metadata"]["name"]

    def made(self) -> list[Pod]:
        """The pods that Dagster has had made."""
        return list(self.api.pods.values())

    def wait(self, happened: Callable[[], bool]) -> None:
        """Until something has happened, for as long as a busy machine may take."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.2)

    def told(self) -> str:
        """What all programs and pods have printed, from their last lines on."""
        pods = [*self.pods.values(), *self.made()]
        return "\n".join(f"{pod.name} says:\n{pod.log.read_text()[-3000:]}" for pod in pods)

    def end(self) -> None:
        """End every program; no process of theirs is left."""
        for pod in self.pods.values():
            pod.end()

    def _exit_code(self, program: Program, command: list[str]) -> int:
        """The exit code of a command in a program's container."""
        machine = self._machine_of(program)
        variables = machine.environment(program.pod, program.container)
        return machine.run(command, variables, self.pods[program.name].log).wait(PATIENCE)

    def _machine_of(self, program: Program) -> Machine:
        return replace(self.machine, config_maps=_config_maps(program.variant))


@contextmanager
def servers() -> Iterator[Running]:
    """The servers of the cluster, empty but for databases with their owners; nothing is left of it at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="image-")))
        folder.chmod(0o755)  # the folders of pytest are shut to others, whatever they may read
        port = free_port()
        urls = stack.enter_context(running_postgres(["postgres"], port=port))
        make_databases(urls["postgres"])
        redis = stack.enter_context(running_redis(password=REDIS_PASSWORD))
        store = stack.enter_context(running_store(bucket_of(SIGNED_IN)))
        s3 = int(store["AWS_ENDPOINT_URL"].rpartition(":")[2])
        machine = Machine(
            image=environment(),
            config_maps=_config_maps(SIGNED_IN),
            secrets=_secrets(),
            logs=_folder(folder / "logs"),
            folder=_folder(folder / "containers"),
            addresses={
                ("postgres", 5432): port,
                ("redis", 6379): redis.port,
                ("object-store", 9000): s3,
                **_own(),
            },
            kubeconfig=folder / "kubeconfig",
        )
        api = stack.enter_context(KubernetesApi(NAMESPACE, allowed_by(role()), machine).serving())
        api.kubeconfig(machine.kubeconfig)
        found = Running(machine, api, urls["postgres"], store)
        stack.callback(found.end)
        yield found


def _own() -> dict[tuple[str, int], int]:
    """The ports of this machine at which programs of the image are asked, by their Service and its port."""
    found: dict[tuple[str, int], int] = {}
    for program in programs():
        for port, here in program.ports.items():
            found.setdefault((program.pod["metadata"]["labels"]["app.kubernetes.io/name"], port), here)
    return found


def _config_maps(variant: str) -> dict[str, Mapping[str, str]]:
    """Those of a variant, and in them an object store of one's own, as docs/deploy.md says it."""
    found = {manifest["metadata"]["name"]: manifest["data"] for manifest in of_kind(variant, "ConfigMap")}
    store = "http://object-store:9000"
    own = {"AWS_ENDPOINT_URL": store, "MLFLOW_S3_ENDPOINT_URL": store, "AWS_ALLOW_HTTP": "true"}
    return {**found, "ml-platform": {**found["ml-platform"], **own}}


def _secrets() -> dict[str, Mapping[str, str]]:
    """The Secrets that docs/deploy.md makes."""
    _, kept = new_key("tests", last_day=None)
    registry = f"postgresql+psycopg2://feast:{PASSWORDS['feast']}@postgres:5432/feast"
    return {
        "postgres": {"postgresql-password": PASSWORDS["dagster"], "mlflow-password": PASSWORDS["mlflow"]},
        "serving-keys": {"keys": f"{kept.line}\n"},
        "ml-platform": {
            "ML_PLATFORM_ONLINE_STORE": f"redis://:{REDIS_PASSWORD}@redis:6379/0",
            "ML_PLATFORM_FEAST_REGISTRY": registry,
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
        },
    }


def _folder(path: Path) -> Path:
    path.mkdir()
    return path
