"""Write, audit, publish: readers see audited rows only, and the last good version of a refused day."""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.publishing import Staged, publish
from ml_platform.gates.refused import refused_rows
from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import Finding, audit
from ml_platform.lake.broken_rows import failing_rows
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.ledger import Publication, published
from ml_platform.lake.rows import stream
from ml_platform.lake.tables import Lake

ASSET = "features/toy"
A, B, C = "2018-06-01", "2018-06-02", "2018-06-03"
EXPECTATIONS = (Expectation(column="amount", between=(0, 100)), Expectation(column="id", unique=True))
SCHEMA = pa.schema([("id", pa.int64()), ("amount", pa.float64()), ("partition_date", pa.date32())])
Days = Mapping[str, Sequence[float]]


@pytest.fixture
def lake(home: Settings) -> Lake:
    return Lake(home.lake_uri)


def rows_of(days: Days) -> pa.Table:
    rows = [
        {"id": i, "amount": amount, "partition_date": dt.date.fromisoformat(day)}
        for day, amounts in sorted(days.items())
        for i, amount in enumerate(amounts)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def published_from(
    lake: Lake, days: Days, run_id: str = "run", expectations: Sequence[Expectation] = EXPECTATIONS
) -> dict[str | None, Outcome]:
    """Audit and publish days of amounts, as a step does; the outcomes by partition."""
    rows = rows_of(days)
    with duckdb.connect() as connection:
        connection.register("staged", rows)
        findings = audit(connection, "staged", expectations, partitions=sorted(days))
        staged = Staged(ASSET, tuple(sorted(days)), connection.sql("FROM staged"), findings, "digest")
        return {outcome.partition: outcome for outcome in publish(lake, staged, run_id=run_id)}


def amounts(lake: Lake, table: str = ASSET) -> dict[str, list[float]]:
    """What readers of a lake table see, by day."""
    query = (
        f"SELECT CAST(partition_date AS VARCHAR), list(amount ORDER BY id) "
        f"FROM ({lake.table(table).scan()}) GROUP BY 1 ORDER BY 1"
    )
    return dict(duckdb.sql(query).fetchall())


def test_a_range_publishes_its_good_days_and_keeps_the_bad_one_apart(lake: Lake) -> None:
    outcomes = published_from(lake, {A: [1, 2], B: [1, 900], C: [3]})
    assert {key: outcome.published for key, outcome in outcomes.items()} == {A: True, B: False, C: True}
    assert amounts(lake) == {A: [1, 2], C: [3]}
    assert amounts(lake, f"refused/{ASSET}") == {B: [1, 900]}


def test_a_refused_day_keeps_its_last_good_version(lake: Lake) -> None:
    published_from(lake, {A: [1, 2], B: [3]})
    before = published(lake, ASSET)
    published_from(lake, {A: [1, -2], B: [4]})
    assert amounts(lake) == {A: [1, 2], B: [4]}
    after = published(lake, ASSET)
    assert after[A] == before[A] and after[B] != before[B]


def test_a_later_good_run_publishes_what_was_refused(lake: Lake) -> None:
    published_from(lake, {A: [900]})
    assert lake.table(ASSET).version() is None and published(lake, ASSET) == {}
    published_from(lake, {A: [9]})
    assert amounts(lake) == {A: [9]}
    assert amounts(lake, f"refused/{ASSET}") == {A: [900]}, "still there for who wants to know what came"


def test_the_refused_table_has_the_newest_refused_rows_of_a_day(lake: Lake) -> None:
    published_from(lake, {A: [900], B: [901]})
    published_from(lake, {A: [902]})
    assert amounts(lake, f"refused/{ASSET}") == {A: [902], B: [901]}
    writes = [commit["operation"] for commit in refused_rows(lake, ASSET).commits_after(-1)].count("WRITE")
    assert writes == 2


def test_when_all_is_refused_readers_see_no_new_version(lake: Lake) -> None:
    published_from(lake, {A: [1]})
    before = lake.table(ASSET).version()
    outcomes = published_from(lake, {A: [900], B: [-1]})
    assert not any(outcome.published for outcome in outcomes.values())
    assert lake.table(ASSET).version() == before and set(published(lake, ASSET)) == {A}


def test_a_day_without_rows_never_lets_a_refused_one_through(lake: Lake) -> None:
    outcomes = published_from(lake, {A: [1], B: [900], C: []})
    assert {key for key, outcome in outcomes.items() if outcome.published} == {A, C}
    assert amounts(lake) == {A: [1]}
    assert amounts(lake, f"refused/{ASSET}") == {B: [900]}


def test_a_day_that_has_become_empty_is_published_empty(lake: Lake) -> None:
    published_from(lake, {A: [1], B: [2]})
    published_from(lake, {A: [], B: [3]})
    assert amounts(lake) == {B: [3]}
    assert published(lake, ASSET)[A].rows == 0


def test_the_ledger_names_content_rows_version_declaration_and_run(lake: Lake) -> None:
    outcomes = published_from(lake, {A: [1, 2], B: [900]}, run_id="run-7")
    digest = content_hash(rows_of({A: [1, 2]}).drop_columns(["partition_date"]))
    assert published(lake, ASSET) == {A: Publication(ASSET, A, digest, 2, 1, "digest", "run-7")}
    assert outcomes[A].data_version == digest and outcomes[B].data_version is None
    assert outcomes[A].metadata["dagster/partition_row_count"] == 2


def test_the_same_rows_have_the_same_content_hash_whatever_they_are_published_with(lake: Lake) -> None:
    alone = published_from(lake, {B: [5, 6]})[B].data_version
    among = published_from(lake, {A: [1], B: [5, 6], C: [900]})[B].data_version
    assert alone == among
    assert published_from(lake, {B: [6, 5]})[B].data_version != alone


def test_days_of_several_batches_are_published_as_from_one_table(lake: Lake) -> None:
    days = {A: range(100_000), B: [900], C: range(100_000, 250_000)}
    expected = rows_of(days)
    with duckdb.connect() as connection:
        connection.register("given", expected)
        connection.execute("CREATE TEMP TABLE staged AS FROM given")
        staged = connection.sql("FROM staged")
        assert len(list(stream(staged))) > 1
        findings = {B: [Finding.of_rows("amount between", "amount between 0 and 100", rows=1, failing=1)]}
        outcomes = publish(lake, Staged(ASSET, (A, B, C), staged, findings, "digest"), run_id="run")
    assert [outcome.published for outcome in outcomes] == [True, False, True]
    for outcome in (outcomes[0], outcomes[2]):
        mine = expected.filter(pc.field("partition_date") == dt.date.fromisoformat(str(outcome.partition)))
        assert outcome.data_version == content_hash(mine.drop_columns(["partition_date"]))
    assert amounts(lake) == {A: list(days[A]), C: list(days[C])}
    assert amounts(lake, f"refused/{ASSET}") == {B: [900]}


def records(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The evaluation's table of single expectations."""
    table = evaluation.metadata["expectations"]
    assert isinstance(table, dg.TableMetadataValue)
    assert all(
        list(record.data) == [column.name for column in table.schema.columns] for record in table.records
    )
    return [dict(record.data) for record in table.records]


def test_the_evaluation_says_what_broke_how_often_and_what_was_required(lake: Lake) -> None:
    [evaluation] = published_from(lake, {A: [1, 900, -3]})[A].evaluations
    assert (evaluation.check, evaluation.passed) == ("quality", False)
    assert evaluation.observed == "2 of 3 rows break it"
    assert evaluation.bound == "amount between 0 and 100"
    assert records(evaluation) == [
        {
            "expectation": "amount between",
            "severity": "error",
            "rows": 3,
            "failing": 2,
            "observed": "2 of 3 rows break it",
            "required": "amount between 0 and 100",
            "verdict": "failed",
        },
        {
            "expectation": "id unique",
            "severity": "error",
            "rows": 3,
            "failing": 0,
            "observed": "0 of 3 rows break it",
            "required": "id unique",
            "verdict": "passed",
        },
    ]


def test_what_does_not_block_is_published_and_told_with_the_partition(lake: Lake) -> None:
    bound = {"column": "amount", "between": [0, 100]}
    lenient = [{**bound, "severity": "warn"}, {**bound, "blocking": False}, {"rows_within": {"of_mean": 0.5}}]
    expectations = [Expectation.model_validate(one) for one in lenient]
    outcome = published_from(lake, {A: [1, 900]}, expectations=expectations)[A]
    [evaluation] = outcome.evaluations
    assert outcome.published and amounts(lake) == {A: [1, 900]}
    assert (evaluation.passed, evaluation.all_metadata()["observed"]) == (True, "as required")
    assert [record["verdict"] for record in records(evaluation)] == [
        "warning",
        "failed, does not block",
        "not judged: no reference yet",
    ]
    told = "amount between: 1 of 2 rows break it (required: amount between 0 and 100; {})"
    lines = "; ".join(told.format(verdict) for verdict in ("warning", "failed, does not block"))
    assert outcome.metadata["warnings"] == evaluation.metadata["warnings"] == lines
    assert "warnings" not in published_from(lake, {A: [1]}, expectations=expectations)[A].metadata


def test_the_rows_of_a_refused_day_that_break_an_expectation_can_be_looked_at(lake: Lake) -> None:
    published_from(lake, {A: [1, 900, 2, -3], B: [4]})
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TEMP VIEW refused AS {refused_rows(lake, ASSET).scan()}")
        found = [failing_rows(connection, "refused", expectation) for expectation in EXPECTATIONS]
        shown = [rows.select("id, amount").order("id").fetchall() for rows in found if rows is not None]
    assert shown == [[(1, 900.0), (3, -3.0)], []]
