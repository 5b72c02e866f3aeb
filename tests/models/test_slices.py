"""Slices are declared over features, refused when they cannot be, and leave out what has no value."""

import numpy as np
import pytest

from ml_platform import declarations
from ml_platform.kernel.errors import DeclarationError
from ml_platform.models.slices import masks, part_of
from ml_platform.models.spec import ModelSpec, Slice
from ml_platform.training_sets.store import Arrays
from tests.models.test_evaluation import declared

ROWS = Arrays(
    features=np.array([[10, 1], [200, 0], [np.nan, 1], [500, 1]], np.float32),
    labels=np.array([0, 1, 0, 1]),
    names=("amount", "is_night"),
    days=np.array(["2018-06-01"] * 4, "datetime64[D]"),
    entities={"customer": np.array([3, 4, 3, 4])},
)


def test_a_slice_has_the_rows_for_which_its_predicate_is_true() -> None:
    wanted = [Slice(name="night", where="is_night = 1"), Slice(name="high", where="amount >= 200")]
    found = masks(wanted, ROWS)
    assert found["night"].tolist() == [True, False, True, True]
    assert found["high"].tolist() == [False, True, False, True], "a missing amount is not a high one"
    part = part_of(ROWS, found["high"])
    assert (part.labels.tolist(), part.entities["customer"].tolist()) == ([1, 1], [4, 4])
    assert part.features[:, 0].tolist() == [200, 500] and len(part.days) == 2


def test_a_slice_of_what_is_no_feature_is_refused_when_declarations_load() -> None:
    spec = declared().model_copy(update={"slices": (Slice(name="rich", where="income > 100"),)})
    with pytest.raises(
        DeclarationError, match=r"Model 'fraud': slices\.0\.where may read amount, .*\['income'\]"
    ):
        spec.nodes(declarations.load())


def test_a_slice_that_the_engine_cannot_run_is_refused_by_name() -> None:
    with pytest.raises(DeclarationError, match="slice 'odd': a SQL predicate over features is required"):
        masks([Slice(name="odd", where="no_such_function(amount)")], ROWS)


def test_two_slices_of_one_name_are_refused() -> None:
    twice = [{"name": "night", "where": "is_night = 1"}] * 2
    content = declared().model_dump(by_alias=True) | {"slices": twice}
    with pytest.raises(ValueError, match=r"slices must have names of their own; got \['night'\] twice"):
        ModelSpec.model_validate(content)
