"""Declared expectations are judged per partition, and count and name exactly the rows that break them."""

import datetime as dt
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.expectations import Expectation
from ml_platform.lake.audit import Beside, Finding, audit, published_sizes
from ml_platform.lake.broken_rows import failing_rows, stage_references
from ml_platform.lake.engine import database
from ml_platform.lake.ledger import Publication, publish_partitions
from ml_platform.lake.tables import Lake

A, B, C = DAYS = "2018-06-01", "2018-06-02", "2018-06-03"
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("x", pa.float64()),
        ("label", pa.string()),
        ("event_timestamp", pa.timestamp("us", "UTC")),
        ("partition_date", pa.date32()),
    ]
)
KNOWN = {A: ["a"], B: ["it's", "a"], C: ["b"]}
Row = dict[str, Any]


def day_of(row: Row) -> str:
    return row["partition_date"].isoformat()


def repeated(rows: list[Row]) -> list[Row]:
    counts = Counter(row["label"] for row in rows if row["label"] is not None)
    return [row for row in rows if counts[row["label"]] > 1]


def known_by(day: str) -> set[str]:
    return {value for other, values in KNOWN.items() if other <= day for value in values}


def each(breaks: Callable[[Row], bool]) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [row for row in rows if breaks(row)]


def of_value(column: str, holds: Callable[[Any], bool]) -> Callable[[list[Row]], list[Row]]:
    """Of the rows with a value in a column, those for which something does not hold."""
    return each(lambda row: row[column] is not None and not holds(row[column]))


# Each expectation beside a naive search for the rows of one partition that break it.
ROW_BY_ROW: list[tuple[dict[str, Any], Callable[[list[Row]], list[Row]]]] = [
    ({"column": "x", "not_null": True}, each(lambda row: row["x"] is None)),
    ({"column": "label", "unique": True}, repeated),
    ({"column": "x", "between": [-1, 1]}, of_value("x", lambda x: -1 <= x <= 1)),
    ({"column": "x", "between": [None, 1.5]}, of_value("x", lambda x: x <= 1.5)),
    ({"column": "x", "between": [-1, None]}, of_value("x", lambda x: x >= -1)),
    ({"column": "label", "one_of": ["a", "it's"]}, of_value("label", lambda v: v in ("a", "it's"))),
    ({"column": "id", "one_of": [1, 2, 3]}, of_value("id", lambda v: v in (1, 2, 3))),
    ({"column": "label", "matches": "[a-b]|it.*"}, of_value("label", re.compile("[a-b]|it.*").fullmatch)),
    (
        {"column": "label", "references": {"source": "known", "column": "name"}},
        each(lambda row: row["label"] is not None and row["label"] not in known_by(day_of(row))),
    ),
    (
        {"column": "id", "references": {"file": "ids.csv", "column": "id", "values": ["1", "3", "07"]}},
        of_value("id", lambda v: str(v) in ("1", "3", "07")),
    ),
    (
        {"column": "label", "references": {"source": "never", "column": "name"}},
        each(lambda row: row["label"] is not None),
    ),
    ({"sql": "x < 1 OR label = 'b'"}, each(lambda row: not predicate(row))),
    ({"column": "x", "null_share_at_most": 0.25}, lambda rows: too_many_nulls(rows, 1, 4)),
    ({"column": "label", "null_share_at_most": 0.1}, lambda rows: too_many_nulls(rows, 1, 10, "label")),
]


def too_many_nulls(rows: list[Row], numerator: int, denominator: int, column: str = "x") -> list[Row]:
    """The rows without a value, if they are more than a share of all."""
    nulls = [row for row in rows if row[column] is None]
    return nulls if len(nulls) * denominator > len(rows) * numerator else []


def predicate(row: Row) -> bool:
    return (row["x"] is not None and row["x"] < 1) or row["label"] == "b"


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.integers(1, 5),
            "x": st.none() | st.sampled_from([-2.0, -1.0, 0.0, 1.0, 1.5, math.nan, math.inf]),
            "label": st.none() | st.sampled_from(["a", "b", "it's", "", "ab"]),
            "hour": st.integers(0, 23),
            "partition_date": st.sampled_from([dt.date.fromisoformat(day) for day in DAYS]),
        }
    ),
    max_size=15,
)


def rows_of(drawn: Sequence[Row]) -> list[Row]:
    """Rows with the time of an event of their day."""
    return [
        {**row, "event_timestamp": dt.datetime.combine(row["partition_date"], dt.time(row["hour"]), dt.UTC)}
        for row in drawn
    ]


@dataclass(frozen=True)
class Judge:
    """Rows on a connection, judged by expectations."""

    connection: duckdb.DuckDBPyConnection
    lake: Lake

    def findings(
        self,
        rows: list[Row],
        *declared: dict[str, Any],
        partitions: Sequence[str] = (),
        beside: Beside | None = None,
    ) -> dict[str, list[Finding]]:
        expectations = [Expectation.model_validate(one) for one in declared]
        self.connection.register("staged", pa.Table.from_pylist(rows, schema=SCHEMA))
        stage_references(self.connection, self.lake, "staged", expectations)
        return audit(self.connection, "staged", expectations, partitions=partitions, beside=beside)

    def failing(self, rows: list[Row], declared: dict[str, Any]) -> list[Row]:
        """The rows that break an expectation, by the platform's word."""
        self.connection.register("staged", pa.Table.from_pylist(rows, schema=SCHEMA))
        found = failing_rows(self.connection, "staged", Expectation.model_validate(declared))
        assert found is not None and found.columns == SCHEMA.names
        return found.to_arrow_table().to_pylist()


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    lake = Lake(str(tmp_path_factory.mktemp("lake")))
    known = [
        {"name": name, "partition_date": dt.date.fromisoformat(day)}
        for day, names in KNOWN.items()
        for name in names
    ]
    schema = pa.schema([("name", pa.string()), ("partition_date", pa.date32())])
    lake.table("sources/known").replace_partitions(pa.Table.from_pylist(known, schema=schema), keys=DAYS)
    with database(threads=1) as connection:
        yield Judge(connection, lake)


def row(x: float | None = 0.0, label: str | None = "a", day: str = A, hour: int = 12, id: int = 1) -> Row:
    date = dt.date.fromisoformat(day)
    return rows_of([{"id": id, "x": x, "label": label, "hour": hour, "partition_date": date}])[0]


def only(findings: Mapping[str, list[Finding]], day: str = A) -> Finding:
    (found,) = findings[day]
    return found


def identities(rows: list[Row]) -> Counter[str]:
    return Counter(str([str(row[name]) for name in SCHEMA.names]) for row in rows)


@settings(max_examples=50)
@given(ROWS)
def test_every_row_that_breaks_an_expectation_is_counted_and_named_as_a_naive_judge_does(
    judge: Judge, drawn: list[Row]
) -> None:
    rows = rows_of(drawn)
    by_day = {day: [r for r in rows if day_of(r) == day] for day in DAYS}
    judged = judge.findings(rows, *(declared for declared, _ in ROW_BY_ROW), partitions=DAYS)
    for number, (declared, naive) in enumerate(ROW_BY_ROW):
        expected = {day: naive(found) for day, found in by_day.items()}
        counts = {day: (len(by_day[day]), len(broken)) for day, broken in expected.items()}
        seen = {day: (found[number].rows, found[number].failing) for day, found in judged.items()}
        assert seen == counts, declared
        assert all(found[number].passed == (not expected[day]) for day, found in judged.items()), declared
        named = judge.failing(rows, declared)
        assert identities(named) == identities([r for broken in expected.values() for r in broken]), declared


@given(ROWS, st.integers(1, 3), st.integers(1, 23))
def test_what_is_about_a_whole_partition_is_judged_as_a_naive_judge_does(
    judge: Judge, drawn: list[Row], least: int, hours: int
) -> None:
    rows = rows_of(drawn)
    declared = ({"rows_at_least": least}, {"fresh_within": f"{hours}h"})
    for day, (size, fresh) in judge.findings(rows, *declared, partitions=DAYS).items():
        mine = [r for r in rows if day_of(r) == day]
        assert (size.failing, size.passed) == (0, len(mine) >= least)
        newest = max((r["event_timestamp"].hour for r in mine), default=-1)
        assert (fresh.failing, fresh.passed) == (0, newest >= 24 - hours)


EVERY_KIND = [
    *(declared for declared, _ in ROW_BY_ROW),
    {"rows_at_least": 1, "severity": "warn"},
    {"rows_within": {"of_mean": 0.5, "days": 1}, "blocking": False},
    {"fresh_within": "6h"},
    {"schema": True},
]


@settings(max_examples=50)
@given(ROWS, st.lists(st.sampled_from(EVERY_KIND), max_size=4), st.integers(0, 4))
def test_a_partition_alone_gets_the_verdict_that_it_gets_in_a_range(
    judge: Judge, drawn: list[Row], declared: list[dict[str, Any]], before: int
) -> None:
    rows, earlier = rows_of(drawn), {"2018-05-30": before, B: 7}
    counting = {"rows_within": {"of_mean": 0.5, "days": 2}}
    together = judge.findings(rows, counting, *declared, partitions=DAYS, beside=Beside(published=earlier))
    published = dict(earlier)
    for day in DAYS:
        mine = [r for r in rows if day_of(r) == day]
        alone = judge.findings(
            mine, counting, *declared, partitions=[day], beside=Beside(published=published)
        )
        assert alone == {day: together[day]}
        if not any(finding.refuses for finding in alone[day]):
            published[day] = len(mine)


@given(
    st.lists(st.integers(0, 12), min_size=1, max_size=8),
    st.integers(1, 3),
    st.sampled_from([0.25, 0.5]),
    st.dictionaries(st.integers(1, 9), st.integers(0, 12)),
)
def test_row_counts_are_judged_by_the_accepted_days_before(
    judge: Judge, counts: list[int], days: int, share: float, published: dict[int, int]
) -> None:
    keys = [f"2018-06-{number:02}" for number in range(1, len(counts) + 1)]
    rows = [row(day=key) for key, count in zip(keys, counts, strict=True) for _ in range(count)]
    known = {f"2018-06-{number:02}": count for number, count in published.items()}
    declared = {"rows_within": {"of_mean": share, "days": days}}
    found = judge.findings(rows, declared, partitions=keys, beside=Beside(published=known))
    accepted = dict(known)
    for key, count in zip(keys, counts, strict=True):
        reference = [accepted[day] for day in sorted(accepted) if day < key][-days:]
        mean = sum(reference) / days
        expected = None if len(reference) < days else mean * (1 - share) <= count <= mean * (1 + share)
        assert only(found, key).passed == expected
        if expected is not False:
            accepted[key] = count


@given(st.sets(st.integers(1, 25), min_size=1), st.integers(1, 25), st.integers(1, 4))
def test_the_sizes_of_the_days_before_are_found_however_long_ago_they_were(
    tmp_path_factory: pytest.TempPathFactory, days: set[int], first: int, wanted: int
) -> None:
    lake = Lake(str(tmp_path_factory.mktemp("sizes")))
    sizes = {f"2018-06-{number:02}": number for number in days}
    dates = pa.array(map(dt.date.fromisoformat, sizes), pa.date32())
    rows = pa.table({"size": list(sizes.values()), "partition_date": dates})
    publish_partitions(
        lake, rows, [Publication("a/b", day, "", size, 0, "", "") for day, size in sizes.items()]
    )
    declared = Expectation.model_validate({"rows_within": {"of_mean": 0.5, "days": wanted}})
    partition = f"2018-06-{first:02}"
    found = published_sizes(lake, "a/b", [declared], [partition])
    before = sorted(day for day in sizes if day < partition)[-wanted:]
    assert [found[day] for day in sorted(found) if day < partition][-wanted:] == [
        sizes[day] for day in before
    ]
    assert found.items() <= sizes.items()


def test_no_size_is_looked_for_where_no_expectation_asks(tmp_path: Path) -> None:
    assert published_sizes(Lake(str(tmp_path / "none")), "a/b", [], [A]) == {}


def test_a_finding_says_what_was_seen_and_what_was_required(judge: Judge) -> None:
    declared = [
        {"column": "x", "between": [-1, 1]},
        {"rows_at_least": 3},
        {"column": "x", "null_share_at_most": 0.1},
        {"fresh_within": "6h"},
        {"rows_within": {"of_mean": 0.5, "days": 2}},
        {"schema": True},
    ]
    beside = Beside({"2018-05-30": 10, "2018-05-31": 11}, schema=["x is BIGINT, declared as double"])
    judged = judge.findings([row(hour=9), row(5.0), row(None)], *declared, beside=beside)[A]
    assert [(f.expectation, f.observed, f.required, f.verdict) for f in judged] == [
        ("x between", "1 of 3 rows break it", "x between -1 and 1", "failed"),
        ("rows_at_least", "3 rows", "at least 3 rows", "passed"),
        ("x null_share_at_most", "1 of 3 rows are null", "x null in at most 10% of the rows", "failed"),
        (
            "fresh_within",
            "the newest event at 2018-06-01 12:00:00",
            "the newest event at most 6h before the partition's end",
            "failed",
        ),
        (
            "rows_within",
            "3 rows; 10.5 on average on the 2 accepted days before",
            "rows within 50% of the mean of the 2 accepted days before",
            "failed",
        ),
        ("schema", "x is BIGINT, declared as double", "the declared columns in their types", "failed"),
    ]


def test_a_share_that_is_just_allowed_passes_and_still_says_how_many_nulls_there_are(judge: Judge) -> None:
    rows = [row(None) for _ in range(29)] + [row() for _ in range(71)]
    finding = only(judge.findings(rows, {"column": "x", "null_share_at_most": 0.29}))
    assert (finding.passed, finding.failing, finding.observed) == (True, 0, "29 of 100 rows are null")
    assert only(judge.findings(rows, {"column": "x", "null_share_at_most": 0.28})).failing == 29


def test_until_there_are_enough_accepted_days_a_row_count_passes_as_not_judged(judge: Judge) -> None:
    declared = {"rows_within": {"of_mean": 0.5, "days": 2}}
    found = judge.findings([row()], declared, beside=Beside({"2018-05-31": 1_000}))
    finding = only(found)
    assert (finding.verdict, finding.refuses) == ("not judged: no reference yet", False)
    assert finding.observed == "1 rows; 1 of 2 accepted days before"


def test_where_rows_are_versions_the_size_of_a_day_is_that_of_its_events(judge: Judge) -> None:
    rows = [row(day=A, id=i) for i in range(4)] + [row(day=B, id=i % 4) for i in range(8)]
    declared = {"rows_within": {"of_mean": 0.1, "days": 1}}
    found = judge.findings(rows, declared, beside=Beside({"2018-05-31": 4}, events={A: 4, B: 4}))
    assert only(found, B).passed and only(found, B).rows == 8
    assert only(judge.findings(rows, declared, beside=Beside({"2018-05-31": 4})), B).passed is False


def test_a_warning_and_an_error_that_does_not_block_are_seen_and_refuse_nothing(judge: Judge) -> None:
    bad = {"column": "x", "not_null": True}
    declared = [bad, {**bad, "severity": "warn"}, {**bad, "blocking": False}]
    judged = judge.findings([row(None)], *declared)[A]
    assert [finding.verdict for finding in judged] == ["failed", "warning", "failed, does not block"]
    assert [finding.refuses for finding in judged] == [True, False, False]
    assert {finding.failing for finding in judged} == {1}


def test_a_day_that_something_else_refuses_is_no_reference_for_those_after_it(judge: Judge) -> None:
    declared = {"rows_within": {"of_mean": 0.5, "days": 1}}
    rows = [row(day=A), *(row(day=B) for _ in range(9)), row(day=C)]
    refused = Finding.of_rows("versions", "one content", rows=9, failing=1)
    assert only(judge.findings(rows, declared), B).passed is False
    found = judge.findings(rows, declared, beside=Beside(findings={A: [refused]}))
    assert found[A][0] == refused
    assert [found[day][-1].passed for day in DAYS] == [None, None, False]


def test_a_partition_without_rows_has_too_few_of_them_and_no_event(judge: Judge) -> None:
    declared = [*(one for one, _ in ROW_BY_ROW), {"rows_at_least": 3}, {"fresh_within": "6h"}]
    judged = judge.findings([row()], *declared, partitions=(A, B))[B]
    broken = {finding.expectation: finding.observed for finding in judged if not finding.passed}
    assert broken == {"rows_at_least": "0 rows", "fresh_within": "no event"}


def test_without_expectations_every_partition_has_no_findings(judge: Judge) -> None:
    assert judge.findings([row(), row(day=B)], partitions=(C,)) == {A: [], B: [], C: []}


@pytest.mark.parametrize("declared", [{"rows_at_least": 3}, {"fresh_within": "6h"}, {"schema": True}])
def test_what_is_about_no_single_row_names_none(judge: Judge, declared: dict[str, Any]) -> None:
    assert failing_rows(judge.connection, "staged", Expectation.model_validate(declared)) is None


def test_a_predicate_over_columns_named_as_anything_reads_the_rows_own(judge: Judge, tmp_path: Path) -> None:
    rows = pa.table(
        {"value": [1, 2], "since": [1, 1], "judged": [2, 2], "partition_date": [dt.date(2018, 6, 1)] * 2}
    )
    judge.connection.register("odd", rows)
    expectations = [
        Expectation(sql="value = since and judged = 2"),
        Expectation.model_validate(
            {"column": "value", "references": {"file": "x.csv", "column": "y", "values": ["1"]}}
        ),
    ]
    stage_references(judge.connection, judge.lake, "odd", expectations)
    found = audit(judge.connection, "odd", expectations)[A]
    assert [finding.failing for finding in found] == [1, 1]


def test_values_that_a_predicate_cannot_be_asked_of_are_told_as_such(judge: Judge) -> None:
    with pytest.raises(InputError, match=r"Could not convert string 'a' to INT32.*Nothing was published"):
        judge.findings([row()], {"sql": "CAST(label AS INTEGER) > 1"})
