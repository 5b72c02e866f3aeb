"""Intervals: a metric on rows whose entities were drawn again is that metric on the rows so repeated."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ml_platform.models.compute import Array
from ml_platform.models.evaluation import measure
from ml_platform.models.resampling import difference, intervals, seed_of, statistic, units_of
from ml_platform.models.spec import CLASSIFICATION as METRICS
from ml_platform.models.spec import EntityPrecision
from ml_platform.training_sets.store import Arrays
from tests.models.test_evaluation import declared

BY_CUSTOMER = "customer_precision_at_2"
Row = tuple[int, int, int, int]
"""Customer (-1 for none), day, label, score in tenths."""

ROWS = st.lists(
    st.tuples(st.integers(-1, 4), st.integers(0, 2), st.integers(0, 1), st.integers(0, 5)),
    min_size=1,
    max_size=30,
)


SPEC = declared().model_copy(
    update={"entity_precision_at_k": (EntityPrecision(entity="customer", k=2),), "threshold": 0.3}
)


def arrays(rows: list[Row]) -> tuple[Arrays, Array]:
    customers, days, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    found = Arrays(
        features=np.zeros((len(rows), 1), np.float32),
        labels=labels,
        names=("amount",),
        days=np.datetime64("2018-06-01") + days,
        entities={"customer": customers},
    )
    return found, scores / 10


def repeated(rows: list[Row], drawn: list[int]) -> list[Row]:
    """The rows with each customer, and each row without one, as often as it was drawn: every copy is another one."""
    units = units_of(arrays(rows)[0], "customer").tolist()
    copies = [(row, unit, copy) for row, unit in zip(rows, units, strict=True) for copy in range(drawn[unit])]
    return [(-1 if row[0] < 0 else 100 * unit + copy, *row[1:]) for row, unit, copy in copies]


@settings(max_examples=60)
@given(rows=ROWS, data=st.data())
def test_a_metric_of_drawn_entities_is_that_of_their_rows_repeated(
    rows: list[Row], data: st.DataObject
) -> None:
    found, scores = arrays(rows)
    units = units_of(found, "customer")
    count = len(np.unique(units))
    drawn = data.draw(st.lists(st.integers(0, 3), min_size=count, max_size=count))
    again = repeated(rows, drawn)
    labels, days = {label for _, _, label, _ in again}, {day for _, day, _, _ in rows}
    assume(labels == {0, 1} and {day for _, day, _, _ in again} == days)
    expected, weights = measure(SPEC, *arrays(again)), np.array(drawn, float)[:, None]
    for metric in (*METRICS, BY_CUSTOMER):
        (value,) = statistic(SPEC, metric, found, scores, units)(weights)
        assert value == pytest.approx(expected[metric], abs=1e-12), metric


def rows_at_random(count: int, *, seed: int = 0) -> tuple[Arrays, Array]:
    random = np.random.default_rng(seed)
    labels = (random.random(count) < 0.1).astype(int)
    scores = np.clip(np.round(random.normal(3 + 2 * labels, 1.5)), 0, 10).astype(int)
    customers, days = random.integers(-1, count // 4, count), random.integers(0, 3, count)
    columns = (column.tolist() for column in (customers, days, labels, scores))
    return arrays(list(zip(*columns, strict=True)))


@pytest.mark.parametrize("metric", [*METRICS, BY_CUSTOMER])
def test_the_interval_is_around_the_metric_and_the_same_for_the_same_content(metric: str) -> None:
    rows, scores = rows_at_random(800)
    seed = seed_of("content of the set", 3, 2)
    (found,) = intervals(SPEC, [metric], rows, scores, seed=seed).values()
    assert found.low < measure(SPEC, rows, scores)[metric] < found.high
    assert found.by == "customer" and 0 < found.width < 0.8
    again = intervals(SPEC, [metric], rows, scores, seed=seed_of("content of the set", 3, 2))
    assert again == {metric: found}
    other = intervals(SPEC, [metric], rows, scores, seed=seed_of("content of the set", 4, 2))
    assert other != again


def test_rows_that_repeat_within_their_entity_make_nothing_surer() -> None:
    rows, scores = rows_at_random(400)
    rows.entities["customer"][:] = np.arange(400)
    many = Arrays(
        np.repeat(rows.features, 9, axis=0),
        np.repeat(rows.labels, 9),
        rows.names,
        np.repeat(rows.days, 9),
        {"customer": np.repeat(rows.entities["customer"], 9)},
    )
    once = intervals(SPEC, METRICS, rows, scores, seed=1)
    often = intervals(SPEC, METRICS, many, np.repeat(scores, 9), seed=1)
    for metric in METRICS:
        assert (often[metric].low, often[metric].high) == pytest.approx((once[metric].low, once[metric].high))


def test_the_entity_that_makes_a_metric_least_sure_counts() -> None:
    """Terminals share their frauds here: to draw customers alone would call that ten times the evidence."""
    rows, scores = rows_at_random(2_000)
    terminals = np.arange(2_000) % 40
    labels = (terminals < 6).astype(int)
    found = Arrays(rows.features, labels, rows.names, rows.days, {**rows.entities, "terminal": terminals})
    both = intervals(SPEC, ["recall", BY_CUSTOMER], found, scores, seed=1)
    assert both["recall"].by == "terminal"
    assert both[BY_CUSTOMER].by == "customer", "a precision of customers is drawn by customers"
    by_customer = Arrays(rows.features, labels, rows.names, rows.days, rows.entities)
    assert both["recall"].width >= intervals(SPEC, ["recall"], by_customer, scores, seed=1)["recall"].width


def test_a_version_never_differs_from_itself() -> None:
    rows, scores = rows_at_random(500)
    found = difference(SPEC, rows, scores, scores, margin=0.0, seed=1)
    assert found is not None
    assert (found.interval.low, found.interval.high, found.worse) == (0, 0, 0)


def test_two_versions_on_the_same_draws_are_told_apart_where_two_intervals_overlap() -> None:
    rows, _ = rows_at_random(1_500)
    scores = np.random.default_rng(1).normal(2.0 * rows.labels)
    better = scores + 0.2 * rows.labels
    one, other = (intervals(SPEC, [SPEC.metric], rows, s, seed=1)[SPEC.metric] for s in (scores, better))
    assert one.high > other.low
    found = difference(SPEC, rows, better, scores, margin=0.0, seed=1)
    assert found is not None and found.interval.low > 0 and found.worse == 0
    back = difference(SPEC, rows, scores, better, margin=0.0, seed=1)
    assert back is not None and back.worse == 1


def test_rows_without_a_positive_have_no_difference() -> None:
    rows, scores = arrays([(1, 0, 0, 3), (2, 0, 0, 4)])
    assert difference(SPEC, rows, scores, scores, margin=0.1, seed=1) is None
