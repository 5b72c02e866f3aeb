"""A version is served only as it was trained: its own files, its evidence, its scores and its features."""

import dataclasses
import hashlib
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ml_platform import declarations
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.registry import Registered
from ml_platform.online.store import apply_registry
from ml_platform.serving.versions import Loaded, load
from tests.serving.variants import (
    MODEL,
    Change,
    artifacts,
    registered,
)

AT = 1_530_057_600_000_000  # 2018-06-27 00:00 UTC
ROW = {"customer_id": 1, "terminal_id": 2, "amount": 55.0, "transaction_time": 1_530_000_000}


def champion(here: Settings) -> Registered:
    found = registry.champion(here, MODEL)
    assert found is not None
    return found


def loads(here: Settings, version: Registered) -> Loaded:
    found = load(here, version)
    assert found.scorer.score([ROW], found.features.read([ROW]), at=AT).outcomes == ["scored"]
    return found


def refused(here: Settings, version: Registered) -> str:
    with pytest.raises(StoreError) as raised:
        load(here, version)
    said = str(raised.value)
    assert said.startswith((f"model {MODEL} version {version.version}: ", f"{MODEL}: "))
    return said


def test_the_champion_is_loaded_with_where_it_comes_from(looked_at: Settings) -> None:
    version = champion(looked_at)
    found = loads(looked_at, version)
    assert (found.name, found.version, found.run_id) == (MODEL, 1, version.run_id)
    assert (found.partition, found.origin, found.doubts) == (version.partition, "registry", ())
    assert found.contract.training.run_id == version.run_id


def test_what_is_loaded_does_not_change(looked_at: Settings) -> None:
    found = loads(looked_at, champion(looked_at))
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.version = 2  # pyright: ignore[reportAttributeAccessIssue]


def at(*path: Any, to: Any) -> Change:
    """A change of one value of a document."""

    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = to

    return change


def without(*path: Any) -> Change:
    def change(document: dict[str, Any]) -> None:
        place: Any = document
        for step in path[:-1]:
            place = place[step]
        del place[path[-1]]

    return change


def of_one_entity_each(document: dict[str, Any]) -> None:
    """A contract as it was written before views had several keys."""
    document["format"] = 2
    for view in document["views"]:
        (key,) = view.pop("keys")
        view |= {"entity": key["entity"], "join_key": key["name"], "key_type": key["type"]}


FUNCTION = ("on_demand", 0)
WRONG: dict[str, tuple[Change, str]] = {
    "other bytes": (at("onnx", to="0" * 64), "the model that its contract was written for is required"),
    "another run": (at("training", "run_id", to="another"), "a contract of its own run"),
    "another model": (at("model", to="another"), "a contract of its own run"),
    "no gates": (at("gate_evidence", "gates", to=[]), "its contract has no gates that were open"),
    "no evidence": (at("gate_evidence", to={}), "no gates that were open when it was trained and no parity"),
    "no parity": (without("gate_evidence", "onnx_parity"), "no parity of its ONNX model"),
    "parity of no rows": (at("gate_evidence", "onnx_parity", "rows", to=0), "no parity of its ONNX model"),
    "no near parity": (
        at("gate_evidence", "onnx_parity", "max_difference", to=0.01),
        "no parity of its ONNX model",
    ),
    "less parity than none": (
        at("gate_evidence", "onnx_parity", "max_difference", to=-99),
        "no parity of its ONNX model",
    ),
    "an output that no function has": (
        at(*FUNCTION, "outputs", to=["is_weekend", "made_up"]),
        "an answer to a made-up row is required",
    ),
    "no function": (at("on_demand", to=[]), "an answer to a made-up row is required"),
    "other scores": (at("self_test", 0, "score", to=0.987), "the scores of training are required"),
    "no self-test": (at("self_test", to=[]), "rows to test the version with are required"),
    "a changed function": (at(*FUNCTION, "digest", to="0" * 64), "transaction_context"),
    "a gone function": (at(*FUNCTION, "function", to="ml_platform.gone.function"), "ml_platform.gone"),
    "an old contract": (at("format", to=1), "a contract of format 3 is required; got 1"),
    "a later release's contract": (at("format", to=4), "a contract of format 3 is required; got 4"),
    "an unknown word": (at("retries", to=3), "its contract cannot be read: retries"),
}


def test_a_contract_of_the_format_before_is_served_as_it_was(looked_at: Settings) -> None:
    found = loads(looked_at, registered(looked_at, seed=9, contract=of_one_entity_each))
    assert [view.keys for view in found.contract.views] == [
        view.keys for view in loads(looked_at, champion(looked_at)).contract.views
    ]


def test_a_contract_of_the_format_before_is_closed_too(looked_at: Settings) -> None:
    def unknown(document: dict[str, Any]) -> None:
        of_one_entity_each(document)
        del document["views"][0]["key_type"]

    said = refused(looked_at, registered(looked_at, seed=9, contract=unknown))
    assert "its contract cannot be read: views.0.keys.0.type" in said


@pytest.mark.parametrize("wrong", WRONG)
def test_a_version_is_refused_with_what_is_wrong_about_it(looked_at: Settings, wrong: str) -> None:
    change, why = WRONG[wrong]
    said = refused(looked_at, registered(looked_at, seed=9, contract=change))
    assert why in said, said


@pytest.mark.parametrize("name", ["extra_files/contract.json", "extra_files/manifest.json", "model.onnx"])
def test_a_version_without_one_of_its_files_is_refused(looked_at: Settings, name: str) -> None:
    version = registered(looked_at, seed=9)
    (artifacts(looked_at, version) / name).unlink()
    with pytest.raises(StoreError, match=Path(name).name):
        load(looked_at, version)


class Bomb:
    """What goes off when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (sys.exit, ("unpickled",))


def test_a_pickle_in_the_place_of_a_model_is_refused_and_never_opened(looked_at: Settings) -> None:
    bomb = pickle.dumps(Bomb())
    digest = hashlib.sha256(bomb).hexdigest()
    version = registered(looked_at, seed=9, contract=at("onnx", to=digest))
    folder = artifacts(looked_at, version)
    for name in ("model.onnx", "model.pkl", "python_model.pkl"):
        (folder / name).write_bytes(bomb)
    assert "a model that ONNX Runtime can run is required" in refused(looked_at, version)


def applied(here: Settings, **changed: Any) -> None:
    """Apply the declarations with a change of one view to Feast's registry."""
    declared = declarations.load()
    spec = declared.get(FeatureViewSpec, "terminal_risk", wanted_by="a test").model_copy(update=changed)
    apply_registry(here, Catalog({**declared.specs, (FeatureViewSpec, spec.name): spec}, declared.origins))


def test_a_version_is_refused_when_feast_was_given_another_definition_of_its_features(
    released: Settings,
) -> None:
    applied(released, ttl=Duration(5 * 86_400))
    said = refused(released, champion(released))
    assert "terminal_risk was applied under a declaration" in said
    assert "It would answer from features that it does not know" in said
    applied(released)
    assert loads(released, champion(released)).doubts == ()


def declared_then(**changed: Any) -> dict[str, Change]:
    """A version that was trained when a view was declared in other words."""

    def manifest(document: dict[str, Any]) -> None:
        document["specs"]["FeatureView/terminal_risk"] |= changed

    return {"contract": at("views", 1, "declaration", to="of then"), "manifest": manifest}


def test_other_words_for_the_same_features_are_no_other_features(looked_at: Settings) -> None:
    version = registered(looked_at, seed=9, **declared_then(description="In other words."))
    assert loads(looked_at, version).doubts == ()


def test_the_fields_that_are_declared_otherwise_since_are_named(looked_at: Settings) -> None:
    version = registered(looked_at, seed=9, **declared_then(ttl="5d"))
    assert "terminal_risk is declared otherwise since (ttl)" in refused(looked_at, version)


def test_a_feast_registry_that_is_gone_is_a_doubt_and_no_empty_one_is_made(released: Settings) -> None:
    database = released.root / "feast" / "registry.db"
    database.unlink()
    (doubt,) = loads(released, champion(released)).doubts
    assert f"{database}: Feast's registry is required and is gone" in doubt
    assert not database.exists()


def test_a_feast_registry_that_cannot_be_read_is_a_doubt(released: Settings) -> None:
    (released.root / "feast" / "registry.db").write_bytes(b"no database" * 100)
    (doubt,) = loads(released, champion(released)).doubts
    assert "Feast's registry is required and does not answer" in doubt


def test_a_view_that_feast_does_not_know_is_a_doubt(looked_at: Settings) -> None:
    def unknown(document: dict[str, Any]) -> None:
        document["views"][1]["name"] = "never_applied"

    found = load(looked_at, registered(looked_at, seed=9, contract=unknown))
    assert "Feast's registry is required to define never_applied, and does not" in found.doubts[0]


def test_an_online_store_that_does_not_answer_keeps_no_version_from_being_loaded(released: Settings) -> None:
    store = released.root / "feast" / "online_store.db"
    store.unlink()
    store.mkdir()
    assert load(released, champion(released)).version == 1
    shutil.rmtree(store)


def test_versions_are_loaded_without_dagster() -> None:
    imports = "import sys, ml_platform.serving.following, ml_platform.declarations as declared"
    program = f"{imports}; declared.load(); print('dagster' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"
