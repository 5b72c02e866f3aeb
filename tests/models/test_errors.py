"""Errors of forecasts: those of scikit-learn where it has them, and of drawn entities those of their rows repeated."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn import metrics as reference

from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.models.compute import build_estimator, parity, to_onnx, train
from ml_platform.models.errors import MEASURES, error_of_draws, errors
from ml_platform.models.resampling import difference
from ml_platform.models.spec import REGRESSION, ModelSpec
from ml_platform.training_sets.store import Arrays

NUMBERS = st.floats(-1000, 1000).map(lambda value: round(value, 2))
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=30)
SPEC = ModelSpec(
    name="demand", training_set="demand", estimator="sklearn.linear_model.LinearRegression", metric="mae"
)


@given(rows=ROWS)
def test_errors_are_those_of_scikit_learn(rows: list[tuple[float, float]]) -> None:
    labels, scores = np.array(rows).T
    found = errors(labels, scores)
    assert found["rows"] == len(rows)
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(labels, scores))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(labels, scores))
    some = labels != 0
    if some.any():
        expected = reference.mean_absolute_percentage_error(labels[some], scores[some])
        assert found["mape"] == pytest.approx(expected)
        assert found["wape"] == pytest.approx(np.abs(labels - scores).sum() / np.abs(labels).sum())
    else:
        assert not {"mape", "wape"} & found.keys()
    if len(set(labels)) > 1:
        assert found["r2"] == pytest.approx(reference.r2_score(labels, scores), rel=1e-6, abs=1e-6)
    else:
        assert "r2" not in found


@given(rows=ROWS, data=st.data())
def test_an_error_of_drawn_entities_is_that_of_their_rows_repeated(
    rows: list[tuple[float, float]], data: st.DataObject
) -> None:
    units = np.unique(data.draw(st.tuples(*(st.integers(0, 4) for _ in rows))), return_inverse=True)[1]
    count = int(units.max()) + 1
    drawn = np.array(data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count)))
    labels, scores = np.array(rows).T
    again = np.repeat(np.arange(len(rows)), drawn[units])
    assume(len(again))
    expected = errors(labels[again], scores[again])
    spread = np.ptp(labels[again])
    assume(spread == 0 or spread > 1e-3 * np.ptp(labels))  # less is what rounding leaves of larger numbers
    for metric in REGRESSION:
        (value,) = error_of_draws(metric, labels, scores, units)(drawn[:, None].astype(float))
        expect = pytest.approx(expected.get(metric, np.nan), rel=1e-6, abs=1e-6, nan_ok=True)
        assert value == expect, metric


def test_every_declared_metric_of_numbers_is_measured() -> None:
    assert tuple(MEASURES) == REGRESSION


@pytest.mark.parametrize(
    ("labels", "scores"),
    [([], []), ([1.0], [1.0, 2.0]), ([1.0], [np.nan]), ([np.inf], [1.0])],
    ids=["no rows", "other lengths", "a score that is none", "a label without end"],
)
def test_rows_that_cannot_be_judged_are_refused(labels: list[float], scores: list[float]) -> None:
    with pytest.raises(InputError, match="finite score and a finite label"):
        errors(np.array(labels), np.array(scores))


def test_less_error_is_better_when_two_versions_are_compared() -> None:
    random = np.random.default_rng(0)
    labels = random.normal(50, 10, 400)
    rows = Arrays(
        features=np.zeros((400, 1), np.float32),
        labels=labels,
        names=("x",),
        days=np.full(400, np.datetime64("2024-01-01")),
        entities={"place": random.integers(0, 20, 400)},
    )
    near, far = labels + random.normal(0, 1, 400), labels + random.normal(0, 5, 400)
    found = difference(SPEC, rows, near, far, margin=0.1, seed=1)
    back = difference(SPEC, rows, far, near, margin=0.1, seed=1)
    assert found is not None and back is not None
    assert 0 < found.interval.low < found.interval.high and found.worse == 0
    assert back.interval.high < 0 and back.worse == 1


def test_a_forecast_is_as_near_to_the_estimators_as_its_size_allows() -> None:
    random = np.random.default_rng(1)
    features = random.normal(0, 1, (500, 3)).astype(np.float32)
    labels = 1e5 * features[:, 0].astype(np.float64)
    estimator = build_estimator(
        "sklearn.ensemble.GradientBoostingRegressor", {"n_estimators": 20}, numbers=True
    )
    fitted = train(estimator, features, labels)
    onnx = to_onnx(fitted, features, ["a", "b", "c"])
    report = parity(fitted, onnx, features, tolerance=1e-6)
    assert 1e-10 < report.max_difference < 1e-6 and report.passed, report
    assert not parity(fitted, onnx, features, tolerance=1e-10).passed


def test_a_classifier_forecasts_no_numbers() -> None:
    with pytest.raises(DeclarationError, match="A regressor is required to forecast numbers"):
        build_estimator("sklearn.linear_model.LogisticRegression", {}, numbers=True)


def test_what_is_of_classes_is_refused_of_a_model_of_numbers() -> None:
    with pytest.raises(ValueError, match="threshold must not be declared with metric 'mape'"):
        ModelSpec(
            name="demand",
            training_set="demand",
            estimator="sklearn.linear_model.LinearRegression",
            metric="mape",
            threshold=0.5,
        )
