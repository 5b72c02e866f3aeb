"""An expectation declares exactly one condition, and says it in words."""

from pathlib import Path
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
        ({"column": "id", "one_of": list(range(12))}, f"id one of {list(range(10))} and 2 more"),
        ({"column": "iban", "matches": "[A-Z]{2}.*"}, "iban matches [A-Z]{2}.*"),
        (
            {"column": "id", "references": {"source": "terminals", "column": "terminal_id"}},
            "id exists in sources/terminals.terminal_id",
        ),
        (
            {"column": "id", "references": {"view": "risk", "column": "terminal_id"}},
            "id exists in features/risk.terminal_id",
        ),
        ({"column": "id", "references": {"file": "ids.csv", "column": "id"}}, "id exists in ids.csv.id"),
        ({"column": "amount", "null_share_at_most": 0.125}, "amount null in at most 12.5% of the rows"),
        ({"rows_at_least": 1}, "at least 1 rows"),
        (
            {"rows_within": {"of_mean": 0.5}},
            "rows within 50% of the mean of the 28 accepted days before",
        ),
        ({"fresh_within": "6h"}, "the newest event at most 6h before the partition's end"),
        ({"schema": True}, "the declared columns in their types"),
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
        ({"column": "amount", "between": [1, 0]}, "between is"),
        ({"column": "amount", "between": [None, None]}, "between is"),
        ({"column": "iban", "matches": ""}, "at least 1 character"),
        ({"column": "id", "references": {"column": "id"}}, "exactly one of source, view and file"),
        (
            {"column": "id", "references": {"source": "a", "view": "b", "column": "id"}},
            "exactly one of source, view and file",
        ),
        (
            {"column": "id", "references": {"source": "a", "column": "id", "values": ["1"]}},
            "`values` are those of a `file`",
        ),
        ({"column": "amount", "null_share_at_most": 1}, "less than 1"),
        ({"rows_at_least": -1}, "greater than or equal to 0"),
        ({"rows_within": {"of_mean": 1}}, "rows_within.of_mean"),
        ({"rows_within": {"of_mean": 0.5, "days": -1}}, "rows_within.days"),
        ({"fresh_within": "-6h"}, "must be a whole number"),
        ({"fresh_within": "0s"}, "longer than nothing and shorter than a day"),
        ({"fresh_within": "1d"}, "longer than nothing and shorter than a day"),
        ({"schema": False}, "Input should be True"),
        ({"column": "amount", "schema": True}, "`column` goes with"),
        ({"rows_at_least": 1, "severity": "warning"}, "Input should be 'error' or 'warn'"),
        ({"rows_at_least": 1, "severity": "warn", "blocking": True}, "a warning never blocks"),
        ({"colum": "amount", "not_null": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_could_pass_without_being_meant_is_refused(declared: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Expectation.model_validate(declared)


@pytest.mark.parametrize(
    ("declared", "blocks"),
    [
        ({}, True),
        ({"severity": "error"}, True),
        ({"severity": "warn"}, False),
        ({"severity": "warn", "blocking": False}, False),
        ({"blocking": False}, False),
        ({"blocking": True}, True),
    ],
)
def test_an_error_blocks_unless_it_is_said_not_to(declared: dict[str, Any], blocks: bool) -> None:
    assert Expectation.model_validate({"rows_at_least": 1, **declared}).blocks is blocks


def test_a_list_beside_the_declaration_becomes_part_of_it(tmp_path: Path) -> None:
    file = tmp_path / "terminals.csv"
    file.write_text("\ufeffterminal_id,city\n7,Gent\n007,Gent\n7,\n,Aalst\n", encoding="utf-8")
    declared = {"column": "id", "references": {"file": "terminals.csv", "column": "terminal_id"}}
    loaded = Expectation.model_validate(declared, context={"folder": tmp_path})
    assert loaded.references is not None and loaded.references.values == ("7", "007")
    again = Expectation.model_validate_json(loaded.model_dump_json(by_alias=True))
    assert again == loaded and again.digest() == loaded.digest()
    file.write_text("terminal_id\n7\n")
    changed = Expectation.model_validate(declared, context={"folder": tmp_path})
    assert changed.digest() != loaded.digest()


@pytest.mark.parametrize(
    ("file", "column", "why"),
    [
        ("missing.csv", "id", r"a \.csv file beside the declaration is required"),
        ("list.parquet", "id", r"a \.csv file beside the declaration is required"),
        ("list.csv", "name", r"column 'name' is required in .*it has \['id'\]"),
        ("empty.csv", "id", r"1 to 100,000 values are required in column 'id' of .*; it has 0"),
    ],
)
def test_a_list_that_says_nothing_is_refused_where_it_is_declared(
    tmp_path: Path, file: str, column: str, why: str
) -> None:
    for name, text in {"list.csv": "id\n1\n", "list.parquet": "id\n1\n", "empty.csv": "id\n"}.items():
        (tmp_path / name).write_text(text)
    declared = {"column": "id", "references": {"file": file, "column": column}}
    with pytest.raises(ValidationError, match=why) as refused:
        Expectation.model_validate(declared, context={"folder": tmp_path})
    assert refused.value.errors()[0]["loc"] == ("references",)
