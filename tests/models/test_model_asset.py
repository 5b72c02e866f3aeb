"""A model partition becomes a registered version with everything that serving needs, or it leaves no trace."""

import base64
import hashlib
import inspect
from collections.abc import Sequence
from typing import Any

import dagster as dg
import numpy as np
import pytest

from ml_platform import declarations
from ml_platform.defs.fraud.features.transaction_context.on_demand import transaction_context
from ml_platform.model_registry import registry
from ml_platform.models.calibration import calibration
from ml_platform.models.component import fit
from ml_platform.models.compute import onnx_session, predict_onnx
from ml_platform.models.evaluation import measure
from ml_platform.models.spec import ModelSpec, Preprocessing
from ml_platform.training_sets import store as training_sets
from tests.built import CUSTOMERS, NEXT_DAY, Platform, changed_column, day_of_transactions
from tests.support import LAST_DAY

MODEL = "models/fraud"
IMPUTER = Preprocessing(estimator="sklearn.impute.SimpleImputer", parameters={"strategy": "median"})
SCALER = Preprocessing(estimator="sklearn.preprocessing.StandardScaler")
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"


def declared(**changed: Any) -> ModelSpec:
    return declarations.load().get(ModelSpec, "fraud", wanted_by="a test").model_copy(update=changed)


def arrays(platform: Platform) -> dict[str, training_sets.Arrays]:
    rows = declared().training_set_spec(platform.catalog)
    manifest = training_sets.read_manifest(platform.settings, rows, LAST_DAY)
    return training_sets.read_arrays(platform.settings, rows, manifest)


def version(platform: Platform) -> registry.Registered:
    (found,) = registry.versions(platform.settings, "fraud")
    return found


def mlflow_runs(platform: Platform) -> Sequence[Any]:
    client = registry.client(platform.settings)
    experiments = [found.experiment_id for found in client.search_experiments()]
    return client.search_runs(experiments)


def test_the_version_is_onnx_with_a_signature_of_the_features(shared: Platform) -> None:
    from mlflow.models import get_model_info

    features = arrays(shared)["test"].names
    session = onnx_session(registry.load_onnx(shared.settings, version(shared)))
    (taken,) = session.get_inputs()
    assert (taken.name, taken.shape, taken.type) == ("features", [None, len(features)], "tensor(float)")
    signature = get_model_info(f"models:/fraud/{version(shared).version}").signature
    assert signature.inputs.to_dict()[0]["tensor-spec"] == {"dtype": "float32", "shape": (-1, len(features))}
    assert version(shared).tags["partition"] == LAST_DAY


def test_the_manifest_of_the_training_set_travels_with_the_version(shared: Platform) -> None:
    rows = declared().training_set_spec(shared.catalog)
    manifest = training_sets.read_manifest(shared.settings, rows, LAST_DAY)
    assert registry.load_document(shared.settings, version(shared), "manifest.json") == manifest
    assert version(shared).tags["training_set"] == manifest["content_hash"]


def test_the_contracts_self_test_is_answered_by_the_registered_model(shared: Platform) -> None:
    contract = registry.load_document(shared.settings, version(shared), "contract.json")
    assert contract["features"] == list(arrays(shared)["test"].names)
    features = [[np.nan if v is None else v for v in row["features"]] for row in contract["self_test"]]
    onnx = registry.load_onnx(shared.settings, version(shared))
    answered = predict_onnx(onnx, np.array(features, np.float32))
    scores = [row["score"] for row in contract["self_test"]]
    np.testing.assert_array_equal(answered, np.array(scores, np.float32))
    assert len(scores) == 5 and scores == sorted(scores) and scores[0] < scores[-1]


def test_the_contract_says_which_function_serving_has_to_run(shared: Platform) -> None:
    contract = registry.load_document(shared.settings, version(shared), "contract.json")
    (on_demand,) = contract["on_demand"]
    source = inspect.getsource(transaction_context)
    assert on_demand["digest"] == hashlib.sha256(source.encode()).hexdigest()
    assert on_demand["function"].endswith("on_demand.transaction_context")
    assert contract["training"]["run_id"] == version(shared).run_id
    assert {"drift_profiles/fraud", "sources/transactions", CUSTOMERS} <= set(
        contract["gate_evidence"]["gates"]
    )


def test_metrics_of_all_test_rows_and_the_curve_are_shown_with_the_asset(shared: Platform) -> None:
    shown, test = shared.newest_metadata(MODEL, LAST_DAY), arrays(shared)["test"]
    scores = predict_onnx(registry.load_onnx(shared.settings, version(shared)), test.features)
    expected = measure(declared(), test, scores)
    assert {name: shown[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert expected["rows"] == 6374 and expected["auc_roc"] > 0.6
    assert 0 < expected["customer_precision_at_100"] < 1
    logged = registry.client(shared.settings).get_run(version(shared).run_id).data.metrics
    found = calibration(test.labels, scores)
    expected |= {"calibration_error": found.error, "brier_score": found.brier_score}
    assert logged == pytest.approx(expected)
    for name, says in (
        ("precision_recall", "precision recall"),
        ("reliability", "reliability"),
    ):
        head, _, picture = shown[name].partition("base64,")
        assert head.startswith(f"![{says}](data:image/png")
        assert base64.b64decode(picture.rstrip(")")).startswith(b"\x89PNG")


def test_intervals_slices_calibration_and_latency_travel_with_the_version(shared: Platform) -> None:
    told = registry.load_document(shared.settings, version(shared), "evaluation.json")
    logged = registry.metrics(shared.settings, version(shared))
    assert told["metric"] == "average_precision" and told["draws"] == 1000
    for name in ("auc_roc", "average_precision", "precision", "recall", "customer_precision_at_100"):
        measured = told["metrics"][name]
        assert measured["value"] == pytest.approx(logged[name])
        assert measured["low"] < measured["value"] < measured["high"]
        assert measured["by"] in ("customer", "terminal")
    test, slices = arrays(shared)["test"], {part["name"]: part for part in told["slices"]}
    assert slices.keys() == {part.name for part in declared().slices}
    night = test.features[:, test.names.index("is_night")] == 1
    assert slices["night"]["rows"] == night.sum()
    assert slices["night"]["positives"] == test.labels[night].sum()
    assert slices["night"]["low"] < slices["night"]["value"] < slices["night"]["high"]
    assert sum(part["rows"] for part in told["calibration"]["bins"]) == len(test.labels)
    assert 0 < told["latency"]["p50_ms"] <= told["latency"]["p99_ms"]


def test_a_finished_training_leaves_two_finished_runs_one_inside_the_other(shared: Platform) -> None:
    runs = {run.info.run_id: run for run in mlflow_runs(shared)}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    trained = runs.pop(version(shared).run_id)
    assert trained.data.tags["mlflow.parentRunId"] in runs
    assert trained.info.run_name == f"fraud {LAST_DAY}"


@pytest.mark.parametrize(
    ("estimator", "said", "ended"),
    [
        ("Failing", "the solver diverged", "FAILED"),
        ("Interrupted", "Interrupt", "KILLED"),
        ("Signalled", "Interrupt", "KILLED"),
    ],
)
def test_a_training_that_does_not_finish_leaves_no_run_running_and_no_version(
    platform: Platform, estimator: str, said: str, ended: str
) -> None:
    before = {run.info.run_id for run in mlflow_runs(platform)}
    spec = declared(estimator=f"tests.models.estimators.{estimator}", parameters={}, preprocessing=(IMPUTER,))
    assert said in platform.refused(MODEL, LAST_DAY, changed=[spec])
    after = {
        run.info.run_name: run.info.status for run in mlflow_runs(platform) if run.info.run_id not in before
    }
    assert len(after) == 2 and "RUNNING" not in after.values()
    assert after[f"fraud {LAST_DAY}"] == ended
    assert version(platform).version == 1


def test_a_refused_gate_leaves_no_run_running_and_no_version(platform: Platform) -> None:
    nobody = changed_column(day_of_transactions(LAST_DAY).slice(0, 50), "terminal_id", [None] * 50)
    platform.deliver("transactions", nobody, known_at=f"{LAST_DAY}T23:59:59")
    platform.refused("sources/transactions", LAST_DAY)
    said = platform.refused(MODEL, LAST_DAY)
    assert f"sources/transactions [{LAST_DAY}] quality: 50 of" in said
    assert "terminal_id not null" in said and "Way out: " in said
    assert "RUNNING" not in {run.info.status for run in mlflow_runs(platform)}
    assert version(platform).version == 1


def test_an_estimator_whose_onnx_is_another_model_is_refused_by_name(platform: Platform) -> None:
    wrong = declared(parameters={"max_iter": 40, "categorical_features": [1], "random_state": 0})
    said = platform.refused(MODEL, LAST_DAY, changed=[wrong])
    assert f"onnx_parity: {BOOSTING}: " in said and "of 6,374 test rows differ" in said
    assert "It was not published; the last good version stays." in said
    assert version(platform).version == 1
    assert registry.champion(platform.settings, "fraud") == version(platform)
    check = platform.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey(["models", "fraud"]), "onnx_parity")]
    )
    assert [record.evaluation.passed for record in check.values() if record.evaluation] == [False]


@pytest.mark.parametrize(
    ("estimator", "parameters", "preprocessing"),
    [
        ("sklearn.linear_model.LogisticRegression", {"max_iter": 200}, (IMPUTER, SCALER)),
        (
            "sklearn.ensemble.RandomForestClassifier",
            {"n_estimators": 20, "max_depth": 8, "random_state": 0},
            (IMPUTER,),
        ),
        ("sklearn.ensemble.GradientBoostingClassifier", {"n_estimators": 10, "random_state": 0}, (IMPUTER,)),
        (BOOSTING, {"max_iter": 30, "random_state": 0}, (SCALER,)),
    ],
)
def test_usual_estimators_train_on_the_set_and_answer_alike_as_onnx(
    shared: Platform, estimator: str, parameters: dict[str, Any], preprocessing: tuple[Preprocessing, ...]
) -> None:
    spec = declared(estimator=estimator, parameters=parameters, preprocessing=preprocessing)
    trained = fit(spec, arrays(shared))
    assert trained.parity.passed and trained.parity.rows == 6374
    assert trained.metrics["auc_roc"] > 0.6


def test_a_set_whose_inputs_were_published_again_is_refused_until_it_is_built_again(
    platform: Platform,
) -> None:
    late = changed_column(day_of_transactions("2018-06-15").slice(0, 1), "transaction_id", [999_999_999])
    platform.deliver("transactions", late)
    platform.make("sources/transactions", "2018-06-15")
    said = platform.refused(MODEL, LAST_DAY)
    assert (
        f"training_sets/fraud [{LAST_DAY}] inputs: was made from rows that are no longer the published"
        in said
    )
    assert f"Way out: materialize training_sets/fraud {LAST_DAY}" in said
    assert version(platform).version == 1
    for view in ("features/customer_spending", "features/terminal_risk"):
        platform.make(view, "2018-06-15", LAST_DAY)
    platform.make("drift_profiles/fraud", "2018-06-15", LAST_DAY)
    platform.make("training_sets/fraud", LAST_DAY)
    platform.make(MODEL, LAST_DAY)
    assert [found.version for found in registry.versions(platform.settings, "fraud")] == [1, 2]


def test_what_was_known_after_the_days_that_a_model_reads_closes_nothing(platform: Platform) -> None:
    late = changed_column(day_of_transactions("2018-06-15").slice(0, 1), "transaction_id", [999_999_999])
    platform.deliver("transactions", late, known_at=f"{NEXT_DAY}T00:00:01")
    before = platform.hashes("sources/transactions")
    platform.make("sources/transactions", "2018-06-15")
    assert platform.hashes("sources/transactions") != before
    platform.make(MODEL, LAST_DAY)
    assert [found.version for found in registry.versions(platform.settings, "fraud")] == [1, 2]


def test_a_set_that_was_declared_otherwise_is_refused(platform: Platform) -> None:
    rows = declared().training_set_spec(platform.catalog).model_copy(update={"description": "Another."})
    said = platform.refused(MODEL, LAST_DAY, changed=[rows])
    assert "have changed: the declaration of TrainingSet/fraud." in said
    assert version(platform).version == 1
