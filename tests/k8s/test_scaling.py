"""The service stays up: while it is rolled out, while nodes are drained, and while it is scaled."""

import ast
import inspect
from collections.abc import Callable
from types import ModuleType

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import DEFAULT_TIMEOUT

from ml_platform.serving import batching, following, server
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.shadow import Shadow
from tests.k8s.cluster import OVERLAYS, VARIANTS, Manifest, matches, of_kind, rendered, workloads


def one(variant: str, kind: str, name: str = "serving") -> Manifest:
    (found,) = [m for m in of_kind(variant, kind) if m["metadata"]["name"] == name]
    return found


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_autoscaler_scales_a_deployment_that_does_not_say_how_many(overlay: str) -> None:
    scaler, deployment = one(overlay, "HorizontalPodAutoscaler")["spec"], one(overlay, "Deployment")
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "serving"}
    assert scaler["scaleTargetRef"] == target
    assert "replicas" not in deployment["spec"]
    assert 1 <= scaler["minReplicas"] < scaler["maxReplicas"]
    assert "cpu" in deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_rollout_takes_nothing_away_before_its_successor_is_ready(variant: str) -> None:
    if variant == "production with KServe":
        strategy = one(variant, "InferenceService")["spec"]["predictor"]["deploymentStrategy"]
    else:
        strategy = one(variant, "Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_drained_node_takes_one_of_several_and_the_budget_is_for_pods_that_are_there(variant: str) -> None:
    budget = one(variant, "PodDisruptionBudget")["spec"]
    assert ("minAvailable" in budget) != ("maxUnavailable" in budget), "the API takes one of them"
    assert [p.name for p in workloads(variant) if matches(budget["selector"], p.labels)] == ["serving"]
    if variant.startswith("production"):
        assert budget["maxUnavailable"] < fewest(variant), "else a drain stops the service"
    assert budget["maxUnavailable"] >= 1, "else a node could not be drained"


def fewest(variant: str) -> int:
    if variant == "production with KServe":
        return one(variant, "InferenceService")["spec"]["predictor"]["minReplicas"]
    return one(variant, "HorizontalPodAutoscaler")["spec"]["minReplicas"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_spread_by_their_own_label_and_end_in_the_time_that_they_have(variant: str) -> None:
    (serving,) = [p for p in workloads(variant) if p.name == "serving"]
    keys = [spread["topologyKey"] for spread in serving.spec["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(matches(s["labelSelector"], serving.labels) for s in serving.spec["topologySpreadConstraints"])
    waits = serving.containers[0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert waits + sum(at_its_end().values()) <= serving.spec["terminationGracePeriodSeconds"]


def at_its_end() -> dict[str, float]:
    """How long the service waits at the most, one after the other, for each thing that it ends with."""
    return {
        "open requests": argument(server, "timeout_graceful_shutdown"),
        "their batches": batching._ENDS_WITHIN,
        "spans that a collector does not take": DEFAULT_TIMEOUT,
        "the registry": 2 * following._REGISTRY_SECONDS,
        "what is scored in shadow": default(Shadow.close),
        "the prediction log": default(PredictionLog.close),
    }


def default(close: Callable[..., object]) -> float:
    return inspect.signature(close).parameters["timeout_seconds"].default


def argument(module: ModuleType, name: str) -> float:
    """A number that a module gives to something by the name of its parameter, itself or as a constant of its own."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Call)]
    (given,) = [word.value for call in calls for word in call.keywords if word.arg == name]
    return getattr(module, given.id) if isinstance(given, ast.Name) else ast.literal_eval(given)


def test_kserve_runs_the_same_pods_as_the_deployment() -> None:
    variant = "production with KServe"
    (container,) = one("production", "Deployment")["spec"]["template"]["spec"]["containers"]
    predictor = one(variant, "InferenceService")["spec"]["predictor"]
    assert predictor["containers"] == [{**container, "name": "kserve-container"}]
    same = one("production", "Deployment")["spec"]["template"]["spec"]
    assert {name: predictor[name] for name in same if name != "containers"} == {
        name: value for name, value in same.items() if name != "containers"
    }
    assert not [m for m in rendered(variant) if m["kind"] == "HorizontalPodAutoscaler"]
