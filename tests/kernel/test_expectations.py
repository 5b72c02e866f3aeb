"""An expectation declares exactly one condition, and says it in words."""

from typing import Any

import pytest
from pydantic import ValidationError

from ml_platform.kernel.expectations import Expectation


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        ({"column": "amount", "not_null": True}, "amount not null"),
        ({"column": "amount", "unique": True}, "amount unique"),
        ({"column": "amount", "between": [0, 10_000]}, "amount between 0 and 10000"),
        ({"column": "amount", "between": [None, 0.5]}, "amount between … and 0.5"),
        ({"column": "label", "one_of": [0, 1]}, "label one of [0, 1]"),
        ({"rows_at_least": 1}, "at least 1 rows"),
        ({"sql": "amount < limit"}, "amount < limit"),
    ],
)
def test_each_condition_has_its_sentence(declared: dict[str, Any], sentence: str) -> None:
    assert Expectation.model_validate(declared).sentence() == sentence


@pytest.mark.parametrize(
    ("declared", "why"),
    [
        ({"column": "amount"}, "exactly one of"),
        ({"column": "amount", "not_null": True, "unique": True}, "exactly one of"),
        ({"not_null": True}, "`column` goes with"),
        ({"column": "amount", "rows_at_least": 1}, "`column` goes with"),
        ({"column": "amount", "not_null": False}, "Input should be True"),
        ({"column": "amount", "unique": False}, "Input should be True"),
        ({"column": "amount", "between": [0, float("inf")]}, "finite"),
        ({"column": "label", "one_of": []}, "at least 1 item"),
        ({"column": "label", "one_of": [0, None]}, "one_of.1"),
        ({"rows_at_least": -1}, "greater than or equal to 0"),
        ({"colum": "amount", "not_null": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_could_pass_without_being_meant_is_refused(declared: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Expectation.model_validate(declared)
