"""The servers that are compared: ours, and what one would assemble from stock parts, each as good as it gets.

All answer for the same events from the same Redis. Of the stock servers, what costs time and is not the work is turned
off: no access logs, no worker that is replaced after a thousand requests, a registry that is read once. Their client
keeps its connections, and takes the shortest of the request forms that MLflow accepts.
"""

import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.features.store import store_config
from tests.benchmarks.load import Call, Side
from tests.benchmarks.processes import Server, free_port, serving
from tests.benchmarks.released import MODEL, Released

KEY = "benchmark-key"
_A_DAY = 24 * 3600
_LOGGED_WITHIN = 60.0
_OURS_HAS_SCORE = re.compile(rb'"score": ?[0-9]')
_FEAST_HAS_VALUES = re.compile(rb'"values": ?\[')
_MLFLOW_HAS_SCORE = re.compile(rb'"probabilities": ?\[\[[0-9]')


@contextmanager
def our_service(platform: Released, folder: Path) -> Iterator[Server]:
    """`ml-platform serve` with one worker, a key, and a clock that stands where the data ends."""
    port = free_port()
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    environment = {
        "ML_PLATFORM_SERVING__PORT": str(port),
        "ML_PLATFORM_SERVING__KEYS": f"benchmark:{digest}",
        "ML_PLATFORM_SERVING__AT": platform.at.isoformat(),
    }
    command = ("ml-platform", "serve")
    with serving(
        "ours", *command, port=port, health="/readyz", folder=folder, environment=environment
    ) as found:
        yield found


def told(server: Server, metric: str) -> float:
    """What our service tells Prometheus of itself, by the metric's own name; the sum over its labels."""
    lines = server.get("/metrics", {"x-api-key": KEY}).decode().splitlines()
    found = [line for line in lines if re.match(rf"ml_platform_serving_{metric}(_total)?[ {{]", line)]
    assert found, f"our service tells no ml_platform_serving_{metric}"
    return sum(float(line.rpartition(" ")[2]) for line in found)


def wait_until_logged(server: Server) -> None:
    """Wait until every prediction that our service has answered is in the lake, or was lost."""
    deadline = time.monotonic() + _LOGGED_WITHIN
    while told(server, "log_queue_depth") > 0 and time.monotonic() < deadline:
        time.sleep(0.2)


def by_ours(server: Server, platform: Released) -> Side:
    """One call: keys and request fields in, score out."""
    bodies = tuple(json.dumps({"instance": instance}).encode() for instance in platform.instances)
    path = f"/v1/models/{MODEL}:predict"
    return Side((Call(server.port, path, bodies, {"x-api-key": KEY}),), _OURS_HAS_SCORE)


def stock_config(platform: Released) -> dict[str, Any]:
    """Feast's own stores on the platform's registry and Redis; the registry is kept in memory once it is read."""
    config = store_config(platform.settings)
    config["registry"]["cache_ttl_seconds"] = _A_DAY
    config["offline_store"] = {"type": "duckdb"}
    config["online_store"] = {"type": "redis", "connection_string": f"127.0.0.1:{platform.redis_port}"}
    return config


@contextmanager
def feast_server(platform: Released, folder: Path) -> Iterator[Server]:
    """`feast serve` with one worker, on the platform's registry and Redis."""
    repository = folder / "feast"
    repository.mkdir()
    (repository / "feature_store.yaml").write_text(json.dumps(stock_config(platform)))  # JSON is YAML
    port = free_port()
    options = ("--no-access-log", "--max-requests", "100000000", "--registry_ttl_sec", str(_A_DAY))
    command = ("feast", "-c", str(repository), "serve", "--port", str(port), "--workers", "1", *options)
    with serving("feast", *command, port=port, health="/health", folder=folder) as found:
        yield found


def by_feast(server: Server, platform: Released) -> Side:
    """One call: the features of the service, on-demand features with them, and no prediction."""
    wanted = (*platform.contract.keys, *platform.contract.request)
    bodies = tuple(
        json.dumps(
            {
                "feature_service": platform.contract.feature_service,
                "entities": {name: [instance[name]] for name in wanted},
            }
        ).encode()
        for instance in platform.instances
    )
    return Side((Call(server.port, "/get-online-features", bodies),), _FEAST_HAS_VALUES)


@contextmanager
def mlflow_server(platform: Released, folder: Path) -> Iterator[Server]:
    """`mlflow models serve` of the champion with one worker, in this environment."""
    port = free_port()
    environment = {"MLFLOW_TRACKING_URI": platform.settings.tracking_uri, "UVICORN_ACCESS_LOG": "0"}
    model = ("--model-uri", f"models:/{MODEL}/{platform.version.version}", "--env-manager", "local")
    command = ("mlflow", "models", "serve", *model, "--port", str(port), "--workers", "1")
    with serving(
        "mlflow", *command, port=port, health="/ping", folder=folder, environment=environment
    ) as found:
        yield found


def by_stock_pair(feast: Server, mlflow: Server, platform: Released) -> Side:
    """Two calls: features from Feast, and what came of them to MLflow."""
    contract = platform.contract
    given = [name for name in contract.features if name in contract.request]
    own = tuple({name: instance[name] for name in given} for instance in platform.instances)
    to_model = ToModel(contract.input, contract.features, own)
    (features,) = by_feast(feast, platform).calls
    return Side((features, Call(mlflow.port, "/invocations", to_model)), _MLFLOW_HAS_SCORE)


@dataclass(frozen=True)
class ToModel:
    """Makes the request to MLflow of what Feast answered and what the client knows, as a client of the two has to."""

    input: str
    features: tuple[str, ...]
    own: tuple[Mapping[str, Any], ...]

    def __call__(self, number: int, answer: bytes) -> bytes:
        found = json.loads(answer)
        names: list[str] = found["metadata"]["feature_names"]
        values = {name: column["values"][0] for name, column in zip(names, found["results"], strict=True)}
        values |= self.own[number]
        row = [values[name] for name in self.features]
        return json.dumps({"inputs": {self.input: [row]}}).encode()


def scores(side: Side, *, rows: int) -> list[float]:
    """What a side answers for the first rows, one after the other."""
    return [_score(json.loads(_asked(side, number))) for number in range(rows)]


def _asked(side: Side, number: int) -> bytes:
    import httpx

    body = b""
    for call in side.calls:
        sent = call.bodies[number] if isinstance(call.bodies, tuple) else call.bodies(number, body)
        headers = {"content-type": "application/json", **call.headers}
        body = httpx.post(f"http://127.0.0.1:{call.port}{call.path}", content=sent, headers=headers).content
    return body


def _score(answer: Mapping[str, Any]) -> float:
    predictions = answer["predictions"]
    return predictions["probabilities"][0][1] if "probabilities" in predictions else predictions[0]["score"]
