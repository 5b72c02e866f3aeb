"""Declared expectations are judged per partition, and count exactly the rows that break them."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.expectations import Expectation
from ml_platform.lake.audit import Finding, audit

A, B, C = "2018-06-01", "2018-06-02", "2018-06-03"
SCHEMA = pa.schema([("x", pa.float64()), ("label", pa.string()), ("partition_date", pa.date32())])
Row = dict[str, Any]

# Each expectation beside a naive count of the rows of one partition that break it.
CASES: list[tuple[dict[str, Any], Callable[[list[Row]], int]]] = [
    ({"column": "x", "not_null": True}, lambda rows: sum(row["x"] is None for row in rows)),
    (
        {"column": "x", "between": [-1, 1]},
        lambda rows: sum(row["x"] is not None and not -1 <= row["x"] <= 1 for row in rows),
    ),
    (
        {"column": "x", "between": [None, 1]},
        lambda rows: sum(row["x"] is not None and row["x"] > 1 for row in rows),
    ),
    (
        {"column": "label", "one_of": ["a", "it's"]},
        lambda rows: sum(row["label"] not in (None, "a", "it's") for row in rows),
    ),
    (
        {"column": "label", "unique": True},
        lambda rows: len(known := [r["label"] for r in rows if r["label"] is not None]) - len(set(known)),
    ),
    ({"rows_at_least": 3}, lambda rows: max(0, 3 - len(rows))),
    ({"sql": "x < 1"}, lambda rows: sum(row["x"] is None or not row["x"] < 1 for row in rows)),
]
EXPECTATIONS = [Expectation.model_validate(declared) for declared, _ in CASES]
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "x": st.none() | st.sampled_from([-2.0, -1.0, 0.0, 1.0, 1.5]),
            "label": st.none() | st.sampled_from(["a", "b", "it's", ""]),
            "partition_date": st.sampled_from([dt.date.fromisoformat(day) for day in (A, B, C)]),
        }
    ),
    max_size=15,
)


Judge = Callable[..., dict[str, list[Finding]]]


@pytest.fixture(scope="module")
def findings() -> Iterator[Judge]:
    """Judges rows by expectations, and `partitions` that may have no rows."""
    with duckdb.connect() as connection:

        def judge(rows: list[Row], *declared: Expectation, partitions: Sequence[str] = ()) -> Any:
            connection.register("staged", pa.Table.from_pylist(rows, schema=SCHEMA))
            return audit(connection, "staged", declared, partitions=partitions)

        yield judge


def row(x: float | None = 0.0, label: str | None = "a", day: str = A) -> Row:
    return {"x": x, "label": label, "partition_date": dt.date.fromisoformat(day)}


@given(ROWS)
def test_every_count_is_that_of_a_naive_judge(findings: Judge, rows: list[Row]) -> None:
    by_day = {day: [r for r in rows if r["partition_date"].isoformat() == day] for day in (A, B, C)}
    expected = {day: [(len(found), naive(found)) for _, naive in CASES] for day, found in by_day.items()}
    judged = findings(rows, *EXPECTATIONS, partitions=(A, B, C))
    assert {day: [(f.rows, f.failing) for f in found] for day, found in judged.items()} == expected
    assert {day for day, found in findings(rows, *EXPECTATIONS).items()} == {d for d in by_day if by_day[d]}


def test_a_finding_passes_when_no_row_breaks_it_and_says_what_was_seen(findings: Judge) -> None:
    judged = findings([row(), row(5.0)], *EXPECTATIONS)[A]
    assert [finding.expectation for finding in judged if not finding.passed] == [
        "x between -1 and 1",
        "x between … and 1",
        "label unique",
        "at least 3 rows",
        "x < 1",
    ]
    words = {finding.expectation: finding.in_words() for finding in judged}
    assert words["x between -1 and 1"] == "1 of 2 rows break it"
    assert words["at least 3 rows"] == "2 rows"


def test_a_partition_without_rows_has_too_few_of_them_and_breaks_nothing_else(findings: Judge) -> None:
    judged = findings([row()], *EXPECTATIONS, partitions=(A, B))[B]
    assert [finding.expectation for finding in judged if not finding.passed] == ["at least 3 rows"]
    assert judged[5].in_words() == "0 rows"


def test_without_expectations_every_partition_has_no_findings(findings: Judge) -> None:
    assert findings([row(), row(day=B)], partitions=(C,)) == {A: [], B: [], C: []}
