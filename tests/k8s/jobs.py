"""The launcher that dagster.yaml describes, and the Jobs that it makes, without a cluster to post them to."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any

import dagster as dg
import kubernetes.client
import kubernetes.config
import pytest
import yaml
from dagster._config import process_config, resolve_to_config_type
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import construct_dagster_k8s_job

from tests.k8s.cluster import K8S, Pods, pods

INSTANCE = K8S / "base" / "dagster" / "dagster.yaml"
NAMESPACE = "somewhere"


@dataclass
class RecordingApi:
    """In the place of a client of the Kubernetes API: what it was asked; there is one of everything that is listed."""

    asked: list[str] = field(default_factory=list[str])

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def answer(*_: Any, **__: Any) -> Any:
            self.asked.append(name)
            thing = SimpleNamespace(metadata=SimpleNamespace(name="x"), status=None, reason="", message="")
            return SimpleNamespace(items=[thing], status=None, data=b"")

        return answer


def launcher_settings() -> dict[str, Any]:
    """The launcher's configuration as dagster.yaml has it."""
    return yaml.safe_load(INSTANCE.read_text())["run_launcher"]["config"]


def launcher_config(given: dict[str, Any]) -> dict[str, Any]:
    """The launcher's configuration as Dagster resolves it; AssertionError that says what is wrong with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POD_NAMESPACE", NAMESPACE)
        done = process_config(resolve_to_config_type(K8sRunLauncher.config_type()), given)
    assert done.success, done.errors
    assert done.value is not None
    return dict(done.value)


def launcher(api: RecordingApi) -> K8sRunLauncher:
    """The launcher as a process in the cluster builds it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kubernetes.config, "load_incluster_config", lambda: None)
        return K8sRunLauncher(
            **launcher_config(launcher_settings()), k8s_client_batch_api=api, k8s_client_core_api=api
        )


@cache
def job_manifest(component: str) -> dict[str, Any]:
    """The Job of a run (`run_worker`), or of a step (`step_worker`) whose asset declares nothing of its own."""
    built = launcher(RecordingApi())
    run = dg.DagsterRun(job_name="job", run_id="1")
    context = K8sContainerContext.create_for_run(run, built, include_run_tags=component == "run_worker")
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config("registry.example.com/ml-platform:0.1.0", built),
        args=["dagster", "api", "execute_run"],
        job_name="dagster-run-1",
        component=component,
        user_defined_k8s_config=context.run_k8s_config,
    )
    return kubernetes.client.ApiClient().sanitize_for_serialization(job)


def job_of_a_run() -> Pods:
    """The pods of a run."""
    return pods(job_manifest("run_worker"))


def job_of_a_step() -> Pods:
    """The pods of a step."""
    return pods(job_manifest("step_worker"))
