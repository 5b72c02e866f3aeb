"""The manifests as kustomize renders them, and questions that one asks of them together."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.tools import program

K8S = PROJECT_ROOT / "k8s"
Manifest = Mapping[str, Any]

OVERLAYS = ("local", "production")
VARIANTS = {
    "local": ("local", ()),
    "production": ("production", ()),
    "production with sign-in": ("production", ("oauth2-proxy", "writable-webserver", "traces")),
    "production with KServe": ("production", ("kserve",)),
}
"""Every deployment that the documents describe: an overlay, and components that are added to it."""

KINDS_WITH_PODS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob", "InferenceService")


@dataclass(frozen=True)
class Pods:
    """Pods that are made from one template, and the number of them at the least."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


@cache
def rendered(variant: str) -> tuple[Manifest, ...]:
    """All manifests of a variant, as `kubectl apply -k` would send them."""
    overlay, components = VARIANTS[variant]
    with tempfile.TemporaryDirectory() as folder:
        return tuple(documents(_kustomize(_with(K8S / "overlays" / overlay, components, Path(folder)))))


def documents(text: str) -> Iterator[Manifest]:
    """The documents of a YAML text."""
    return (found for found in yaml.safe_load_all(text) if found)


def _with(overlay: Path, components: tuple[str, ...], folder: Path) -> Path:
    """An overlay with more components, which come before the one of images, as the documents ask for."""
    if not components:
        return overlay
    told = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    here = folder.resolve()
    for field in ("resources", "components"):
        told[field] = [os.path.relpath((overlay / path).resolve(), here) for path in told[field]]
    told["components"][-1:-1] = [os.path.relpath(K8S / "components" / name, here) for name in components]
    for generator in told["configMapGenerator"]:
        for env in generator["envs"]:
            (folder / env).write_text((overlay / env).read_text())
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(told))
    return folder


def _kustomize(folder: Path) -> str:
    path = program("kustomize", "kubectl")
    command = [path, "build"] if Path(path).name == "kustomize" else [path, "kustomize"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, f"kustomize warns: {done.stderr}"
    return done.stdout


def of_kind(variant: str, kind: str) -> list[Manifest]:
    """The manifests of one kind."""
    return [manifest for manifest in rendered(variant) if manifest["kind"] == kind]


def names(variant: str, kind: str) -> set[str]:
    """The names of all manifests of one kind."""
    return {manifest["metadata"]["name"] for manifest in of_kind(variant, kind)}


def workloads(variant: str) -> list[Pods]:
    """All that makes pods."""
    return [pods(found) for found in rendered(variant) if found["kind"] in KINDS_WITH_PODS]


def pods(manifest: Manifest) -> Pods:
    """The pods that a manifest makes."""
    kind, name = manifest["kind"], manifest["metadata"]["name"]
    if (
        kind == "InferenceService"
    ):  # the predictor is a pod's spec with KServe's own fields between its fields
        predictor = manifest["spec"]["predictor"]
        return Pods(kind, name, predictor["labels"], predictor)
    spec = manifest["spec"]["jobTemplate"]["spec"] if kind == "CronJob" else manifest["spec"]
    template = spec["template"]
    return Pods(kind, name, template["metadata"].get("labels", {}), template["spec"])


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    operators = {
        "In": lambda value, values: value in values,
        "NotIn": lambda value, values: value not in values,
        "Exists": lambda value, _: value is not None,
        "DoesNotExist": lambda value, _: value is None,
    }
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        operators[wanted["operator"]](labels.get(wanted["key"]), wanted.get("values", ()))
        for wanted in selector.get("matchExpressions", ())
    )


def config_map(variant: str, name: str) -> Mapping[str, str]:
    """The data of a ConfigMap."""
    (found,) = [m for m in of_kind(variant, "ConfigMap") if m["metadata"]["name"] == name]
    return found["data"]


def quantity(text: str | int) -> float:
    """A quantity as a number: `250m`, `1Gi`, 2."""
    units = {"m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
    for unit in sorted(units, key=len, reverse=True):
        if str(text).endswith(unit):
            return float(str(text).removesuffix(unit)) * units[unit]
    return float(text)
