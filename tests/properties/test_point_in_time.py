"""Random histories against an oracle in plain Python, written from the definitions alone."""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from feast import Entity, FeatureView, Field, FileSource
from feast.repo_config import RepoConfig
from feast.types import Int64, String
from feast.value_type import ValueType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.features import row_order
from ml_platform.features.offline_store import (
    DuckDBPointInTimeOfflineStore,
    DuckDBPointInTimeOfflineStoreConfig,
)

SECOND = 1_000_000_000
START = int(pd.Timestamp("2024-03-01").value)
KEYS = ("card", "shop")


@dataclass(frozen=True)
class Event:
    """One source row; times in nanoseconds since START."""

    card: int | None
    shop: str | None
    ts: int | None
    created: int | None
    value: int | None
    note: str | None
    world: int = 0


@dataclass(frozen=True)
class Asked:
    """One entity row; its time in nanoseconds since START."""

    card: int | None
    shop: str | None
    t: int | None
    world: int = 0


@dataclass(frozen=True)
class Reading:
    """How a view is read; lengths in seconds."""

    keys: tuple[str, ...]
    ttl: int
    available_after: int
    has_created: bool
    known_at: bool


class NoOnDemandViews:
    """A registry without on-demand feature views."""

    def list_on_demand_feature_views(self, project: str, allow_cache: bool = False) -> list[Any]:
        return []


def seldom(rare: Any, usual: st.SearchStrategy[Any], *, one_in: int = 10) -> st.SearchStrategy[Any]:
    """The rare value about once in `one_in` draws."""
    return st.integers(1, one_in).flatmap(lambda draw: st.just(rare) if draw == one_in else usual)


# Few distinct moments, so that boundaries, ties and duplicates are common; half microseconds test the rounding.
moments = st.builds(
    lambda second, nanos: second * SECOND + nanos,
    st.integers(0, 9),
    st.sampled_from([0, 0, 0, 500, -500, 1000]),
)
cards = seldom(None, st.sampled_from([1, 1, 1, 2]))
shops = seldom(None, st.sampled_from(["x", "y", "y"]))


def histories_with(delays: st.SearchStrategy[int]) -> st.SearchStrategy[list[Event]]:
    """Histories whose rows are created the drawn delay (in nanoseconds) after their event."""
    event = st.builds(
        lambda card, shop, ts, delay, created, value, note: Event(
            card, shop, ts, created if ts is None or created is None else ts + delay, value, note
        ),
        card=cards,
        shop=shops,
        ts=seldom(None, moments),
        delay=delays,
        created=seldom(None, st.just(0), one_in=15),
        value=st.one_of(st.none(), st.integers(0, 3)),
        note=st.sampled_from(["a", "b", None]),
    )
    return st.one_of(st.lists(event, max_size=3), st.lists(event, min_size=8, max_size=24))


some_late = st.sampled_from([0, 0, 500, SECOND, 2 * SECOND, 4 * SECOND, 7 * SECOND, -SECOND])
all_late = st.sampled_from([500, SECOND, 2 * SECOND, 4 * SECOND, 7 * SECOND])
histories = st.one_of(
    histories_with(some_late),
    histories_with(all_late),
    histories_with(st.just(0)),
    histories_with(st.just(2 * SECOND)),
)
asked = st.builds(Asked, cards, shops, seldom(None, moments))
everywhere = [
    Asked(card, shop, second * SECOND - nanos)
    for card, shop, second, nanos in itertools.product((1, 2), ("x", "y"), range(15), (0, 1000))
]


@dataclass(frozen=True)
class World:
    """A history of its own, and who asks in it."""

    history: list[Event]
    rows: list[Asked]


DELAYS = {  # after the event, in seconds
    "in time": (0,),
    "all alike": (2,),
    "some late": (0, 0, 0.0000005, 1, 2, 4, 7, -1),
    "all late": (0.0000005, 1, 2, 4, 7),
}


def worlds(random: Random, delays: Sequence[float], count: int) -> list[World]:
    """Small worlds, told apart by their number, which is a key: many can be read at once."""

    def moment() -> int:
        return random.randint(0, 9) * SECOND + random.choice([0, 0, 0, 500, -500, 1000])

    def sometimes(value: Any) -> Any:
        return value if random.random() > 0.07 else None

    def event(world: int) -> Event:
        ts = moment()
        created = sometimes(ts + round(random.choice(delays) * SECOND))
        card, shop = sometimes(random.choice([1, 1, 2])), sometimes(random.choice("xyy"))
        value, note = random.choice([None, 0, 1, 2, 3]), random.choice(["a", "b", None])
        return Event(card, shop, sometimes(ts), created, value, note, world)

    def row(world: int) -> Asked:
        return Asked(
            sometimes(random.choice([1, 1, 2])), sometimes(random.choice("xy")), sometimes(moment()), world
        )

    return [
        World([event(n) for _ in range(random.randint(0, 9))], [row(n) for _ in range(6)])
        for n in range(count)
    ]


readings = st.builds(
    Reading,
    keys=st.sampled_from([(), ("card",), ("card",), ("card",), KEYS]),
    ttl=st.sampled_from([0, 0, 1, 2, 5]),
    available_after=st.sampled_from([0, 0, 1, 3]),
    has_created=seldom(False, st.just(True), one_in=8),
    known_at=st.just(False),
)


def up(nanos: int) -> int:
    return -(-nanos // 1000)


def down(nanos: int) -> int:
    return nanos // 1000


def answer(row: Asked, history: Sequence[Event], reading: Reading) -> tuple[int | None, str | None]:
    """The newest row that the definitions allow, found by looking at every row."""
    if row.t is None:
        return None, None
    t = down(row.t)
    best: tuple[Any, ...] | None = None
    found: tuple[int | None, str | None] = (None, None)
    for event in history:
        wanted = [getattr(row, key) for key in reading.keys]
        if None in wanted or wanted != [getattr(event, key) for key in reading.keys] or event.ts is None:
            continue
        ts = up(event.ts)
        created = None if event.created is None or not reading.has_created else up(event.created)
        if ts > t - reading.available_after * 1_000_000 or (reading.ttl and ts < t - reading.ttl * 1_000_000):
            continue
        if reading.known_at and reading.has_created and (created is None or created > t):
            continue
        rank = (
            ts,
            present(created),
            *(
                present(vars(event)[name])
                for name in ("card", "created", "note", "shop", "ts", "value", "world")
            ),
        )
        if best is None or rank > best:  # of one microsecond, the later nanosecond is among what ranks
            best, found = rank, (event.value, event.note)
    return found


def present(value: Any) -> tuple[bool, Any]:
    """Any value ranks above a missing one."""
    return (False, 0) if value is None else (True, value)


def source(history: Sequence[Event], path: Path) -> None:
    time = pa.timestamp("ns", "UTC")
    pq.write_table(
        pa.table(
            {
                "note": pa.array([event.note for event in history], pa.string()),
                "card": pa.array([event.card for event in history], pa.int64()),
                "shop": pa.array([event.shop for event in history], pa.string()),
                "ts": pa.array([None if event.ts is None else START + event.ts for event in history], time),
                "created": pa.array(
                    [None if e.created is None else START + e.created for e in history], time
                ),
                "value": pa.array([event.value for event in history], pa.int64()),
                "world": pa.array([event.world for event in history], pa.int64()),
            }
        ),
        path,
    )


def view(name: str, reading: Reading, path: Path) -> FeatureView:
    entities = {
        "card": Entity(name="card", join_keys=["card"], value_type=ValueType.INT64),
        "shop": Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING),
        "world": Entity(name="world", join_keys=["world"], value_type=ValueType.INT64),
    }
    types = {"card": Int64, "shop": String, "world": Int64}
    return FeatureView(
        name=name,
        entities=[entities[key] for key in reading.keys],
        schema=[
            *(Field(name=key, dtype=types[key]) for key in reading.keys),
            Field(name="value", dtype=Int64),
            Field(name="note", dtype=String),
        ],
        ttl=dt.timedelta(seconds=reading.ttl),
        tags={"available_after": str(reading.available_after)},
        source=FileSource(
            path=str(path),
            timestamp_field="ts",
            created_timestamp_column="created" if reading.has_created else "",
        ),
    )


def frame(rows: Sequence[Asked]) -> pd.DataFrame:
    times = [pd.NaT if row.t is None else pd.Timestamp(START + row.t, tz="UTC") for row in rows]
    return pd.DataFrame(
        {
            "shop": pd.Series([row.shop for row in rows], dtype=object),
            "card": pd.Series([row.card for row in rows], dtype="Int64"),
            "world": pd.Series([row.world for row in rows], dtype="int64"),
            "event_timestamp": pd.Series(times, dtype="datetime64[ns, UTC]"),
            "position": range(len(rows)),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("histories")


COUNTER = itertools.count()
quick = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@settings(quick, max_examples=80)
@given(
    histories,
    histories,
    st.one_of(
        st.lists(asked, min_size=4, max_size=12),
        st.lists(asked, max_size=4).map(lambda drawn: [*drawn, *everywhere]),
    ),
    readings,
    readings,
    st.sampled_from([True, True, False]),
    st.sampled_from([1_000, 0]),
    st.sampled_from([1_000, 1_000, 0]),
)
def test_every_answer_is_the_one_that_the_definitions_give(
    folder: Path,
    first: list[Event],
    second: list[Event],
    rows: list[Asked],
    reading: Reading,
    other: Reading,
    known_at: bool,
    hashes_in_text: int,
    hashes_in_memory: int,
) -> None:
    reading, other = (dataclasses.replace(one, known_at=known_at) for one in (reading, other))
    with pytest.MonkeyPatch.context() as patch:  # few rows, and the ways for more than are held in memory
        patch.setattr(row_order, "_HASHES_IN_TEXT", hashes_in_text)
        patch.setattr(row_order, "_HASHES_IN_MEMORY", hashes_in_memory)
        got = read(folder, (first, reading), (second, other), rows=rows)
    expected = [(*answer(row, first, reading), *answer(row, second, other)) for row in rows]
    assert got == expected


@settings(quick, max_examples=60)
@given(st.integers(0), st.sampled_from(sorted(DELAYS)), readings, readings, st.booleans())
def test_every_answer_of_many_worlds_is_the_one_that_the_definitions_give(
    folder: Path, seed: int, delays: str, reading: Reading, other: Reading, known_at: bool
) -> None:
    reading, other = (of_worlds(one, known_at=known_at) for one in (reading, other))
    made = worlds(Random(seed), DELAYS[delays], count=50)
    history = [event for world in made for event in world.history]
    got = iter(
        read(folder, (history, reading), (history, other), rows=[row for world in made for row in world.rows])
    )
    for world in made:
        answers = [
            (*answer(row, world.history, reading), *answer(row, world.history, other)) for row in world.rows
        ]
        assert list(itertools.islice(got, len(world.rows))) == answers, world


@settings(quick, max_examples=30)
@given(st.integers(0), st.sampled_from(sorted(DELAYS)), readings, st.booleans())
def test_a_row_of_later_or_created_later_never_changes_what_is_read(
    folder: Path, seed: int, delays: str, reading: Reading, known_at: bool
) -> None:
    random, reading = Random(seed), of_worlds(reading, known_at=known_at)
    made = [
        World(world.history, [dataclasses.replace(row, t=now(world)) for row in world.rows])
        for world in worlds(random, DELAYS[delays], count=50)
    ]
    rows = [row for world in made for row in world.rows]
    before = [event for world in made for event in world.history]
    after = [*before, *(event for world in made for event in later(random, world, reading))]
    random.shuffle(after)
    assert read(folder, (after, reading), rows=rows) == read(folder, (before, reading), rows=rows)


def of_worlds(reading: Reading, *, known_at: bool) -> Reading:
    """The same reading of a view that is also keyed on the world."""
    return dataclasses.replace(reading, keys=("world", *reading.keys), known_at=known_at)


def now(world: World) -> int:
    """The one time at which all rows of a world ask."""
    return next((row.t for row in world.rows if row.t is not None), 5 * SECOND)


def later(random: Random, world: World, reading: Reading) -> list[Event]:
    """New rows that nobody may see yet: their event is still to come, or they are still to be created."""
    t = now(world)
    created_counts = reading.known_at and reading.has_created
    added = []
    for row in world.rows:
        ahead = t + random.choice([1, 1000, SECOND, 3 * SECOND])
        past = t - random.choice([0, 1, SECOND, 2 * SECOND])
        ts, created = random.choice(
            [(ahead, past), (ahead, ahead), (past, ahead)] if created_counts else [(ahead, past)]
        )
        added.append(Event(row.card, row.shop, ts, created, 9, "later", row.world))
    return added


def read(
    folder: Path, *views: tuple[list[Event], Reading], rows: list[Asked]
) -> list[tuple[int | str | None, ...]]:
    """Value and note of each view for all rows, as one table; it must be what the stream gives too."""
    run = next(COUNTER)
    paths = [folder / f"{run}_{n}.parquet" for n in range(len(views))]
    for path, (history, _) in zip(paths, views, strict=True):
        source(history, path)
    known_at = views[0][1].known_at
    config = RepoConfig(
        project="properties",
        provider="local",
        registry="unused.db",
        entity_key_serialization_version=3,
        offline_store=DuckDBPointInTimeOfflineStoreConfig(known_at=known_at, threads=1),
    )
    job = DuckDBPointInTimeOfflineStore.get_historical_features(
        config,
        [view(f"v{n}", reading, paths[n]) for n, (_, reading) in enumerate(views)],
        [f"v{n}:{name}" for n in range(len(views)) for name in ("value", "note")],
        frame(rows),
        NoOnDemandViews(),
        "properties",
        full_feature_names=True,
    )
    got = job.to_arrow()
    assert job.to_arrow_reader(batch_rows=7).read_all().equals(got)
    assert got.column("position").to_pylist() == list(range(len(rows)))
    for path in paths:
        path.unlink()
    names = [f"v{n}__{name}" for n in range(len(views)) for name in ("value", "note")]
    return list(zip(*(got.column(name).to_pylist() for name in names), strict=True))
