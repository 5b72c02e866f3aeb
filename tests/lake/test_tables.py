"""Lake tables: replaced by partition in one commit, read at a version, kept by every writer."""

import datetime as dt
import json
import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from deltalake import DeltaTable, TableFeatures
from deltalake.exceptions import DeltaError

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import HOURLY, key_range, within
from ml_platform.lake import tables
from ml_platform.lake.tables import Lake, Table

A, B, C = "2018-06-01", "2018-06-02", "2018-06-03"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Lake(str(tmp_path / "lake")).table("features/toy")


def rows(*values: int, day: str = A, **more: Sequence[Any]) -> pa.Table:
    dates = pa.array([dt.date.fromisoformat(day)] * len(values), pa.date32())
    return pa.table({"x": pa.array(values, pa.int64()), **more, "partition_date": dates})


def read(query: str) -> list[tuple[Any, ...]]:
    return duckdb.sql(f"SELECT * FROM ({query}) ORDER BY ALL").fetchall()


def values(table: Table, **kwargs: Any) -> list[int]:
    return [row[0] for row in read(f"SELECT x FROM ({table.scan(**kwargs)})")]


def test_a_partition_is_replaced_whole_and_the_others_stay(table: Table) -> None:
    assert table.replace_partitions(pa.concat_tables([rows(1, 2), rows(3, day=B)]), keys=[A, B]) == 1
    assert table.replace_partitions(rows(9), keys=[A]) == 2
    assert values(table) == [3, 9]


def test_several_days_are_replaced_in_one_commit_and_one_without_rows_becomes_empty(table: Table) -> None:
    table.replace_partitions(pa.concat_tables([rows(1), rows(2, day=B), rows(3, day=C)]), keys=[A, B, C])
    before = table.version()
    assert before is not None and table.replace_partitions(rows(4), keys=[A, B]) == before + 1
    assert values(table) == [3, 4]


def test_every_version_can_still_be_read(table: Table) -> None:
    versions = [table.replace_partitions(rows(number), keys=[A]) for number in range(3)]
    assert [values(table, version=version) for version in versions] == [[0], [1], [2]]
    assert table.version() == versions[-1]


@pytest.mark.parametrize("root", ["lake", "my lake", "läke#1"])
def test_partitions_of_hours_have_their_keys_in_a_column_and_are_read_by_them(
    tmp_path: Path, root: str
) -> None:
    table = Lake(str(tmp_path / root)).table("features/toy")
    hours = key_range("2018-06-01-22:00", "2018-06-02-01:00")
    given = pa.table({"x": pa.array(range(4)), "partition_hour": pa.array(hours)})
    table.replace_partitions(given, keys=hours)
    table.replace_partitions(given.slice(0, 1).set_column(0, "x", pa.array([9])), keys=hours[:1])
    assert values(table) == [1, 2, 3, 9]
    assert values(table, where=within((hours[1], hours[2]))) == [1, 2]
    assert read(table.scan(where=within((hours[0], hours[0])))) == [(9, hours[0])]
    assert table.at().cadence == HOURLY
    newest = table.at().newest_of_files("x", within((hours[3], hours[3])))
    assert newest == dict.fromkeys(table.files(where=within((hours[3], hours[3]))), 3)
    with pytest.raises(
        StoreError, match="partitioned by partition_date is required; it is by partition_hour"
    ):
        table.replace_partitions(rows(1), keys=[A])


def test_rows_outside_the_replaced_partitions_are_never_written(table: Table) -> None:
    for before in ([], [1]):
        with pytest.raises(DeltaError, match="failed validation check"):
            table.replace_partitions(rows(5, day=B), keys=[A])
        assert values(table) == before
        table.replace_partitions(rows(1), keys=[A])


def test_a_scan_reads_the_partitions_that_pass_its_filters(table: Table) -> None:
    table.replace_partitions(pa.concat_tables([rows(1), rows(2, day=B), rows(3, day=C)]), keys=[A, B, C])
    where = [("partition_date", ">=", B), ("partition_date", "<=", C)]
    assert values(table, where=where) == [2, 3]
    assert len(table.files(where=where)) == 2
    assert values(table, where=[("partition_date", "=", "2019-01-01")]) == []


def test_a_scan_of_named_files_reads_those_and_nothing_else(table: Table) -> None:
    table.replace_partitions(rows(1), keys=[A])
    first = table.files()
    table.replace_partitions(rows(2), keys=[A])
    assert read(table.at().scan(first)) == [(1, dt.date(2018, 6, 1))]


def test_a_table_without_files_has_no_rows_and_its_columns_types(table: Table) -> None:
    kinds = {
        "text": pa.string(),
        "flag": pa.bool_(),
        "small": pa.int32(),
        "share": pa.float32(),
        "amount": pa.decimal128(18, 6),
        "at": pa.timestamp("us", "UTC"),
        "names": pa.list_(pa.string()),
        "blob": pa.binary(),
    }
    full = rows(1, **{name: pa.nulls(1, kind) for name, kind in kinds.items()})
    table.replace_partitions(full, keys=[A])
    types = [column[1] for column in duckdb.sql(f"DESCRIBE {table.scan()}").fetchall()]
    table.replace_partitions(full.slice(0, 0), keys=[A])
    assert table.files() == [] and read(table.scan()) == []
    assert [column[1] for column in duckdb.sql(f"DESCRIBE {table.scan()}").fetchall()] == types
    assert types[-1] == "DATE"


def test_a_column_added_later_is_null_in_older_partitions_whichever_are_read(table: Table) -> None:
    table.replace_partitions(rows(1), keys=[A])
    table.replace_partitions(rows(2, day=B, y=pa.array([2.5])), keys=[B])
    assert read(f"SELECT x, y FROM ({table.scan()})") == [(1, None), (2, 2.5)]
    assert read(f"SELECT x, y FROM ({table.scan(where=[('partition_date', '=', A)])})") == [(1, None)]
    assert duckdb.sql(table.scan(version=0)).columns == ["x", "partition_date"]


def test_columns_come_by_name_whatever_their_order_in_files(table: Table) -> None:
    table.replace_partitions(rows(1, y=pa.array([10])), keys=[A])
    table.replace_partitions(rows(2, day=B, y=pa.array([20])).select(["partition_date", "y", "x"]), keys=[B])
    assert read(f"SELECT x, y FROM ({table.scan()})") == [(1, 10), (2, 20)]


def test_a_commit_that_another_was_faster_than_is_made_again_with_all_rows(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, attempts = tables.write_deltalake, list[int]()

    def write_late(delta: DeltaTable, data: pa.RecordBatchReader, **how: Any) -> None:
        attempts.append(delta.version())
        if len(attempts) == 1:
            write(table.uri, rows(9, day=A), mode="overwrite", predicate=f"partition_date = '{A}'")
        write(delta, data, **how)

    table.replace_partitions(rows(8), keys=[A])
    monkeypatch.setattr(tables, "write_deltalake", write_late)
    with duckdb.connect() as connection:
        count = 3 * 122_880  # a relation comes in more than one batch
        staged = connection.sql(f"SELECT i AS x, DATE '{A}' AS partition_date FROM range({count}) t(i)")
        assert table.replace_partitions(staged, keys=[A]) == 3
    assert attempts == [1, 2]
    assert values(table) == list(range(count))


def test_what_was_never_written_has_no_version_no_files_and_cannot_be_scanned(table: Table) -> None:
    assert table.open() is None and table.version() is None and table.files() == []
    with pytest.raises(StoreError, match="nothing was written yet; materialize it first"):
        table.scan()


def test_a_version_that_is_not_there_is_named(table: Table) -> None:
    for _ in range(2):
        with pytest.raises(StoreError, match="version 3 is required and is not there"):
            table.open(3)
        table.replace_partitions(rows(1), keys=[A])


@pytest.mark.parametrize("folder", ["a folder", "o'brien", "env=prod", "größe", "50%", "a#b", "what?"])
def test_a_home_may_be_in_a_folder_of_any_name(tmp_path: Path, folder: str) -> None:
    table = Lake(str(tmp_path / folder)).table("sources/toy")
    table.replace_partitions(pa.concat_tables([rows(1), rows(2, day=B)]), keys=[A, B])
    assert values(table) == [1, 2]
    assert all(Path(file).is_file() for file in table.files())


def test_a_table_has_a_checkpoint_after_ten_commits(table: Table) -> None:
    for number in range(12):
        table.append(rows(number))
    assert [file.name for file in (Path(table.uri) / "_delta_log").glob("*.checkpoint.parquet")] == [
        f"{9:020}.checkpoint.parquet"
    ]
    assert values(table) == list(range(12))


def test_no_write_ever_makes_deletion_vectors_or_forgets_old_versions(table: Table) -> None:
    table.replace_partitions(rows(1, 2, 3), keys=[A])
    table.replace_partitions(rows(4), keys=[B, A])
    table.append(rows(5, day=C))
    delta = table.open()
    assert delta is not None
    delta.delete("x = 5")
    assert "deletionVectors" not in (delta.protocol().reader_features or [])
    assert delta.metadata().configuration == {
        "delta.enableDeletionVectors": "false",
        "delta.enableExpiredLogCleanup": "false",
        "delta.checkpointInterval": "10",
    }
    log = sorted((Path(table.uri) / "_delta_log").glob("*.json"))
    actions = [json.loads(line) for file in log for line in file.read_text().splitlines()]
    assert len(log) == 1 + 4 and not any("deletionVector" in action.get("add", {}) for action in actions)
    assert values(table) == [4]


def test_a_table_with_deletion_vectors_is_not_read(table: Table) -> None:
    table.replace_partitions(rows(1), keys=[A])
    delta = table.open()
    assert delta is not None
    delta.alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(StoreError, match="has deletion vectors"):
        table.scan()


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    """First writes of new tables, to days of their own and to one that both write; and again to what is there."""
    processes = multiprocessing.get_context("spawn")
    barrier = processes.Barrier(2, timeout=60)
    writers = [processes.Process(target=write, args=(str(tmp_path), number, barrier)) for number in (0, 1)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    lake = Lake(str(tmp_path))
    first_writes = [values(lake.table(f"new/{number}")) for number in range(FIRST_WRITES)]
    assert first_writes == [[0, 1]] * FIRST_WRITES
    shared = lake.table("shared")
    assert len(values(shared)) == 1 and written(shared) == 2 * SHARED_WRITES
    same = [lake.table(f"same/{number}") for number in range(FIRST_WRITES)]
    assert [(len(values(table)), written(table)) for table in same] == [(1, 2)] * FIRST_WRITES, (
        "one of them wins"
    )
    appended = read(f"SELECT x FROM ({lake.table('ledger').scan()})")
    assert len(appended) == 2 * SHARED_WRITES


FIRST_WRITES, SHARED_WRITES = 15, 5


def written(table: Table) -> int:
    """How many commits put rows into a table."""
    return [commit["operation"] for commit in table.commits_after(-1)].count("WRITE")


def write(root: str, number: int, barrier: Barrier) -> None:
    """What each of the two processes does, side by side."""
    lake, own_day = Lake(root), (A, B)[number]
    for i in range(FIRST_WRITES):
        barrier.wait()
        lake.table(f"new/{i}").replace_partitions(rows(number, day=own_day), keys=[own_day])
        barrier.wait()
        version = lake.table(f"same/{i}").replace_partitions(rows(number), keys=[A])
        assert values(lake.table(f"same/{i}"), version=version) == [number], "the version of one's own rows"
    for i in range(SHARED_WRITES):
        barrier.wait()
        lake.table("shared").replace_partitions(rows(10 * i + number), keys=[A])
        lake.table("ledger").append(rows(10 * i + number))
