"""A declared estimator becomes a trained model, the same model in ONNX, and its measures."""

import datetime
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.models.compute import (
    build_estimator,
    onnx_session,
    parity,
    predict_onnx,
    to_onnx,
    train,
)
from ml_platform.models.evaluation import evaluate
from ml_platform.models.plots import precision_recall_plot

Array = npt.NDArray[Any]
NAMES = ("amount", "hour", "weekday", "seen", "mean_before", "ratio", "risk_before")
LOGISTIC = "sklearn.linear_model.LogisticRegression"
FOREST = "sklearn.ensemble.RandomForestClassifier"
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
SCALER = {"estimator": "sklearn.preprocessing.StandardScaler"}
IMPUTER = {"estimator": "sklearn.impute.SimpleImputer", "parameters": {"strategy": "median"}}


@dataclass(frozen=True)
class Rows:
    features: Array
    labels: Array


def before(keys: Array, values: Array) -> tuple[Array, Array]:
    """How many earlier rows have the same key, and the mean of their values (0 without any)."""
    order = np.argsort(keys, kind="stable")
    sums, starts = np.cumsum(values[order]) - values[order], np.searchsorted(keys[order], keys[order])
    counts = np.arange(len(keys)) - starts
    means = (sums - sums[starts]) / np.maximum(counts, 1)
    back = np.argsort(order, kind="stable")
    return counts[back], means[back]


@pytest.fixture(scope="module")
def rows() -> dict[str, Rows]:
    """Simulated payments with simple features, float32: 20 days to train on, and the 10 days after them."""
    first = datetime.date(2018, 4, 1)
    table = simulate(first_day=first, last_day=first + datetime.timedelta(days=59), scale=0.1)
    amount, labels = table["tx_amount"].to_numpy(), table["tx_fraud"].to_numpy()
    seen, mean = before(table["customer_id"].to_numpy(), amount)
    _, risk = before(table["terminal_id"].to_numpy(), labels.astype(np.float64))
    seconds, days = table["tx_time_seconds"].to_numpy(), table["tx_time_days"].to_numpy()
    ratio = np.divide(amount, mean, out=np.ones_like(amount), where=mean > 0)
    columns = [amount, seconds % 86_400 // 3_600, days % 7, seen, mean, ratio, risk]
    features = np.column_stack(columns).astype(np.float32)
    train_days, test_days = (days >= 30) & (days < 50), days >= 50
    return {
        "train": Rows(features[train_days], labels[train_days]),
        "test": Rows(features[test_days], labels[test_days]),
    }


EQUAL: dict[str, tuple[str, dict[str, Any], tuple[dict[str, Any], ...]]] = {
    "logistic regression with scaler": (LOGISTIC, {"max_iter": 1_000}, (SCALER,)),
    "logistic regression with imputer": (LOGISTIC, {"max_iter": 1_000}, (IMPUTER, SCALER)),
    "random forest": (FOREST, {"n_estimators": 20, "max_depth": 10, "random_state": 0}, ()),
    "random forest with scaler": (
        FOREST,
        {"n_estimators": 20, "max_depth": 10, "random_state": 0},
        (SCALER,),
    ),
    "boosting": (BOOSTING, {"max_iter": 40, "random_state": 0}, ()),
    "boosting with scaler": (BOOSTING, {"max_iter": 40, "random_state": 0}, (SCALER,)),
    "boosting with two steps": (
        BOOSTING,
        {"max_iter": 40, "random_state": 0},
        (SCALER, {"estimator": "sklearn.decomposition.PCA", "parameters": {"n_components": 4}}),
    ),
    "boosting regression": ("sklearn.ensemble.HistGradientBoostingRegressor", {"random_state": 0}, ()),
}


@pytest.mark.parametrize("name", EQUAL)
def test_a_converted_model_gives_the_estimators_scores_on_every_row(name: str, rows: dict[str, Rows]) -> None:
    path, parameters, preprocessing = EQUAL[name]
    estimator = build_estimator(path, parameters, preprocessing=preprocessing)
    fitted = train(estimator, rows["train"].features, rows["train"].labels)
    model = to_onnx(fitted, rows["train"].features, NAMES)
    report = parity(fitted, model, rows["test"].features)
    assert report.passed
    assert report.rows == len(rows["test"].features)
    assert report.rows_over_tolerance == 0
    assert report.max_difference < 5e-6


def test_missing_values_are_scored_alike_by_a_model_that_takes_them(rows: dict[str, Rows]) -> None:
    holes = np.random.default_rng(0)
    features = {name: each.features.copy() for name, each in rows.items()}
    for array in features.values():
        array[holes.random(array.shape) < 0.1] = np.nan
    estimator = build_estimator(BOOSTING, {"max_iter": 20, "random_state": 0})
    fitted = train(estimator, features["train"], rows["train"].labels)
    assert parity(fitted, to_onnx(fitted, features["train"], NAMES), features["test"]).passed


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        (BOOSTING, {"categorical_features": [1, 2], "random_state": 0}),
        ("sklearn.ensemble.HistGradientBoostingRegressor", {"loss": "poisson", "random_state": 0}),
    ],
    ids=["categorical features", "log link"],
)
def test_a_conversion_that_is_another_model_fails_parity(
    path: str, parameters: dict[str, Any], rows: dict[str, Rows]
) -> None:
    fitted = train(build_estimator(path, parameters), rows["train"].features, rows["train"].labels)
    report = parity(fitted, to_onnx(fitted, rows["train"].features, NAMES), rows["test"].features)
    assert not report.passed
    assert report.rows_over_tolerance > 100
    assert report.max_difference > 0.01


def test_one_row_over_the_tolerance_fails_and_is_counted(rows: dict[str, Rows]) -> None:
    fitted = train(build_estimator(LOGISTIC, {}, preprocessing=(SCALER,)), *trained_on(rows))
    features = rows["test"].features
    model = to_onnx(fitted, features, NAMES)

    class OneRowOff:
        def predict_proba(self, features: Array) -> Array:
            scores = fitted.predict_proba(features).astype(np.float64)
            scores[17, 1] += 2e-4
            return scores

    report = parity(OneRowOff(), model, features)
    assert (report.rows_over_tolerance, report.passed) == (1, False)
    assert report.max_difference == pytest.approx(2e-4, rel=0.01)
    assert parity(OneRowOff(), model, features, 3e-4).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_numbers_are_never_equal(value: float, rows: dict[str, Rows]) -> None:
    fitted = train(build_estimator(LOGISTIC, {}, preprocessing=(SCALER,)), *trained_on(rows))
    features = rows["test"].features

    class NotANumber:
        def predict_proba(self, features: Array) -> Array:
            return np.full((len(features), 2), value)

    report = parity(NotANumber(), to_onnx(fitted, features, NAMES), features)
    assert report.rows_over_tolerance == report.rows
    assert report.max_difference == np.inf


def test_parity_of_no_rows_proves_nothing_and_is_refused(rows: dict[str, Rows]) -> None:
    fitted = train(build_estimator(LOGISTIC, {}, preprocessing=(SCALER,)), *trained_on(rows))
    model = to_onnx(fitted, rows["train"].features, NAMES)
    with pytest.raises(InputError, match="Parity needs rows"):
        parity(fitted, model, rows["test"].features[:0])
    assert predict_onnx(model, rows["test"].features[:0]).shape == (0,)


def trained_on(rows: dict[str, Rows]) -> tuple[Array, Array]:
    return rows["train"].features, rows["train"].labels


def test_training_leaves_the_estimator_as_it_was_declared(rows: dict[str, Rows]) -> None:
    estimator = build_estimator(FOREST, {"n_estimators": 3, "random_state": 0, "n_jobs": 2})
    fitted = train(estimator, *trained_on(rows))
    assert not hasattr(estimator, "estimators_")
    assert fitted.get_params() == estimator.get_params()
    assert fitted.n_jobs == 2


def test_the_model_names_its_features_and_takes_batches_of_any_size(rows: dict[str, Rows]) -> None:
    fitted = train(build_estimator(FOREST, {"n_estimators": 3, "random_state": 0}), *trained_on(rows))
    session = onnx_session(to_onnx(fitted, rows["train"].features, NAMES))
    (declared,) = session.get_inputs()
    assert (declared.name, declared.type, declared.shape[1]) == ("features", "tensor(float)", len(NAMES))
    assert json.loads(session.get_modelmeta().custom_metadata_map["feature_names"]) == list(NAMES)
    features = rows["test"].features
    one_by_one = np.concatenate([predict_onnx(session, row[None]) for row in features[:50]])
    assert np.array_equal(one_by_one, predict_onnx(session, features)[:50])


BYTES_IN_A_PROCESS = """
import hashlib, numpy as np
from ml_platform.models.compute import build_estimator, to_onnx, train
features = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
step = {"estimator": "sklearn.preprocessing.StandardScaler"}
estimator = build_estimator("sklearn.linear_model.LogisticRegression", {}, preprocessing=[step])
fitted = train(estimator, features, (features[:, 0] > 0).astype(int))
print(hashlib.sha256(to_onnx(fitted, features, ["a", "b", "c"])).hexdigest())
"""


def test_equal_estimators_give_equal_bytes_whatever_the_hash_seed_of_the_process() -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", BYTES_IN_A_PROCESS],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2", "3")
    ]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("path", "parameters", "texts"),
    [
        ("LogisticRegression", {}, ["full path"]),
        ("sklearn.ensembles.RandomForestClassifier", {}, ["Did you mean ensemble"]),
        ("sklearn.ensemble.RandomForestClasifier", {}, ["Did you mean RandomForestClassifier"]),
        ("no_such_package.Model", {}, ["no_such_package", "installed"]),
        ("sklearn.metrics.roc_auc_score", {}, ["fit and predict", "is not that"]),
        ("sklearn.preprocessing.StandardScaler", {}, ["fit and predict"]),
        (LOGISTIC, {"max_iters": 5}, ["max_iters", "Did you mean max_iter?"]),
        (LOGISTIC, {"zzz": 5}, ["zzz", "Valid names: C, class_weight"]),
        (LOGISTIC, {"max_iter": "many"}, ["'max_iter' parameter", "'many'"]),
        ("sklearn.svm.LinearSVC", {}, ["probabilities"]),
    ],
)
def test_a_declaration_that_cannot_be_built_names_what_could_be_meant(
    path: str, parameters: dict[str, Any], texts: list[str]
) -> None:
    with pytest.raises(DeclarationError) as raised:
        build_estimator(path, parameters)
    for text in [path, "No estimator was built", *texts]:
        assert text in str(raised.value)


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ({"estimator": "sklearn.preprocessing.StandardScalar"}, "Did you mean StandardScaler?"),
        ({"estimator": LOGISTIC}, "fit and transform"),
        ({"class": "sklearn.preprocessing.StandardScaler"}, "needs `estimator`"),
        ({**SCALER, "with_mean": False}, "may have `parameters`"),
    ],
)
def test_a_preprocessing_step_that_cannot_be_built_is_refused(step: dict[str, Any], text: str) -> None:
    with pytest.raises(DeclarationError, match=text):
        build_estimator(LOGISTIC, {}, preprocessing=[step])


@pytest.mark.parametrize(
    ("path", "step"),
    [
        (LOGISTIC, {"estimator": "sklearn.preprocessing.SplineTransformer"}),
        (BOOSTING, {**IMPUTER, "parameters": {"add_indicator": True}}),
    ],
    ids=["not converted", "converted but does not run"],
)
def test_an_estimator_without_a_conversion_that_runs_is_refused(path: str, step: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1_000, len(NAMES))).astype(np.float32)
    labels = (features[:, 0] > 0).astype(np.int64)
    if "impute" in step["estimator"]:
        features[labels == 1, 1] = np.nan  # only the indicator tells the label
        features[:, 0] = 0
    fitted = train(build_estimator(path, {}, preprocessing=[step]), features, labels)
    with pytest.raises(DeclarationError, match="has no conversion that runs"):
        to_onnx(fitted, features, NAMES)


def test_features_that_are_not_the_models_are_refused(rows: dict[str, Rows]) -> None:
    fitted = train(build_estimator(LOGISTIC, {}, preprocessing=(SCALER,)), *trained_on(rows))
    features = rows["test"].features
    model = to_onnx(fitted, features, NAMES)
    for wrong in (features.astype(np.float64), features[:, :3], features[0]):
        with pytest.raises(InputError, match=r"needs float32 features \(n, 7\)"):
            predict_onnx(model, wrong)
    for names in (NAMES[:3], (*NAMES[:6], NAMES[0])):
        with pytest.raises(InputError, match="one name, used once, per feature"):
            to_onnx(fitted, features, names)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([0, 1, 0], "one label per row"),
        ([0, 0, 0, 0], "labels 0 and 1, both"),
        ([0, 1, 2, 1], "labels 0 and 1, both"),
        ([0, 1, 0, 1], "contains NaN"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(labels: list[int], text: str) -> None:
    features = np.array([[1], [2], [3], [np.nan]], dtype=np.float32)
    with pytest.raises(InputError, match=text):
        train(build_estimator(LOGISTIC, {}), features, np.array(labels))


def naive_measures(labels: Array, scores: Array, threshold: float) -> dict[str, float]:
    """The measures by their definitions, pair by pair and threshold by threshold."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    pairs = positive[:, None] - negative[None]
    average, recall_before = 0.0, 0.0
    for cut in sorted(set(scores), reverse=True):
        chosen = labels[scores >= cut]
        recall = chosen.sum() / len(positive)
        average += (recall - recall_before) * chosen.mean()
        recall_before = recall
    alerts = labels[scores >= threshold]
    return {
        "auc_roc": float(((pairs > 0) + 0.5 * (pairs == 0)).mean()),
        "average_precision": average,
        "precision": alerts.mean() if len(alerts) else 0.0,
        "recall": alerts.sum() / len(positive),
        "positives": len(positive),
        "rows": len(labels),
    }


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 10)), min_size=2, max_size=40).filter(
        lambda pairs: len({label for label, _ in pairs}) == 2
    ),
    threshold=st.integers(-1, 11),
)
def test_measures_are_those_of_their_definitions(pairs: list[tuple[int, int]], threshold: int) -> None:
    labels, scores = np.array([label for label, _ in pairs]), np.array([score / 10 for _, score in pairs])
    measured = evaluate(labels, scores, threshold=threshold / 10)
    assert measured == pytest.approx(naive_measures(labels, scores, threshold / 10), abs=1e-12)


def test_measures_of_a_model_are_scikit_learns(rows: dict[str, Rows]) -> None:
    from sklearn import metrics

    fitted = train(build_estimator(BOOSTING, {"max_iter": 30, "random_state": 0}), *trained_on(rows))
    labels = rows["test"].labels
    scores = predict_onnx(to_onnx(fitted, rows["train"].features, NAMES), rows["test"].features)
    alerts = scores.astype(np.float64) >= 0.5
    assert alerts.any()
    assert evaluate(labels, scores, threshold=0.5) == pytest.approx(
        {
            "auc_roc": metrics.roc_auc_score(labels, scores),
            "average_precision": metrics.average_precision_score(labels, scores),
            "precision": metrics.precision_score(labels, alerts),
            "recall": metrics.recall_score(labels, alerts),
            "positives": labels.sum(),
            "rows": len(labels),
        }
    )


def test_a_float32_score_below_the_threshold_is_no_alert() -> None:
    scores = np.array([0.7, 0.1], dtype=np.float32)  # float32 rounds 0.7 down
    assert evaluate(np.array([1, 0]), scores, threshold=0.7)["recall"] == 0


def test_a_threshold_above_all_scores_has_precision_and_recall_0() -> None:
    measured = evaluate(np.array([1, 0]), np.array([0.6, 0.2]), threshold=0.9)
    assert (measured["precision"], measured["recall"]) == (0, 0)


@pytest.mark.parametrize(
    ("labels", "scores", "text"),
    [
        ([0, 0, 0], [0.1, 0.2, 0.3], r"labels 0 and 1, both; 3 rows with labels \[0\]"),
        ([1, 1], [0.1, 0.2], "labels 0 and 1, both"),
        ([], [], "labels 0 and 1, both"),
        ([0, 1], [0.1, np.nan], "1 not finite"),
        ([0, 1, 1], [0.1, 0.2], "finite score per label"),
    ],
)
def test_rows_that_have_no_measures_are_refused(labels: list[int], scores: list[float], text: str) -> None:
    with pytest.raises(InputError, match=text):
        evaluate(np.array(labels), np.array(scores), threshold=0.5)
    with pytest.raises(InputError, match=text):
        precision_recall_plot(np.array(labels), np.array(scores), threshold=0.5, title="a title")


def test_the_plot_is_a_png_that_moves_with_the_threshold_and_stays_without() -> None:
    from matplotlib.image import imread

    rng = np.random.default_rng(0)
    labels = (rng.random(2_000) < 0.1).astype(np.int64)
    scores = np.clip(rng.normal(0.3 + 0.3 * labels, 0.15), 0, 1)
    low, again, high = (
        precision_recall_plot(labels, scores, threshold=threshold, title="models/fraud 2018-08-01")
        for threshold in (0.4, 0.4, 0.7)
    )
    assert low == again
    assert low != high
    picture = imread(io.BytesIO(low))
    assert picture.shape == (600, 840, 4)
    assert np.unique(picture.reshape(-1, 4), axis=0).shape[0] > 50
