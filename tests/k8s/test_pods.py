"""Every pod satisfies the Pod Security level `restricted`, has limits, and has all that it names."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from tests.k8s.cluster import (
    K8S,
    OVERLAYS,
    VARIANTS,
    Pods,
    config_map,
    names,
    of_kind,
    quantity,
    rendered,
    workloads,
)
from tests.k8s.jobs import job_of_a_run, job_of_a_step

ALLOWED_VOLUMES = {
    "configMap",
    "emptyDir",
    "secret",
    "persistentVolumeClaim",
    "projected",
    "downwardAPI",
    "csi",
}


def all_pods() -> list[Any]:
    """The pods of every variant, and those of runs and steps, which Dagster makes."""
    found = [pytest.param(p, id=f"{v}: {p.name}") for v in VARIANTS for p in workloads(v)]
    return [*found, pytest.param(job_of_a_run(), id="a run"), pytest.param(job_of_a_step(), id="a step")]


def test_the_namespace_enforces_the_level_restricted() -> None:
    for variant in VARIANTS:
        (namespace,) = of_kind(variant, "Namespace")
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("pods", all_pods())
def test_a_pod_is_restricted(pods: Pods) -> None:
    whole = pods.spec["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert whole["runAsUser"] >= 10_000, "no user of the node"
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pods.spec)
    for volume in pods.spec.get("volumes", ()):
        assert set(volume) - {"name"} <= ALLOWED_VOLUMES
    for container in pods.containers:
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"] is True
        assert not own.get("privileged")
        assert not any("hostPort" in port for port in container.get("ports", ()))


@pytest.mark.parametrize("pods", all_pods())
def test_a_container_asks_for_no_more_than_its_limit(pods: Pods) -> None:
    for container in pods.containers:
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(requests) & set(limits)
        for resource, asked in requests.items():
            assert quantity(asked) <= quantity(limits[resource]), resource


@pytest.mark.parametrize("pods", all_pods())
def test_what_is_mounted_is_there_and_what_is_there_is_mounted(pods: Pods) -> None:
    claims = {
        claim["metadata"]["name"]
        for manifest in (m for v in VARIANTS for m in of_kind(v, "StatefulSet"))
        if manifest["metadata"]["name"] == pods.name
        for claim in manifest["spec"]["volumeClaimTemplates"]
    }
    there = {volume["name"] for volume in pods.spec.get("volumes", ())} | claims
    mounts = [container.get("volumeMounts", ()) for container in pods.containers]
    assert {mount["name"] for of_one in mounts for mount in of_one} == there
    for of_one in mounts:
        assert len(of_one) == len({mount["mountPath"] for mount in of_one})


@pytest.mark.parametrize("pods", [p for p in all_pods() if p.values[0].kind not in ("Job", "CronJob")])
def test_a_server_is_asked_whether_it_lives_and_is_ready(pods: Pods) -> None:
    for container in pods.containers:
        assert "livenessProbe" in container
        assert "readinessProbe" in container or not container.get("ports"), (
            "nobody is sent to what has no port"
        )
        ports = {port["name"] for port in container.get("ports", ())}
        for probe in (container.get(f"{kind}Probe", {}) for kind in ("startup", "liveness", "readiness")):
            for how in ("httpGet", "tcpSocket"):
                assert how not in probe or probe[how]["port"] in ports
            if "grpc" in probe:
                assert probe["grpc"]["port"] in {port["containerPort"] for port in container["ports"]}


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_have_a_tag_or_a_digest_and_are_named_in_one_place(variant: str) -> None:
    used = {container["image"] for pods in workloads(variant) for container in pods.containers}
    assert all(re.fullmatch(r"[a-z0-9./-]+(:[\w.-]+|@sha256:[0-9a-f]{64})", image) for image in used), used
    assert not any(image.endswith(":latest") for image in used)
    place = K8S / "components" / "images" / "kustomization.yaml"
    assert all(re.split(r"[:@]", image)[0] in place.read_text() for image in used)
    others = [
        path for path in K8S.rglob("kustomization.yaml") if path != place and "newTag" in path.read_text()
    ]
    assert others == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_runs_are_started_from_the_image_of_their_code_location(variant: str) -> None:
    (code,) = [pods for pods in workloads(variant) if pods.name == "code-location"]
    (container,) = code.containers
    told = {env["name"]: env.get("value") for env in container["env"]}
    assert told["DAGSTER_CONTAINER_IMAGE"] == container["image"]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_variables_of_the_platform_are_its_settings(overlay: str) -> None:
    fields = {name.upper() for name in Settings.model_fields}
    given = [
        name.removeprefix("ML_PLATFORM_")
        for name in config_map(overlay, "ml-platform")
        if "ML_PLATFORM" in name
    ]
    assert {name.split("__")[0] for name in given} <= fields


def secrets_used(variant: str) -> dict[str, set[str]]:
    """The keys of each Secret that somebody reads; `*` where all of them are."""
    found: dict[str, set[str]] = {}
    for pods in [*workloads(variant), job_of_a_run(), job_of_a_step()]:
        for volume in pods.spec.get("volumes", ()):
            if "secret" in volume:
                found.setdefault(volume["secret"]["secretName"], set()).add("*")
        for container in pods.containers:
            for source in container.get("envFrom", ()):
                if "secretRef" in source:
                    found.setdefault(source["secretRef"]["name"], set()).add("*")
            for env in container.get("env", ()):
                if reference := env.get("valueFrom", {}).get("secretKeyRef"):
                    found.setdefault(reference["name"], set()).add(reference["key"])
    for monitor in of_kind(variant, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            if credentials := endpoint.get("authorization", {}).get("credentials"):
                found.setdefault(credentials["name"], set()).add(credentials["key"])
    for ingress in of_kind(variant, "Ingress"):
        for tls in ingress["spec"]["tls"]:
            found.setdefault(tls["secretName"], set()).add("*")
    return found


def documented_secrets() -> dict[str, set[str]]:
    """The table of docs/deploy.md: each Secret with its keys."""
    section = (PROJECT_ROOT / "docs" / "deploy.md").read_text().split("## Secrets")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([\w-]+)` \| (.*?) \|", section, re.MULTILINE)
    return {name: set(re.findall(r"`([\w.-]+)`", keys)) for name, keys in rows}


def test_every_secret_and_key_that_is_read_is_documented_and_no_other() -> None:
    documented = documented_secrets()
    used: dict[str, set[str]] = {}
    for variant in VARIANTS:
        for name, keys in secrets_used(variant).items():
            used.setdefault(name, set()).update(keys)
    assert set(used) == set(documented)
    for name, keys in used.items():
        assert keys - {"*"} <= documented[name]


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_secret_value_is_in_a_manifest(variant: str) -> None:
    assert of_kind(variant, "Secret") == []
    for pods in workloads(variant):
        for container in pods.containers:
            for env in container.get("env", ()):
                assert "value" not in env or not re.search(r"PASSWORD|SECRET|KEY_ID|TOKEN", env["name"]), env[
                    "name"
                ]
    for manifest in of_kind(variant, "ConfigMap"):
        assert not re.search(r"://[^/\s$]*:[^@\s$]+@", str(manifest["data"])), "an address with a password"


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_config_map_and_service_account_that_is_named_is_there(variant: str) -> None:
    accounts = names(variant, "ServiceAccount")
    maps = {
        manifest["metadata"]["name"]
        for manifest in of_kind(variant, "ConfigMap")
        if "grafana_dashboard"
        not in manifest["metadata"].get("labels", {})  # Grafana finds those by their label
    }
    used: set[str] = set()
    for pods in [*workloads(variant), job_of_a_run(), job_of_a_step()]:
        assert pods.spec["serviceAccountName"] in accounts
        used |= {
            volume["configMap"]["name"] for volume in pods.spec.get("volumes", ()) if "configMap" in volume
        }
        for container in pods.containers:
            used |= {s["configMapRef"]["name"] for s in container.get("envFrom", ()) if "configMapRef" in s}
    assert used == maps


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_mounts_a_file_of_a_config_map_finds_it(variant: str) -> None:
    for pods in workloads(variant):
        sources = {
            v["name"]: v["configMap"]["name"] for v in pods.spec.get("volumes", ()) if "configMap" in v
        }
        for mount in (m for c in pods.containers for m in c.get("volumeMounts", ())):
            if mount["name"] in sources and "subPath" in mount:
                assert mount["subPath"] in config_map(variant, sources[mount["name"]])


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_kubectl_applies_fits_into_the_annotation_that_it_keeps_it_in(variant: str) -> None:
    for manifest in rendered(variant):
        assert len(json.dumps(manifest)) < 262_144, manifest["metadata"]["name"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_but_what_is_of_the_cluster_is_in_one_namespace(variant: str) -> None:
    (namespace,) = names(variant, "Namespace")
    inside: set[Mapping[str, Any]] = {
        manifest["metadata"].get("namespace")
        for manifest in rendered(variant)
        if manifest["kind"] != "Namespace"
    }
    assert inside == {namespace}
