"""What a cluster's API server asks of a Job before it takes it, in a namespace that is `restricted`."""

from collections.abc import Iterator, Mapping
from typing import Any

import kubernetes_validate

from tests.k8s.cluster import quantity

VERSION = "1.37"
VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}
"""The kinds that Pod Security's `restricted` allows."""

Object = Mapping[str, Any]


def refusal(job: Object) -> tuple[int, str] | None:
    """Status and words with which a Job is refused; None for one that is taken."""
    try:
        kubernetes_validate.validate(dict(job), VERSION, strict=True)
    except kubernetes_validate.SchemaNotFoundError:
        return 422, f"there is no {job['kind']} in {job['apiVersion']}"
    except kubernetes_validate.ValidationError as err:
        return 422, str(err)
    pod = job["spec"]["template"]["spec"]
    wrong = [*_insecure(pod), *_unbounded(pod)]
    # A cluster takes the Job and refuses its pods, so that nothing starts; here the one who posts is told.
    return (403, f"violates PodSecurity restricted: {', '.join(wrong)}") if wrong else None


def _insecure(pod: Object) -> Iterator[str]:
    """What `restricted` forbids."""
    yield from (name for name in ("hostNetwork", "hostPID", "hostIPC") if pod.get(name))
    for volume in pod.get("volumes", ()):
        yield from (f"volume {kind}" for kind in volume.keys() - VOLUMES - {"name"})
    shared = pod.get("securityContext", {})
    for container in _containers(pod):
        own = container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        forbidden = {
            "privileged": own.get("privileged", False),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation", True),
            "runAsNonRoot": not own.get("runAsNonRoot", shared.get("runAsNonRoot", False)),
            "runAsUser": own.get("runAsUser", shared.get("runAsUser")) == 0,
            "seccompProfile": own.get("seccompProfile", shared.get("seccompProfile", {})).get("type")
            not in ("RuntimeDefault", "Localhost"),
            "capabilities.drop": "ALL" not in capabilities.get("drop", ()),
            "capabilities.add": bool(set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}),
            "hostPort": any(port.get("hostPort") for port in container.get("ports", ())),
        }
        yield from (f"{container['name']}: {name}" for name, is_so in forbidden.items() if is_so)


def _unbounded(pod: Object) -> Iterator[str]:
    """Requests and limits that are missing, or above each other."""
    for container in _containers(pod):
        resources = container.get("resources", {})
        requests, limits = resources.get("requests", {}), resources.get("limits", {})
        for name in sorted({"cpu", "memory", *requests, *limits}):
            if name not in requests or name not in limits:
                yield f"{container['name']}: no request or no limit of {name}"
            elif quantity(requests[name]) > quantity(limits[name]):
                yield f"{container['name']}: more {name} requested than allowed"


def _containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]
