"""Several processes write to a table at once: nothing is lost or mixed, and the ledger says whose rows there are."""

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from ml_platform.kernel.partitions import PARTITION_COLUMN, day
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.maintenance import compact
from ml_platform.lake.tables import Lake
from tests.lifecycle.worlds import (
    DAYS,
    GENERATIONS,
    Process,
    Range,
    World,
    agreed,
    make_in_process,
    started,
)

ROUNDS = 3


@pytest.fixture
def world(home: Settings) -> World:
    return World(home).begin()


def publishes_when_told(root: Path, generation: int, ranges: Sequence[Range], conn: Connection) -> None:
    """Materialize, but do not publish before everybody is ready to."""
    make_in_process(root, generation, ranges, conn, wait=True)


def at_once(world: World, *work: tuple[int, Range]) -> None:
    """Let a process for each piece of work publish at the same moment."""
    processes = [world.process(*piece, target=publishes_when_told) for piece in work]
    for process in processes:
        process.wait_for("begun", "publishing")
    for process in processes:
        process.connection.send("go")
    assert [process.end() for process in processes] == [0] * len(processes)


def alone(world: World, generation: int) -> dict[str, str]:
    """Content of all days as one process makes them when nobody else is there."""
    assert world.process(generation, (DAYS[0], DAYS[-1])).end() == 0
    return agreed(world)


def test_processes_that_make_days_of_their_own_lose_nothing_of_each_other(world: World) -> None:
    own = ((DAYS[0], DAYS[1]), (DAYS[2], DAYS[3]), (DAYS[4], DAYS[5]))
    found = []
    for number in range(ROUNDS):
        at_once(world, *((number % 2, days) for days in own))
        found.append(agreed(world))
        told = world.told()
        assert len(told) == len(set(told)) == len(DAYS) * (number + 1)
        assert set(world.recorded()) == set(told)
    assert found == [alone(world, number % 2) for number in range(ROUNDS)]


def test_of_processes_that_make_the_same_days_with_other_rows_one_wins_whole(world: World) -> None:
    days = (DAYS[0], DAYS[-1])
    found = []
    for number in range(ROUNDS):
        at_once(world, *((generation, days) for generation in GENERATIONS))
        found.append(agreed(world))
        versions = {version for _, version, _ in world.told()}
        assert len(versions) == 2 * (number + 1), "both were committed, one after the other"
        last = {day: content for day, version, content in world.told() if version == max(versions)}
        assert found[-1] == last
        assert set(world.recorded()) == set(world.told())
    one_of = [alone(world, generation) for generation in GENERATIONS]
    assert all(contents in one_of for contents in found)


def test_days_that_two_ranges_share_belong_whole_to_one_of_them(world: World) -> None:
    at_once(world, (0, (DAYS[0], DAYS[3])), (1, (DAYS[2], DAYS[5])))
    found = agreed(world)
    old, new = (alone(world, generation) for generation in GENERATIONS)
    contested = {day: found[day] for day in DAYS[2:4]}
    assert [found[day] for day in DAYS[:2]] == [old[day] for day in DAYS[:2]]
    assert [found[day] for day in DAYS[4:]] == [new[day] for day in DAYS[4:]]
    assert contested in [{day: content[day] for day in contested} for content in (old, new)]


LEDGER = Ledger("toys", {"who": pa.int64(), "number": pa.int64()})
WRITES, ROWS = 8, 50


def toy(value: int, date: str) -> pa.Table:
    dates = pa.array([day(date)] * ROWS, pa.date32())
    return pa.table({"value": pa.array([value] * ROWS, pa.int64()), PARTITION_COLUMN: dates})


def writes(root: str, number: int, conn: Connection) -> None:
    """Fill a day with small files and replace them by rows of one value, again and again; then tell."""
    table = Lake(root).table("toys")
    conn.send("ready")
    conn.recv()
    for value in range(WRITES):
        for _ in range(3):
            table.append(toy(-1, DAYS[number]), partition_by=[PARTITION_COLUMN])
        table.replace_days(toy(10 * number + value, DAYS[number]), days=[DAYS[number]])
        LEDGER.append(Lake(root), [{"who": number, "number": value}] * 2)


def compacts(root: str, names: Sequence[str], conn: Connection) -> None:
    """Merge the small files of tables until told to stop; how many were merged."""
    conn.send("ready")
    conn.recv()
    merged = 0
    while not conn.poll():
        for name in names:
            found = compact(Lake(root), name)
            merged += found.files_before - found.files_after
    conn.send(merged)


def together(*work: tuple[Callable[..., None], Any], root: str) -> list[Process]:
    """A process for each piece of work; all begin at once."""
    processes = [started(target, root, argument) for target, argument in work]
    for process in processes:
        process.wait_for("ready")
    for process in processes:
        process.connection.send("go")
    return processes


def read(lake: Lake) -> dict[str, list[int]]:
    """Value of every row of the toys by day."""
    with duckdb.connect() as connection:
        found = connection.execute(
            f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), list(value) FROM ({lake.table('toys').scan()}) GROUP BY 1"
        ).fetchall()
    return dict(found)


def test_files_are_merged_while_others_write_and_nothing_is_lost(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.table("toys").replace_days(toy(0, DAYS[5]), days=[DAYS[5]])
    LEDGER.append(lake, [{"who": -1, "number": 0}])
    names = ("toys", "ledgers/toys")
    *writers, merger = together((writes, 0), (writes, 1), (writes, 2), (compacts, names), root=lake.root)
    while any(writer.itself.is_alive() for writer in writers):
        for values in read(lake).values():
            finished = [value for value in values if value >= 0]
            assert len(set(finished)) <= 1 and len(finished) in (0, ROWS), (
                "no day ever has rows of two writes"
            )
    assert [writer.end() for writer in writers] == [0, 0, 0]
    merger.connection.send("stop")
    merged = merger.connection.recv()
    assert merger.end() == 0
    assert merged > 0
    assert read(lake) == {
        **{DAYS[number]: [10 * number + WRITES - 1] * ROWS for number in range(3)},
        DAYS[5]: [0] * ROWS,
    }
    entries = [(entry["who"], entry["number"]) for entry in LEDGER.entries(lake)]
    assert entries[0] == (-1, 0)
    for number in range(3):
        mine = [n for who, n in entries if who == number]
        assert mine == [n for n in range(WRITES) for _ in range(2)], "all entries, in their order"
    assert len(entries) == 1 + 3 * WRITES * 2
