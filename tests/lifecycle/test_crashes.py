"""A process that is killed while it materializes leaves what was published before, or what it publishes, whole."""

import signal
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from random import Random

from ml_platform.kernel.settings import Settings
from tests.lifecycle.worlds import (
    DAYS,
    RANGES,
    Range,
    Undisturbed,
    World,
    agreed,
    die,
    make_in_process,
    spending,
)

SEED, KILLS = 20180601, 20
State = tuple[int | None, ...]
"""Generation of each range, None where it was never published."""


def state_of(world: World, contents: Mapping[int, Mapping[str, str]]) -> State:
    """Which generation each range has; nothing is half there, and no range is of two generations."""
    hashes, publications = agreed(world), world.published()
    state: list[int | None] = []
    for first, last in RANGES:
        days = [day for day in DAYS if first <= day <= last]
        found = [hashes.get(day) for day in days]
        by_content = {tuple(contents[generation][day] for day in days): generation for generation in contents}
        generation = by_content[tuple(found)] if any(found) else None
        declared = {publications[day].declaration for day in days if day in publications}
        assert declared == (set() if generation is None else {spending(generation).digest()})
        state.append(generation)
    return tuple(state)


def test_a_process_that_is_killed_at_any_moment_leaves_every_partition_whole(
    world: World, undisturbed: Undisturbed
) -> None:
    """Two of three kills come while a range is published: of all that a process does this takes the least time."""
    random, kills, contents = Random(SEED), 0, undisturbed.contents
    state = state_of(world, contents)
    assert state == (None, None)
    print(
        f"seed {SEED}; a process takes {undisturbed.whole:.2f} s, publishes in {undisturbed.publishing:.3f} s"
    )
    for attempt in range(3 * KILLS):
        generation, phase = attempt % 2, attempt % (len(RANGES) + 1)
        process = world.process(generation, *RANGES)
        process.wait_for("begun")
        if phase < len(RANGES):
            process.wait_for(*["publishing", "published"] * phase, "publishing")
        moment = random.uniform(0, undisturbed.publishing if phase < len(RANGES) else undisturbed.whole)
        killed = process.end(after=moment) == -signal.SIGKILL
        before, state = state, state_of(world, contents)
        print(f"{phase=} {moment=:.3f} {killed=} {before} -> {state}")
        assert state in (before, (generation, before[1]), (generation, generation))
        kills += killed
        if kills == KILLS:
            break
    assert kills == KILLS
    assert world.process(0, *RANGES).end() == 0
    assert world.hashes() == contents[0]
    assert world.recorded() == world.told(), "the last one has recorded for those who could not"


def dies_before_the_ledger(
    settings: Settings, generation: int, ranges: Sequence[Range], connection: Connection
) -> None:
    from ml_platform.lake import ledger

    ledger._record = die
    make_in_process(settings, generation, ranges, connection)


def test_what_was_committed_counts_although_its_process_died_before_the_ledger_had_it(world: World) -> None:
    first, second = RANGES
    assert world.process(0, *RANGES).end() == 0
    old = agreed(world)
    ledger = world.recorded()
    assert world.process(1, first, target=dies_before_the_ledger).end() == -signal.SIGKILL
    new = agreed(world)
    assert {day for day in DAYS if new[day] != old[day]} == set(DAYS[:3])
    assert world.recorded() == ledger != world.told()
    assert world.process(1, second).end() == 0
    assert set(agreed(world).values()).isdisjoint(old.values())
    assert world.recorded() == world.told(), "whoever publishes next records it"
    assert {day: agreed(world)[day] for day in DAYS[:3]} == {day: new[day] for day in DAYS[:3]}


def test_the_first_days_of_a_view_count_too_when_their_process_died_before_the_ledger(world: World) -> None:
    assert world.process(0, *RANGES, target=dies_before_the_ledger).end() == -signal.SIGKILL
    committed = agreed(world)
    assert sorted(committed) == list(DAYS[:3]) and world.recorded() == []
    assert world.process(0, *RANGES).end() == 0
    assert {day: agreed(world)[day] for day in DAYS[:3]} == committed, "the same rows again"
    assert sorted(agreed(world)) == list(DAYS) and world.recorded() == world.told()


def dies_before_the_commit(
    settings: Settings, generation: int, ranges: Sequence[Range], connection: Connection
) -> None:
    from ml_platform.lake import tables

    tables.CommitProperties = die
    make_in_process(settings, generation, ranges, connection)


def test_what_was_not_committed_leaves_everything_as_it_was(world: World) -> None:
    assert world.process(0, *RANGES).end() == 0
    before = agreed(world), world.recorded(), world.told()
    assert world.process(1, *RANGES, target=dies_before_the_commit).end() == -signal.SIGKILL
    assert (agreed(world), world.recorded(), world.told()) == before
