"""Several processes write to a table at once: nothing is lost or mixed, and the ledger says whose rows there are."""

from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

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
    Undisturbed,
    World,
    agreed,
    make_in_process,
    started,
)

ROUNDS = 2


def publishes_when_told(
    settings: Settings, generation: int, ranges: Sequence[Range], connection: Connection
) -> None:
    """Materialize, but do not publish before everybody is ready to."""
    make_in_process(settings, generation, ranges, connection, wait=True)


def at_once(world: World, *work: tuple[int, Range]) -> None:
    """Let a process for each piece of work publish at the same moment."""
    processes = [world.process(*piece, target=publishes_when_told) for piece in work]
    for process in processes:
        process.wait_for("begun", "publishing")
    for process in processes:
        process.connection.send("go")
    assert [process.end() for process in processes] == [0] * len(processes)


def test_processes_that_make_days_of_their_own_lose_nothing_of_each_other(
    world: World, undisturbed: Undisturbed
) -> None:
    own = ((DAYS[0], DAYS[1]), (DAYS[2], DAYS[3]), (DAYS[4], DAYS[5]))
    for generation in GENERATIONS:
        at_once(world, *((generation, days) for days in own))
        assert agreed(world) == undisturbed.contents[generation]
        told = world.told()
        assert len(told) == len(set(told)) == len(DAYS) * (generation + 1)
        assert set(world.recorded()) == set(told)


def test_of_processes_that_make_the_same_days_with_other_rows_one_wins_whole(
    world: World, undisturbed: Undisturbed
) -> None:
    days = (DAYS[0], DAYS[-1])
    for number in range(ROUNDS):
        at_once(world, *((generation, days) for generation in GENERATIONS))
        found, told = agreed(world), world.told()
        versions = {version for _, version, _ in told}
        assert len(versions) == 2 * (number + 1), "both were committed, one after the other"
        assert found == {day: content for day, version, content in told if version == max(versions)}
        assert found in undisturbed.contents.values()
        assert set(world.recorded()) == set(told)


def test_days_that_two_ranges_share_belong_whole_to_one_of_them(
    world: World, undisturbed: Undisturbed
) -> None:
    at_once(world, (0, (DAYS[0], DAYS[3])), (1, (DAYS[2], DAYS[5])))
    found = agreed(world)
    old, new = undisturbed.contents.values()
    only_old, contested, only_new = DAYS[:2], DAYS[2:4], DAYS[4:]
    assert [found[day] for day in only_old] == [old[day] for day in only_old]
    assert [found[day] for day in only_new] == [new[day] for day in only_new]
    assert [found[day] for day in contested] in [[each[day] for day in contested] for each in (old, new)]


LEDGER = Ledger("toys", {"who": pa.int64(), "number": pa.int64()})
WRITES, ROWS = 8, 50


def toy(value: int, date: str) -> pa.Table:
    dates = pa.array([day(date)] * ROWS, pa.date32())
    return pa.table({"value": pa.array([value] * ROWS, pa.int64()), PARTITION_COLUMN: dates})


def writes(root: str, number: int, connection: Connection) -> None:
    """Fill a day with small files and replace them by rows of one value, again and again; then tell."""
    table = Lake(root).table("toys")
    connection.send("ready")
    connection.recv()
    for value in range(WRITES):
        for _ in range(3):
            table.append(toy(-1, DAYS[number]), partition_by=[PARTITION_COLUMN])
        table.replace_partitions(toy(10 * number + value, DAYS[number]), keys=[DAYS[number]])
        LEDGER.append(Lake(root), [{"who": number, "number": value}] * 2)


def compacts(root: str, names: Sequence[str], connection: Connection) -> None:
    """Merge the small files of tables until told to stop; how many were merged."""
    connection.send("ready")
    connection.recv()
    merged = 0
    while not connection.poll():
        for name in names:
            found = compact(Lake(root), name)
            merged += found.files_before - found.files_after
    connection.send(merged)


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
    with duckdb.connect() as engine:
        found = engine.execute(
            f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), list(value) FROM ({lake.table('toys').scan()}) GROUP BY 1"
        ).fetchall()
    return dict(found)


def test_files_are_merged_while_others_write_and_nothing_is_lost(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "lake"))
    lake.table("toys").replace_partitions(toy(0, DAYS[5]), keys=[DAYS[5]])
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
