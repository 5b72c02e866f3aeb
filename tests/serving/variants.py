"""Registered versions beside the built champion: like it with other scores, or with something wrong."""

import copy
import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml_platform.kernel.settings import Settings, settings
from ml_platform.model_registry import connection, registry
from ml_platform.model_registry.registry import Registered
from ml_platform.models.compute import predict_onnx
from tests.built import opened_copy
from tests.support import copied_home

MODEL = "fraud"
Change = Callable[[dict[str, Any]], None]


def unchanged(_: dict[str, Any]) -> None:
    """The document as it is."""


def other_onnx(columns: int, *, seed: int) -> bytes:
    """A model of its own, whose scores no other seed gives: a logistic function of what is not missing."""
    from onnx import TensorProto, helper

    weights = np.random.default_rng(seed).normal(scale=0.01, size=(columns, 1)).astype(np.float32)

    def constant(name: str, values: Any) -> Any:
        array = np.asarray(values, np.float32)
        return helper.make_tensor(name, TensorProto.FLOAT, array.shape, array.ravel().tolist())

    nodes = [
        helper.make_node("IsNaN", ["features"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "features"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["yes"]),
        helper.make_node("Sub", ["one", "yes"], ["no"]),
        helper.make_node("Concat", ["no", "yes"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, columns])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])],
        [constant("zero", 0), constant("one", 1), constant("weights", weights)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def registered(
    here: Settings,
    *,
    seed: int,
    contract: Change = unchanged,
    manifest: Change = unchanged,
    name: str = MODEL,
) -> Registered:
    """Register another version, with its own run, model, self-test and contract, changed as the test wants."""
    import mlflow

    first = registry.version(here, MODEL, 1)
    assert first is not None
    documents = {
        name: registry.load_document(here, first, name)
        for name in ("contract.json", "manifest.json", "evaluation.json")
    }
    said = copy.deepcopy(documents["contract.json"])
    onnx = other_onnx(len(said["features"]), seed=seed)
    said["onnx"] = hashlib.sha256(onnx).hexdigest()
    for row in said["self_test"]:
        values = np.array([[np.nan if v is None else v for v in row["features"]]], np.float32)
        row["score"] = float(predict_onnx(onnx, values)[0])
    connection.prepare(here)
    mlflow.set_experiment(here.project)
    with registry.partition_run(mlflow, name=f"{name} {seed}") as run_id:
        said |= {"model": name, "training": {**said["training"], "run_id": run_id}}
        contract(said)
        manifest(documents["manifest.json"])
        candidate = registry.Candidate(
            registered_name=here.registered_name(name),
            onnx=onnx,
            feature_names=tuple(said["features"]),
            parameters={},
            metrics={},
            tags=dict(first.tags),
            documents={**documents, "contract.json": said},
            pictures={},
        )
        return registry.register(mlflow, candidate, run_id=run_id)


def artifacts(here: Settings, version: Registered) -> Path:
    """The folder in which MLflow keeps a version's files."""
    folder = Path(here.artifact_root) / "models" / version.source.removeprefix("models:/") / "artifacts"
    assert (folder / "model.onnx").exists()
    return folder


@pytest.fixture(scope="session")
def released_once(built_once: Path) -> Iterator[Path]:
    """The home that is copied: version 1 is champion, 2 and 3 have scores of their own. It has no lake."""
    with opened_copy(built_once) as found:
        for folder in ("lake", "simulated", "dagster"):
            shutil.rmtree(found.settings.root / folder)
        for seed in (2, 3):
            registered(found.settings, seed=seed)
        kept = copied_home(found.settings.root)
    yield kept
    shutil.rmtree(kept)


@pytest.fixture
def released(released_once: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """The same, the test's own."""
    home = copied_home(released_once)
    monkeypatch.setenv("ML_PLATFORM_HOME", str(home))
    yield settings().prepare()
    shutil.rmtree(home)


@pytest.fixture(scope="module")
def looked_at(released_once: Path) -> Iterator[Settings]:
    """The same, for tests of a module that register versions and move nobody."""
    home = copied_home(released_once)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_HOME", str(home))
        yield settings().prepare()
    shutil.rmtree(home)
