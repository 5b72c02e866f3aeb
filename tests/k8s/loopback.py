"""The instance that k8s/base describes, on this machine: its launcher and executor talk to the stand-in of the API.

Replaced are Postgres (by SQLite, as in an embedded home), the folder that volumes are mounted at, and where the API is.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import yaml
from dagster._core.remote_origin import InProcessCodeLocationOrigin
from dagster._core.test_utils import InProcessTestWorkspaceLoadTarget
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon
from dagster_graphql.client.client_queries import TERMINATE_RUN_JOB_MUTATION

from ml_platform.kernel.settings import PROJECT_ROOT, settings
from tests.dagster_ui import DagsterUi
from tests.k8s.api import KubernetesApi, Object, allowed_by
from tests.k8s.pods import Node

BASE = PROJECT_ROOT / "k8s" / "base"
MOUNTED = "/var/lib/ml-platform"
NAMESPACE = "ml-platform"
PATIENCE = 120.0
"""Seconds that a busy machine may take for a run of two pods."""


@dataclass(frozen=True)
class Cluster(DagsterUi):
    """A Dagster instance with one code location, asked as its UI and its daemon ask, and the API that it talks to."""

    api: KubernetesApi

    def submit(self, *assets: str, day: str) -> str:
        """The button of the UI: queue one run of assets for a day; its id."""
        return self.launch(*assets, day=day)["run"]["runId"]

    def backfill(self, asset: str, days: Sequence[str]) -> list[str]:
        """A backfill that the daemon carries out; the ids of the runs that it queued."""
        wanted = dg.RunsFilter(tags={"dagster/backfill": self.launch_backfill(asset, days)})
        return [run.run_id for run in self.instance.get_runs(wanted)]

    def dequeue(self) -> None:
        """One round of the daemon that launches queued runs."""
        with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
            list(daemon.run_iteration(self.workspace))

    def terminate(self, run_id: str) -> None:
        """The UI's button that ends a run."""
        answer = self.ask(TERMINATE_RUN_JOB_MUTATION, {"runId": run_id})
        assert answer["terminateRun"]["__typename"] == "TerminateRunSuccess", answer

    @contextmanager
    def steps_held(self) -> Iterator[None]:
        """Steps that begin in this block do not do their work before its end."""
        hold = settings().root / "hold"
        hold.touch()
        try:
            yield
        finally:
            hold.unlink()

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        found = self.instance.get_run_by_id(run_id)
        assert found is not None
        return found.status

    def finished(self, run_id: str) -> dg.DagsterRunStatus:
        """How a run ended, once its pods have ended too."""
        self.wait(lambda: self.instance.get_run_by_id(run_id).is_finished)  # type: ignore[union-attr]
        mine = [pod for pod in list(self.api.pods.values()) if _of(pod.manifest, run_id)]
        self.wait(lambda: all(pod.exit_code is not None for pod in mine))
        return self.status(run_id)

    def wait(self, happened: Callable[[], bool]) -> None:
        """Until something has happened, for as long as a busy machine may take."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.1)

    def jobs(self, run_id: str) -> list[Object]:
        """The Jobs that were posted for a run and its steps."""
        return [job for job in self.api.posted if _of(job, run_id)]

    def left_of(self, run_id: str) -> list[str]:
        """The Jobs and pods of a run that were not deleted."""
        things = [*self.api.jobs.values(), *(pod for pod in self.api.pods.values() if not pod.gone)]
        return [thing.manifest["metadata"]["name"] for thing in things if _of(thing.manifest, run_id)]

    def messages(self, run_id: str) -> list[str]:
        """What the event log has of a run."""
        return [record.message for record in self.instance.all_logs(run_id)]

    def told(self) -> str:
        """What the pods that are there have printed."""
        logs = [
            f"{pod.name} {pod.phase} {pod.waits}\n{pod.log.read_text()}" for pod in self.api.pods.values()
        ]
        return "\n".join(["the pods say:", *logs])


def _of(manifest: Object, run_id: str) -> bool:
    return manifest["metadata"]["labels"]["dagster/run-id"] == run_id


def role() -> Object:
    """The Role that the daemon and runs have."""
    documents = yaml.safe_load_all((BASE / "dagster" / "access.yaml").read_text())
    (found,) = [document for document in documents if document["kind"] == "Role"]
    return found


def node(home: Path) -> Node:
    """Where pods run: the environment of the image, what their ConfigMaps and Secrets hold, and a folder for logs."""
    lines = (BASE / "ml-platform.env").read_text().replace(MOUNTED, str(home)).split()
    config_maps = {"ml-platform": dict(line.split("=", 1) for line in lines)}
    secrets = {"ml-platform": {}, "postgres": {"postgresql-password": "of-the-tests"}}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    image = {"PATH": path, "PYTHONPATH": str(PROJECT_ROOT), "HOME": str(home)}
    logs = home / "pod-logs"
    logs.mkdir(exist_ok=True)
    return Node(image, config_maps, secrets, logs)


@contextmanager
def running(home: Path) -> Iterator[Cluster]:
    """The cluster, whose pods share one home; no process is left at the end of the block."""
    origin = InProcessCodeLocationOrigin(
        LoadableTargetOrigin(
            executable_path=sys.executable, module_name="tests.k8s.location", attribute="defs"
        ),
        container_image="ml-platform",
    )
    with KubernetesApi(NAMESPACE, allowed_by(role()), node(home)).serving() as api:
        _write_instance(home, api)
        with (
            dg.DagsterInstance.from_config(str(home / "dagster")) as instance,
            WorkspaceProcessContext(instance, InProcessTestWorkspaceLoadTarget(origin)) as workspace,
        ):
            yield Cluster(workspace, api)


def _write_instance(home: Path, api: KubernetesApi) -> None:
    config = yaml.safe_load((BASE / "dagster" / "dagster.yaml").read_text().replace(MOUNTED, str(home)))
    del config["storage"]
    kubeconfig = api.kubeconfig(home / "kubeconfig")
    config["run_launcher"]["config"] |= {"load_incluster_config": False, "kubeconfig_file": str(kubeconfig)}
    (home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(config))
