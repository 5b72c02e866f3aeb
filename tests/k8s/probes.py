"""What a kubelet asks a container: whether it has started, lives, or may be sent requests."""

import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

Probe = Mapping[str, Any]
_SECONDS = 5.0
HOST = "127.0.0.1"


def passes(probe: Probe, container: Mapping[str, Any], run: Callable[[list[str]], int]) -> bool:
    """Whether a probe of a container of this machine passes; `run` gives the exit code of a command in it."""
    if "exec" in probe:
        return run(probe["exec"]["command"]) == 0
    if "grpc" in probe:
        return _serves(probe["grpc"]["port"], probe["grpc"].get("service", ""))
    (how,) = {"httpGet", "tcpSocket"} & set(probe)
    named = {port.get("name"): port["containerPort"] for port in container["ports"]}
    port = named.get(probe[how]["port"], probe[how]["port"])
    return _connects(port) if how == "tcpSocket" else _answers(port, probe[how]["path"])


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=_SECONDS) as answer:
            return 200 <= answer.status < 400
    except (urllib.error.URLError, OSError):
        return False


def _connects(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), _SECONDS).close()
    except OSError:
        return False
    return True


def _serves(port: int, service: str) -> bool:
    import grpc
    from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
    from grpc_health.v1.health_pb2_grpc import HealthStub

    with grpc.insecure_channel(f"{HOST}:{port}") as channel:
        try:
            answer = HealthStub(channel).Check(HealthCheckRequest(service=service), timeout=_SECONDS)
        except grpc.RpcError:
            return False
    return answer.status == HealthCheckResponse.SERVING
