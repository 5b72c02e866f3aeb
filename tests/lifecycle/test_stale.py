"""Late data re-opens exactly the partitions that it changes, and rebuilding those is as good as rebuilding all."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ml_platform.features import component
from ml_platform.gates.guard import _made_from_others
from ml_platform.kernel.lineage import Lineage, Node, Upstream
from ml_platform.kernel.partitions import day, day_range, key_of
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.ledger import history, published, restamp
from tests.lifecycle.late_payments import (
    FIRST,
    LABELS,
    LAST,
    PAYMENTS,
    RISK,
    SPENDING,
    World,
    by_event,
    consumers,
    differing,
    specs,
)

DAYS = [key_of(date) for date in day_range(day(FIRST), day(LAST))]
CUSTOMERS = (1, 2, 3)
PROFILE, TRAINING_SET = "drift_profiles/fraud", "training_sets/fraud"


def payment(
    id: int, on: str, customer: int, amount: float = 5.0, *, at: str = "10:00:00", note: str = ""
) -> str:
    return f"{id},{on}T{at},{customer},{amount},{note}"


def label(id: int, on: str, fraud: int, *, at: str = "10:00:00") -> str:
    return f"{id},{on}T{at},{fraud}"


def id_of(on: str, customer: int) -> int:
    return 10 * DAYS.index(on) + customer


def days(first: int, last: int) -> set[str]:
    """Partition keys of April, both ends included."""
    return {f"2018-04-{number:02}" for number in range(first, last + 1)}


def built(home: Settings, more: Sequence[NamedSpec] = (), **payments: object) -> World:
    """One payment a day and customer with its label, everything published."""
    world = World(home, [*specs(**payments), *more])
    world.deliver("payments", [payment(id_of(on, c), on, c) for on in DAYS for c in CUSTOMERS])
    world.deliver("labels", [label(id_of(on, c), on, 0) for on in DAYS for c in CUSTOMERS])
    world.make_all()
    assert world.stale() == []
    return world


@pytest.fixture
def world(home: Settings) -> World:
    return built(home)


def settled(world: World, fresh: Path) -> dict[str, set[str]]:
    """What was rebuilt; asserts that it is exactly what a full rebuild makes otherwise, and as that makes it."""
    before = world.hashes()
    rebuilt = world.settle()
    expected = world.rebuilt_in(fresh)
    assert world.hashes() == expected
    assert rebuilt == differing(before, expected)
    return rebuilt


def test_a_late_event_re_opens_the_snapshots_between_when_it_was_known_and_when_windows_have_left_it(
    world: World, tmp_path: Path
) -> None:
    world.deliver("payments", [payment(900, "2018-04-04", 1)], known_at="2018-04-05T12:00:00")
    assert settled(world, tmp_path / "fresh") == {PAYMENTS: {"2018-04-04"}, SPENDING: days(5, 6)}


def test_a_late_event_re_opens_its_own_day_of_a_view_by_event_and_the_days_of_events_that_count_it(
    home: Settings, tmp_path: Path
) -> None:
    world = built(home, [by_event()])
    world.deliver("payments", [payment(900, "2018-04-04", 1)], known_at="2018-04-05T12:00:00")
    reopened = days(6, 7) | {"2018-04-04"}  # at 10:00 on the fifth it was not known
    assert settled(world, tmp_path / "fresh")[by_event().key] == reopened


def test_the_reason_of_a_late_event_is_told_by_day(world: World) -> None:
    world.deliver("payments", [payment(900, "2018-04-04", 1)], known_at="2018-04-05T12:00:00")
    [delivered] = world.stale()
    assert (delivered.asset, delivered.reason) == (PAYMENTS, "1 file landed since")
    world.make(PAYMENTS, delivered.partitions)
    [seen] = world.stale()
    assert (seen.asset, seen.partitions) == (SPENDING, ("2018-04-05", "2018-04-06"))
    assert seen.reason == f"late or corrected rows of {PAYMENTS} [2018-04-04]"


def test_a_correction_re_opens_the_snapshots_from_when_it_was_known(world: World, tmp_path: Path) -> None:
    correction = payment(id_of("2018-04-06", 2), "2018-04-06", 2, amount=7)
    world.deliver("payments", [correction], known_at="2018-04-08T00:00:00")
    assert settled(world, tmp_path / "fresh") == {PAYMENTS: {"2018-04-06"}, SPENDING: days(7, 8)}


def test_a_correction_of_what_no_view_reads_re_opens_none_and_is_looked_at_once(
    world: World, tmp_path: Path
) -> None:
    noted = payment(id_of("2018-04-06", 2), "2018-04-06", 2, note="by phone")
    world.deliver("payments", [noted], known_at="2018-04-06T12:00:00")
    world.make(PAYMENTS, ["2018-04-06"])
    assert _made_from_others(world.inputs(), SPENDING, (FIRST, LAST)), "nobody has looked yet"
    assert world.stale() == []
    assert not _made_from_others(world.inputs(), SPENDING, (FIRST, LAST))
    entries = len(history(world.lake))
    assert world.stale() == [] and len(history(world.lake)) == entries
    assert world.hashes() == world.rebuilt_in(tmp_path / "fresh")


def test_a_late_label_re_opens_the_snapshots_of_its_delayed_windows(world: World, tmp_path: Path) -> None:
    late = label(id_of("2018-04-05", 3), "2018-04-05", 1)
    world.deliver("labels", [late], known_at="2018-04-08T09:00:00")
    assert settled(world, tmp_path / "fresh") == {LABELS: {"2018-04-05"}, RISK: {"2018-04-08"}}


def test_what_was_known_after_every_snapshot_that_reads_it_re_opens_none(
    world: World, tmp_path: Path
) -> None:
    world.deliver("payments", [payment(900, "2018-04-04", 1)], known_at="2018-04-07T00:00:01")
    assert settled(world, tmp_path / "fresh") == {PAYMENTS: {"2018-04-04"}}
    assert not _made_from_others(world.inputs(), SPENDING, (FIRST, LAST))


def test_an_entity_not_seen_before_re_opens_every_snapshot_from_when_it_was_known(
    world: World, tmp_path: Path
) -> None:
    world.deliver("payments", [payment(900, "2018-04-02", 77)], known_at="2018-04-08T12:00:00")
    assert settled(world, tmp_path / "fresh") == {
        PAYMENTS: {"2018-04-02"},
        SPENDING: days(8, 12),
        RISK: days(8, 12),
    }


def test_files_that_say_nothing_new_re_open_nothing(world: World) -> None:
    world.deliver("payments", [payment(id_of(FIRST, 1), FIRST, 1)])
    assert world.stale() == []


def test_restated_events_re_open_what_a_full_history_would_change(home: Settings, tmp_path: Path) -> None:
    world = built(home, late_data="restate")
    correction = payment(id_of("2018-04-04", 1), "2018-04-04", 1, amount=9)
    world.deliver("payments", [correction])
    assert settled(world, tmp_path / "1") == {PAYMENTS: {"2018-04-04"}, SPENDING: days(4, 6)}
    world.deliver("payments", [payment(900, "2018-04-05", 77)], known_at="2018-04-20")
    assert settled(world, tmp_path / "2") == {
        PAYMENTS: {"2018-04-05"},
        SPENDING: days(5, 12),
        RISK: days(5, 12),
    }
    rows = world.lake.table(PAYMENTS).open().to_pyarrow_table().to_pylist()  # pyright: ignore
    mine = [row for row in rows if row["id"] == id_of("2018-04-04", 1)]
    assert [(row["amount"], row["created_timestamp"]) for row in mine] == [(9.0, mine[0]["event_timestamp"])]


def test_another_declaration_re_opens_all_partitions_of_its_asset(world: World, tmp_path: Path) -> None:
    world.specs = [
        spec.model_copy(update={"aggregations": spec.aggregations[:1]}) if spec.name == "spending" else spec  # type: ignore[attr-defined]
        for spec in world.specs
    ]
    [found] = world.stale()
    assert (found.asset, set(found.partitions)) == (SPENDING, set(DAYS))
    assert found.reason == "declaration changed"
    world.settle()
    assert world.hashes() == world.rebuilt_in(tmp_path / "fresh")


def test_profiles_and_training_sets_are_stale_by_what_they_read_as_known_at_their_midnight(
    home: Settings, tmp_path: Path
) -> None:
    world = built(home, consumers())
    profiles = set(world.hashes()[PROFILE])
    correction = payment(id_of("2018-04-08", 2), "2018-04-08", 2, amount=7)
    world.deliver("payments", [correction], known_at="2018-04-09T12:00:00")
    world.make(PAYMENTS, ["2018-04-08"])
    assert "2018-04-08" in profiles and PROFILE not in world.stale_days(), "the day ended before it was known"
    rebuilt = settled(world, tmp_path / "fresh")
    assert rebuilt == {SPENDING: days(9, 10), PROFILE: days(10, 11), TRAINING_SET: {"2018-04-12"}}


def test_rows_published_between_a_read_and_its_publication_leave_the_partition_stale(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world.deliver("payments", [payment(900, "2018-04-06", 1)], known_at="2018-04-06T12:00:00")
    publish = component.publish

    def overtaken(*arguments: object, **named: object) -> object:
        monkeypatch.setattr(component, "publish", publish)
        world.make(PAYMENTS, ["2018-04-06"])
        return publish(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(component, "publish", overtaken)
    world.make(SPENDING, ["2018-04-06"])
    assert world.stale_days() == {SPENDING: days(6, 8)}
    world.settle()
    assert world.hashes() == world.rebuilt_in(tmp_path / "fresh")


def test_publications_from_before_inputs_were_recorded_are_looked_at_and_recorded(world: World) -> None:
    old = [
        replace(p, inputs="", known={})
        for a in (PAYMENTS, SPENDING)
        for p in published(world.lake, a).values()
    ]
    restamp(world.lake, old)
    assert world.stale() == []
    assert all(p.inputs and p.known for p in published(world.lake, PAYMENTS).values())
    assert all(p.inputs for p in published(world.lake, SPENDING).values())


def test_an_event_exact_reader_is_made_again_for_events_of_its_own_day_that_were_known_later(
    world: World,
) -> None:
    nodes = dict(world.catalog.lineage.nodes)
    for name, whole in (("snapshots", False), ("events", True)):
        reads = (Upstream(PAYMENTS, first=-2, whole=whole),)
        nodes[name] = Node(name, day(FIRST), day(LAST), upstream=reads)
    lineage = Lineage(nodes)
    before = Inputs.now(world.lake, lineage)
    world.deliver("payments", [payment(900, "2018-04-04", 1)], known_at="2018-04-20")
    world.make(PAYMENTS, ["2018-04-04"])
    after = Inputs.now(world.lake, lineage)
    changed = {
        name: {key for key in DAYS if before.digest(name, key) != after.digest(name, key)}
        for name in ("snapshots", "events")
    }
    assert changed == {"snapshots": set(), "events": {"2018-04-04"}}


@pytest.mark.parametrize("late_data", ["as_known", "restate"])
def test_rebuilding_what_random_late_data_re_opened_is_rebuilding_everything(
    home: Settings, tmp_path: Path, late_data: str
) -> None:
    chance = random.Random(late_data)
    world = built(home, late_data=late_data)
    for number in range(2):
        for _ in range(chance.randint(1, 4)):
            deliver_something_late(world, chance)
        settled(world, tmp_path / f"fresh {number}")
        assert world.stale() == [], "what was rebuilt is current, and stays so"


def deliver_something_late(world: World, chance: random.Random) -> None:
    """A late event, of an old or a new entity, a correction, or a label, known some time after its event."""
    on, customer, number = chance.choice(DAYS[:-2]), chance.choice(CUSTOMERS), len(world.files)
    known_on = day(on).day + chance.choice([0, 1, 2, 3, 5])
    known = f"2018-04-{known_on:02}T{chance.randint(10, 23)}:30:{number:02}"
    kind = chance.choice(["event", "new entity", "correction", "other entity", "note", "label"])
    amount, existing = chance.randint(1, 9), id_of(on, customer)
    if kind == "label":
        world.deliver("labels", [label(existing, on, chance.randint(0, 1))], known_at=known)
        return
    line = {
        "event": payment(1000 + number, on, customer, amount),
        "new entity": payment(1000 + number, on, 1000 + number, amount),
        "correction": payment(existing, on, customer, amount),
        "other entity": payment(existing, on, chance.choice([*CUSTOMERS, 77])),
        "note": payment(existing, on, customer, note=f"note {number}"),
    }[kind]
    world.deliver("payments", [line], known_at=known)
