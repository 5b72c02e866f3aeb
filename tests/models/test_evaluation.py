"""Precision at k of entities: what so many inspections a day would have found."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform import declarations
from ml_platform.kernel.errors import DeclarationError
from ml_platform.model_registry import registry
from ml_platform.models.component import fit
from ml_platform.models.evaluation import entity_precision_at_k, measure
from ml_platform.models.spec import EntityPrecision, ModelSpec
from ml_platform.training_sets import store
from tests.built import Platform
from tests.support import LAST_DAY

Row = tuple[int, int, int, float]
"""Entity (-1 for none), day, label, score."""


def naive(rows: list[Row], k: int) -> float:
    """Inspect k entities a day, one after the other, never again one that was found."""
    found: set[int] = set()
    hits = 0
    days = sorted({day for _, day, _, _ in rows})
    for today in days:
        of_today = [
            (entity, label, score) for entity, day, label, score in rows if day == today and entity >= 0
        ]
        left = {entity for entity, _, _ in of_today} - found
        suspicion = {one: max(score for entity, _, score in of_today if entity == one) for one in left}
        for one in sorted(left, key=lambda one: (-suspicion[one], one))[:k]:
            if any(label == 1 for entity, label, _ in of_today if entity == one):
                found.add(one)
                hits += 1
    return hits / k / len(days)


def measured(rows: list[Row], k: int) -> float:
    entities, days, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    return entity_precision_at_k(entities, days, labels, scores.astype(float), k=k)


@given(
    rows=st.lists(
        st.tuples(st.integers(-1, 4), st.integers(0, 3), st.integers(0, 1), st.integers(0, 4).map(float)),
        min_size=1,
        max_size=40,
    ),
    k=st.integers(1, 6),
)
def test_precision_at_k_is_that_of_an_inspector_who_goes_day_by_day(rows: list[Row], k: int) -> None:
    assert measured(rows, k) == pytest.approx(naive(rows, k), abs=1e-12)


def test_an_entity_that_was_found_is_not_inspected_again() -> None:
    rows = [(1, 0, 1, 0.9), (2, 0, 0, 0.1), (1, 1, 1, 0.9), (2, 1, 1, 0.1)]
    assert measured(rows, 1) == 1.0


def test_an_entity_counts_once_a_day_with_its_highest_score_and_any_positive() -> None:
    rows = [(1, 0, 1, 0.2), (1, 0, 0, 0.8), (2, 0, 0, 0.5), (3, 0, 0, 0.4)]
    assert measured(rows, 1) == 1.0


def test_a_day_with_fewer_entities_than_k_is_still_divided_by_k() -> None:
    assert measured([(1, 0, 1, 0.9)], 4) == 0.25


def test_rows_without_an_entity_are_never_found() -> None:
    assert measured([(-1, 0, 1, 0.9), (2, 0, 1, 0.1)], 1) == 1.0
    assert measured([(-1, 0, 1, 0.9)], 1) == 0.0


def declared() -> ModelSpec:
    return declarations.load().get(ModelSpec, "fraud", wanted_by="a test")


def test_a_models_precision_at_k_is_that_of_the_entities_of_its_test_rows(shared: Platform) -> None:
    """From the customers in the training set's table, without the arrays that the model was measured with."""
    spec = declared()
    rows = spec.training_set_spec(shared.catalog)
    manifest = store.read_manifest(shared.settings, rows, LAST_DAY)
    arrays = store.read_arrays(shared.settings, rows, manifest)
    trained = fit(spec, arrays)
    table = shared.rows("training_sets/fraud", LAST_DAY).to_pandas()
    test = table[table.split == "test"].sort_values(["event_timestamp", "transaction_id"])
    columns = (test.customer_id, test.event_timestamp.dt.dayofyear, test.label, trained.scores)
    expected = naive(list(zip(*(column.tolist() for column in columns), strict=True)), 100)
    assert trained.metrics["customer_precision_at_100"] == pytest.approx(expected)
    assert 0 < expected < 1
    (version,) = registry.versions(shared.settings, "fraud")
    logged = registry.metrics(shared.settings, version)["customer_precision_at_100"]
    assert logged == pytest.approx(expected)


def test_each_declared_precision_is_a_metric_of_its_own_name(shared: Platform) -> None:
    wanted = [EntityPrecision(entity=entity, k=k) for entity, k in (("customer", 5), ("terminal", 10))]
    spec = declared().model_copy(update={"entity_precision_at_k": tuple(wanted)})
    rows = spec.training_set_spec(shared.catalog)
    manifest = store.read_manifest(shared.settings, rows, LAST_DAY)
    test = store.read_arrays(shared.settings, rows, manifest)["test"]
    found = measure(spec, test, test.labels.astype(np.float64))
    assert found["customer_precision_at_5"] > 0.5 and found["terminal_precision_at_10"] > 0.1
    assert "customer_precision_at_100" not in found


def test_a_model_can_only_be_compared_by_what_it_is_measured_by() -> None:
    content = declared().model_dump(by_alias=True)
    by_precision = ModelSpec.model_validate({**content, "metric": "customer_precision_at_100"})
    assert by_precision.metric == "customer_precision_at_100"
    with pytest.raises(
        ValueError, match=r"metric must be one of auc_roc, .*customer_precision_at_100, mae, .*; got 'auc'"
    ):
        ModelSpec.model_validate({**content, "metric": "auc"})


def test_an_entity_without_features_is_refused_with_those_that_have_some() -> None:
    spec = declared().model_copy(update={"entity_precision_at_k": (EntityPrecision(entity="shop", k=5),)})
    with pytest.raises(
        DeclarationError, match=r"entity_precision_at_k: .*\(customer, terminal\); got 'shop'"
    ):
        spec.nodes(declarations.load())
