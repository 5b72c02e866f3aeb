"""The stand-in of the Kubernetes API refuses what a cluster would refuse, and ends what is deleted."""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from tests.k8s.api import KubernetesApi, allowed_by
from tests.k8s.loopback import NAMESPACE, role
from tests.k8s.pods import Node

RESOURCES = {"cpu": "100m", "memory": "64Mi"}
RESTRICTED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def job(*command: str, container: Mapping[str, Any] = {}, pod: Mapping[str, Any] = {}) -> dict[str, Any]:
    """A Job that a cluster takes, but for what is said otherwise of its container or pod."""
    whole = {
        "name": "main",
        "image": "of-the-tests",
        "command": list(command or ("true",)),
        "resources": {"requests": RESOURCES, "limits": RESOURCES},
        "securityContext": RESTRICTED,
        **container,
    }
    security = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    spec = {"restartPolicy": "Never", "securityContext": security, "containers": [whole], **pod}
    template = {"metadata": {"labels": {"app": "test"}}, "spec": spec}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "job", "labels": {"app": "test"}},
        "spec": {"template": template},
    }


class Client:
    """A client of the stand-in, as dagster-k8s makes one from a kubeconfig file."""

    def __init__(self, api: KubernetesApi, kubeconfig: Path) -> None:
        self.api = api
        self.own = config.new_client_from_config(str(api.kubeconfig(kubeconfig)))
        self.batch, self.core = client.BatchV1Api(self.own), client.CoreV1Api(self.own)

    def post(self, made: Mapping[str, Any]) -> None:
        self.batch.create_namespaced_job(NAMESPACE, made)

    def refused(self, made: Mapping[str, Any]) -> tuple[int, str]:
        with pytest.raises(ApiException) as caught:
            self.post(made)
        assert not self.api.pods
        return caught.value.status, caught.value.body

    def pod(self) -> Any:
        [found] = self.core.list_namespaced_pod(NAMESPACE, label_selector="job-name=job").items
        return found

    def status(self) -> Any:
        return self.batch.read_namespaced_job_status("job", NAMESPACE).status

    def log(self) -> str:
        """As dagster-k8s reads it: the client would give the bytes as they are written in Python."""
        name = self.pod().metadata.name
        answer = self.core.read_namespaced_pod_log(name, NAMESPACE, _preload_content=False)
        return answer.data.decode()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Client]:
    maps, secrets = {"settings": {"A": "1", "B": "2"}}, {"passwords": {"of-b": "secret"}}
    node = Node({"PATH": "/usr/bin:/bin"}, maps, secrets, tmp_path)
    with KubernetesApi(NAMESPACE, allowed_by(role()), node).serving() as api:
        found = Client(api, tmp_path / "kubeconfig")
        yield found
        found.own.close()


def wait(happened: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_command_that_ends_well_is_a_job_that_succeeded_with_its_log(cluster: Client) -> None:
    cluster.post(job("sh", "-c", "echo said; echo more >&2"))
    wait(lambda: cluster.status().succeeded)
    assert cluster.log() == "said\nmore\n"
    assert cluster.pod().status.container_statuses[0].state.terminated.exit_code == 0


def test_a_command_that_fails_is_a_job_that_failed_with_its_exit_code(cluster: Client) -> None:
    cluster.post(job("sh", "-c", "exit 3"))
    wait(lambda: cluster.status().failed)
    assert cluster.pod().status.container_statuses[0].state.terminated.exit_code == 3


def test_variables_come_from_config_maps_secrets_and_fields_and_the_containers_own_count_most(
    cluster: Client,
) -> None:
    env = [
        {"name": "B", "valueFrom": {"secretKeyRef": {"name": "passwords", "key": "of-b"}}},
        {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        {"name": "D", "value": "4"},
    ]
    given = {"env": env, "envFrom": [{"configMapRef": {"name": "settings"}}]}
    cluster.post(job("sh", "-c", "echo $A $B $C $D", container=given))
    wait(lambda: cluster.status().succeeded)
    assert cluster.log() == f"1 secret {NAMESPACE} 4\n"


def test_a_container_whose_secret_is_missing_waits_and_says_for_what(cluster: Client) -> None:
    cluster.post(job(container={"envFrom": [{"secretRef": {"name": "nowhere"}}]}))
    waiting = cluster.pod().status.container_statuses[0].state.waiting
    assert (waiting.reason, waiting.message) == ("CreateContainerConfigError", "nowhere not found")
    assert cluster.status().active == 1


def test_a_deleted_job_leaves_its_pod_and_a_deleted_pod_ends_its_process_and_what_that_started(
    cluster: Client,
) -> None:
    # It does not listen to a polite signal, nor does what it starts.
    stubborn = job(
        "sh", "-c", "trap '' TERM; sleep 60 & echo on; wait", pod={"terminationGracePeriodSeconds": 1}
    )
    cluster.post(stubborn)
    wait(lambda: cluster.log() == "on\n")
    [pod] = cluster.api.alive()
    assert pod.process is not None
    session = Path(f"/proc/{pod.process.pid}/task/{pod.process.pid}/children").read_text().split()
    assert len(session) == 1
    cluster.batch.delete_namespaced_job("job", NAMESPACE)
    assert cluster.pod().status.phase == "Running"
    cluster.core.delete_namespaced_pod(pod.name, NAMESPACE)
    assert cluster.pod().metadata.deletion_timestamp is not None
    wait(lambda: not cluster.core.list_namespaced_pod(NAMESPACE).items)
    wait(lambda: not any(Path(f"/proc/{child}").exists() for child in session))


@pytest.mark.parametrize(
    ("made", "status", "words"),
    [
        (job(container={"comand": ["true"]}), 422, "comand"),
        ({**job(), "apiVersion": "batch/v1beta1"}, 422, "batch/v1beta1"),
        (job(container={"securityContext": {}}), 403, "allowPrivilegeEscalation"),
        (job(container={"securityContext": {**RESTRICTED, "runAsUser": 0}}), 403, "runAsUser"),
        (job(pod={"securityContext": {}}), 403, "runAsNonRoot, main: seccompProfile"),
        (job(pod={"hostNetwork": True}), 403, "hostNetwork"),
        (job(pod={"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), 403, "volume hostPath"),
        (job(container={"resources": {}}), 403, "no request or no limit of memory"),
        (
            job(container={"resources": {"requests": {**RESOURCES, "cpu": "2"}, "limits": RESOURCES}}),
            403,
            "more cpu requested than allowed",
        ),
    ],
)
def test_a_job_that_a_cluster_would_not_run_is_refused(
    cluster: Client, made: dict[str, Any], status: int, words: str
) -> None:
    answered, text = cluster.refused(made)
    assert answered == status and words in text


def test_what_the_role_does_not_allow_is_refused_and_so_is_another_namespace(cluster: Client) -> None:
    for ask in (
        lambda: cluster.core.list_namespaced_secret(NAMESPACE),
        lambda: cluster.batch.patch_namespaced_job("job", NAMESPACE, {}),
        lambda: cluster.core.delete_collection_namespaced_pod(NAMESPACE),
        lambda: cluster.batch.list_namespaced_job("kube-system"),
    ):
        with pytest.raises(ApiException) as caught:
            ask()
        assert caught.value.status == 403
    cluster.own.configuration.api_key = {}
    with pytest.raises(ApiException) as caught:
        cluster.batch.list_namespaced_job(NAMESPACE)
    assert caught.value.status == 401


def test_a_job_is_found_by_its_name_and_there_is_only_one_of_it(cluster: Client) -> None:
    cluster.post(job())
    with pytest.raises(ApiException) as caught:
        cluster.post(job())
    assert caught.value.status == 409
    for name, count in (("job", 1), ("other", 0)):
        found = cluster.batch.list_namespaced_job(NAMESPACE, field_selector=f"metadata.name={name}")
        assert len(found.items) == count
    with pytest.raises(ApiException) as caught:
        cluster.batch.read_namespaced_job_status("other", NAMESPACE)
    assert caught.value.status == 404
