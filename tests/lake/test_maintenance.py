"""Upkeep never changes what a read returns: rows stay as they are, and so does every file that is needed."""

import datetime as dt
import json
import os
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ml_platform.kernel.errors import StoreError
from ml_platform.lake.ledger import Ledger, Publication, publish_partitions, published
from ml_platform.lake.maintenance import Needed, Vacuum, compact, plan_vacuum, vacuum
from ml_platform.lake.tables import Lake, Table

A, B = "2018-06-01", "2018-06-02"
NOW, HOUR, WEEK = dt.timedelta(0), dt.timedelta(hours=1), dt.timedelta(days=7)
NAME = "features/toy"
LEDGER = Ledger("decisions", {"number": pa.int64()})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "a lake"))


def rows(*values: int, date: str = A) -> pa.Table:
    dates = pa.array([dt.date.fromisoformat(date)] * len(values), pa.date32())
    return pa.table({"x": pa.array(values, pa.int64()), "partition_date": dates})


def values(table: Table, version: int | None = None) -> list[int]:
    return [
        row[0] for row in duckdb.sql(f"SELECT x FROM ({table.scan(version=version)}) ORDER BY 1").fetchall()
    ]


def on_disk(lake: Lake, name: str = NAME) -> set[str]:
    """Data files of a table by their path below the lake's root, whoever needs them."""
    return {file for file in lake.files() if file.startswith(f"{name}/") and file.endswith(".parquet")}


def named(lake: Lake, version: int | None = None, name: str = NAME) -> set[str]:
    """Data files of one version of a table, in the same words."""
    return {file.removeprefix(f"{lake.root}/") for file in lake.table(name).files(version=version)}


def needing(lake: Lake, *versions: int, name: str = NAME) -> Needed:
    """What manifests need that name all files of these versions."""
    manifests = {
        f"model {version}": {
            "inputs": [{"asset": name, "table_version": version, "files": sorted(named(lake, version, name))}]
        }
        for version in versions
    }
    return Needed.of(manifests)


def four_versions(lake: Lake) -> list[int]:
    """A table whose day A was replaced three times."""
    return [lake.table(NAME).replace_partitions(rows(value), keys=[A]) for value in range(4)]


def vacuumed(lake: Lake, needed: Needed, older_than: dt.timedelta = NOW) -> dict[str, Vacuum]:
    planned = plan_vacuum(lake, needed, older_than)
    for plan in planned:
        vacuum(lake, plan)
    return {plan.table: plan for plan in planned}


def age(lake: Lake, by: dt.timedelta, name: str = NAME) -> None:
    """Let everything that was removed from a table have been removed so much earlier."""
    milliseconds = int(by / dt.timedelta(milliseconds=1))
    for log in (Path(lake.table(name).uri) / "_delta_log").glob("*.json"):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        for action in actions:
            if "remove" in action:
                action["remove"]["deletionTimestamp"] -= milliseconds
        log.write_text("".join(json.dumps(action) + "\n" for action in actions))


def test_compact_merges_the_files_of_each_day_and_old_versions_stay(lake: Lake) -> None:
    table = lake.table(NAME)
    for number in range(6):
        table.append(rows(number, date=(A, B)[number % 2]), partition_by=["partition_date"])
    before = table.version()
    found = compact(lake, NAME)
    assert (found.table, found.files_before, found.files_after) == (NAME, 6, 2)
    assert len(table.files()) == 2 and values(table) == [0, 1, 2, 3, 4, 5]
    assert len(table.files(version=before)) == 6 and values(table, before) == [0, 1, 2, 3, 4, 5]
    assert found.bytes_after == sum(Path(file).stat().st_size for file in table.files())
    assert found.bytes_before == sum(Path(file).stat().st_size for file in table.files(version=before))
    version = table.version()
    again = compact(lake, NAME)
    assert again.files_before == again.files_after == 2 and table.version() == version


def test_a_ledger_has_the_same_entries_in_the_same_order_when_its_files_are_merged(lake: Lake) -> None:
    for number in range(5):
        LEDGER.append(lake, [{"number": 10 * number + place} for place in range(4)])
    before = LEDGER.entries(lake)
    assert compact(lake, "ledgers/decisions").files_after == 1
    assert LEDGER.entries(lake) == before
    LEDGER.append(lake, [{"number": 99}])
    assert [entry["number"] for entry in LEDGER.entries(lake)][-2:] == [43, 99]


def test_what_is_published_stays_published_when_its_table_is_merged_and_vacuumed(lake: Lake) -> None:
    for number, day in enumerate((A, B, A)):
        entry = Publication(NAME, day, str(number), 1, 0, "declaration", "run")
        publish_partitions(lake, rows(number, date=day), [entry])
    before = published(lake, NAME)
    for name in lake.table_names():
        compact(lake, name)
    vacuumed(lake, Needed())
    assert published(lake, NAME) == before and values(lake.table(NAME)) == [1, 2]


def test_a_table_that_is_not_there_cannot_be_merged(lake: Lake) -> None:
    four_versions(lake)
    with pytest.raises(
        StoreError, match="features/tow: a table of the lake is required; there are features/toy"
    ):
        compact(lake, "features/tow")


def test_vacuum_removes_what_neither_the_newest_version_nor_a_needed_one_has(lake: Lake) -> None:
    versions = four_versions(lake)
    kept, unneeded = named(lake, versions[1]), named(lake, versions[0]) | named(lake, versions[2])
    plan = vacuumed(lake, needing(lake, versions[1]))[NAME]
    assert on_disk(lake) == kept | named(lake)
    assert (plan.files, plan.kept_files) == (len(unneeded), len(kept)) == (2, 1)
    assert values(lake.table(NAME)) == [3] and values(lake.table(NAME), versions[1]) == [1]


def test_a_plan_removes_nothing_and_counts_what_would_go(lake: Lake) -> None:
    versions = four_versions(lake)
    before = lake.files()
    [plan] = plan_vacuum(lake, needing(lake, versions[1]), NOW)
    assert lake.files() == before and lake.table(NAME).version() == versions[-1]
    gone = [before[file] for version in (versions[0], versions[2]) for file in named(lake, version)]
    assert (plan.files, plan.bytes) == (2, sum(gone))
    assert plan.kept_bytes == before[min(named(lake, versions[1]))]


def test_the_files_of_every_needed_version_stay_however_many_there_are(lake: Lake) -> None:
    versions = four_versions(lake)
    assert vacuumed(lake, needing(lake, *versions))[NAME].files == 0
    assert [values(lake.table(NAME), version) for version in versions] == [[0], [1], [2], [3]]


def test_what_was_replaced_less_long_ago_stays(lake: Lake) -> None:
    versions = four_versions(lake)
    assert vacuumed(lake, Needed(), WEEK)[NAME].files == 0
    age(lake, WEEK - HOUR)
    assert vacuumed(lake, Needed(), WEEK)[NAME].files == 0
    age(lake, 2 * HOUR)
    assert vacuumed(lake, Needed(), WEEK)[NAME].files == 3
    assert on_disk(lake) == named(lake, versions[-1])


def test_what_a_killed_process_left_goes_when_it_is_old_and_never_sooner(lake: Lake) -> None:
    four_versions(lake)
    left = Path(min(lake.table(NAME).files())).with_name("part-left.parquet")
    left.write_bytes(b"what no commit names")
    for older_than in (NOW, HOUR):
        vacuumed(lake, Needed(), older_than)
        assert left.exists(), "it may belong to a commit that is still to come"
    yesterday = time.time() - 86_400
    os.utime(left, (yesterday, yesterday))
    assert vacuumed(lake, Needed(), NOW)[NAME].files == 0 and left.exists()
    assert vacuumed(lake, Needed(), HOUR)[NAME].files == 1 and not left.exists()
    assert values(lake.table(NAME)) == [3]


def test_every_table_is_vacuumed_and_only_by_its_own_needs(lake: Lake) -> None:
    versions = four_versions(lake)
    for value in range(3):
        lake.table("features/toy_of_another").replace_partitions(rows(value), keys=[A])
    plans = vacuumed(lake, needing(lake, versions[0]))
    assert {name: (plan.files, plan.kept_files) for name, plan in plans.items()} == {
        NAME: (2, 1),
        "features/toy_of_another": (2, 0),
    }


def test_what_was_vacuumed_is_not_vacuumed_again(lake: Lake) -> None:
    versions = four_versions(lake)
    needed = needing(lake, versions[1])
    assert vacuumed(lake, needed)[NAME].files == 2
    again = vacuumed(lake, needed)[NAME]
    assert (again.files, again.bytes) == (0, 0)
    assert values(lake.table(NAME), versions[1]) == [1]


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ([{"asset": "features/tow", "table_version": 1, "files": []}], "are not there. Nothing was removed"),
        ([{"asset": NAME, "table_version": 99, "files": []}], "version 99 is required and is not there"),
    ],
)
def test_nothing_is_removed_when_a_needed_table_or_version_is_not_there(
    lake: Lake, inputs: list[dict[str, Any]], said: str
) -> None:
    four_versions(lake)
    before = lake.files()
    with pytest.raises(StoreError, match=said):
        vacuumed(lake, Needed.of({"model fraud version 1": {"inputs": inputs}}))
    assert lake.files() == before


def test_nothing_is_removed_when_a_manifest_names_a_file_that_its_version_does_not_have(lake: Lake) -> None:
    versions = four_versions(lake)
    before = lake.files()
    entry = {"asset": NAME, "table_version": versions[1], "files": sorted(named(lake, versions[0]))}
    with pytest.raises(StoreError, match="must belong to a version that it names"):
        vacuumed(lake, Needed.of({"model fraud version 1": {"inputs": [entry]}}))
    assert lake.files() == before


@pytest.mark.parametrize("manifest", [{}, {"inputs": [{"asset": NAME}]}, {"inputs": None}])
def test_a_manifest_that_cannot_be_understood_is_an_error_with_its_owner(manifest: dict[str, Any]) -> None:
    with pytest.raises(StoreError, match="model fraud version 1: a manifest with inputs"):
        Needed.of({"model fraud version 1": manifest})
