"""Calibration and latency: can scores be read as probabilities, and how long does one take?"""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from ml_platform.kernel.errors import InputError
from ml_platform.models.calibration import calibration
from ml_platform.models.compute import build_estimator, to_onnx, train
from ml_platform.models.latency import latency
from ml_platform.models.plots import reliability_plot


def naive_error(labels: list[int], scores: list[float]) -> float:
    """Bin by bin, by its definition."""
    error = 0.0
    for number in range(10):
        last = number == 9
        inside = [i for i, s in enumerate(scores) if int(s * 10) == number or (last and s == 1)]
        if inside:
            share = sum(labels[i] for i in inside) / len(inside)
            mean = sum(scores[i] for i in inside) / len(inside)
            error += len(inside) / len(scores) * abs(share - mean)
    return error


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=50).filter(
        lambda rows: {label for label, _ in rows} == {0, 1}
    )
)
def test_the_calibration_error_is_that_of_its_definition(rows: list[tuple[int, float]]) -> None:
    labels, scores = (list(column) for column in zip(*rows, strict=True))
    found = calibration(np.array(labels), np.array(scores))
    assert found.error == pytest.approx(naive_error(labels, scores), abs=1e-12)
    assert found.brier_score == pytest.approx(np.mean([(s - y) ** 2 for y, s in rows]))
    assert sum(one.rows for one in found.bins) == len(rows)


def test_probabilities_have_hardly_an_error_and_scores_that_promise_too_much_have_one() -> None:
    random = np.random.default_rng(0)
    chances = random.beta(1, 20, 20_000)
    labels = (random.random(20_000) < chances).astype(int)
    honest, boastful = calibration(labels, chances), calibration(labels, np.sqrt(chances))
    assert honest.error < 0.005 < 0.1 < boastful.error
    assert boastful.error == pytest.approx(np.sqrt(chances).mean() - labels.mean(), abs=0.02)


def test_the_reliability_plot_shows_the_bins() -> None:
    random = np.random.default_rng(0)
    scores = random.random(2_000)
    labels = (random.random(2_000) < scores**2).astype(int)
    png = reliability_plot(calibration(labels, scores), title="fraud 2018-06-26")
    assert png == reliability_plot(calibration(labels, scores), title="fraud 2018-06-26")
    assert png != reliability_plot(calibration(labels, scores**2), title="fraud 2018-06-26")
    assert imread(io.BytesIO(png)).shape[:2] == (600, 840)


def test_latency_is_of_single_rows_and_needs_some() -> None:
    random = np.random.default_rng(0)
    rows = random.random((300, 3)).astype(np.float32)
    labels = (rows[:, 0] > 0.5).astype(int)
    fitted = train(build_estimator("sklearn.linear_model.LogisticRegression", {}), rows, labels)
    onnx = to_onnx(fitted, rows, ["a", "b", "c"])
    found = latency(onnx, rows)
    assert 0 < found.p50_ms <= found.p99_ms
    with pytest.raises(InputError, match="Latency needs rows"):
        latency(onnx, rows[:0])
