"""Which events are rows, and which are left out: the same as one who walks through them day by day would say."""

import datetime as dt
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import duckdb
import pandas as pd
import pytest

from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.partitions import ONE_DAY, day_range
from ml_platform.lake.content_hash import content_hash
from ml_platform.training_sets import store
from ml_platform.training_sets.compute import known_positives_sql, labelled_sql, placed_sql
from ml_platform.training_sets.spec import Split, TrainingSetSpec
from tests.built import Platform
from tests.support import LAST_DAY

FIRST = dt.date(2018, 6, 1)
DAYS = [FIRST + number * ONE_DAY for number in range(8)]
SPLIT = Split(train=(DAYS[0], DAYS[2]), gap=(DAYS[3], DAYS[4]), test=(DAYS[5], DAYS[7]))
Event = tuple[int, dt.date, int | None, str | None]
"""Id, day, customer and channel, of which either need not be known."""
Label = tuple[int, int | None, dt.date]
"""Event's id, label, and the day from whose midnight on it is known."""


def a_world(seed: int) -> tuple[list[Event], list[Label]]:
    """Thirty events of five customers; labels come after two days or so, some never, some say nothing."""
    chance = random.Random(seed)
    events: list[Event] = [
        (
            number,
            chance.choice(DAYS),
            chance.choice([1, 2, 3, 4, 5, None]),
            chance.choice(["chip", "web", None]),
        )
        for number in range(30)
    ]
    labels: list[Label] = [
        (number, chance.choice([0, 0, 1, None]), day + chance.choice([1, 2, 2, 2, 9]) * ONE_DAY)
        for number, day, *_ in events
        if chance.random() < 0.9
    ]
    return events, labels


def naive(
    events: list[Event], labels: list[Label], cut: dt.date, *, excluding: Sequence[str]
) -> dict[int, str]:
    """Where each event belongs, by asking of each one by itself what was known when."""
    found = {}
    keys = len(excluding)
    for number, day, *ids in events:
        label = next((label for of, label, known in labels if of == number and known <= cut), None)
        known_frauds = {
            tuple(who[:keys])
            for of, label_then, known in labels
            for other, _, *who in events
            if other == of and None not in who[:keys] and label_then == 1 and known <= day
        }
        if SPLIT.gap[0] <= day <= SPLIT.gap[1]:
            found[number] = "gap"
        elif label is None:
            found[number] = "without_label"
        elif day < SPLIT.gap[0]:
            found[number] = "train"
        else:
            found[number] = "known_positive" if keys and tuple(ids[:keys]) in known_frauds else "test"
    return found


def placed(
    events: list[Event], labels: list[Label], cut: dt.date, *, excluding: Sequence[str]
) -> dict[int, str]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE events (id INT, partition_date DATE, customer_id INT, channel TEXT)")
        connection.execute("CREATE TABLE labels (of INT, is_fraud INT, known DATE)")
        connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", events)
        connection.executemany("INSERT INTO labels VALUES (?, ?, ?)", labels)

        def known_by(day: dt.date) -> str:
            known = f"SELECT * FROM labels WHERE known <= DATE '{day}'"
            return labelled_sql(
                "SELECT * FROM events",
                known,
                event_id="id",
                label_event_id="of",
                label="is_fraud",
                task="classification",
            )

        known = {day: known_by(day) for day in day_range(*SPLIT.test)}
        positives = known_positives_sql(known, keys=excluding) if excluding else None
        query = placed_sql(known_by(cut), SPLIT, known_positives=positives, keys=excluding)
        found = connection.execute(f"SELECT id, split FROM ({query})").fetchall()
    assert len(found) == len(events), "each event once"
    return dict(found)


@pytest.mark.parametrize("excluding", [(), ("customer_id",), ("customer_id", "channel")])
def test_events_are_placed_as_one_by_one_reasoning_would(excluding: Sequence[str]) -> None:
    cut, seen = DAYS[-1] + 3 * ONE_DAY, Counter[str]()
    for seed in range(40):
        events, labels = a_world(seed)
        expected = naive(events, labels, cut, excluding=excluding)
        assert placed(events, labels, cut, excluding=excluding) == expected, f"world {seed}"
        seen.update(expected.values())
    wanted = ["gap", "without_label", "train", "test", *(["known_positive"] if excluding else [])]
    assert set(seen) == set(wanted) and min(seen.values()) > 20


def test_a_fraud_that_becomes_known_during_a_test_day_leaves_the_days_after_it() -> None:
    rows = [(1, DAYS[3], 7), (2, DAYS[5], 7), (3, DAYS[6], 7), (4, DAYS[6], 8)]
    events: list[Event] = [(*row, None) for row in rows]
    labels: list[Label] = [(1, 1, DAYS[6]), *((number, 0, DAYS[7]) for number in (2, 3, 4))]
    found = placed(events, labels, DAYS[-1], excluding=["customer_id"])
    assert found == {1: "gap", 2: "test", 3: "known_positive", 4: "test"}


def excluding(spec: TrainingSetSpec, entity: str = "customer") -> TrainingSetSpec:
    return spec.model_copy(update={"exclude_known_positive_entities": entity})


def declared(platform: Platform) -> TrainingSetSpec:
    return platform.catalog.get(TrainingSetSpec, "fraud", wanted_by="a test")


def handbook(delivered: pd.DataFrame, split: Split, *, delay: dt.timedelta) -> set[int]:
    """Transactions of the test days that the handbook's `get_train_test_set` keeps: it grows a set day by day.

    Customers defrauded in the train days are known at once; those of one more day with every test day.
    """
    days = delivered.tx_datetime.dt.date
    frauds = delivered[delivered.tx_fraud == 1]
    fraud_days = frauds.tx_datetime.dt.date
    known = set(frauds[(fraud_days >= split.train[0]) & (fraud_days <= split.train[1])].customer_id)
    kept: set[int] = set()
    for day in day_range(*split.test):
        known |= set(frauds[fraud_days == day - delay - ONE_DAY].customer_id)
        kept |= set(delivered[(days == day) & ~delivered.customer_id.isin(known)].transaction_id)
    return kept


def test_customers_known_to_be_defrauded_leave_the_test_days_as_in_the_handbook(shared: Platform) -> None:
    spec = declared(shared)
    split = spec.split(dt.date.fromisoformat(LAST_DAY), shared.catalog)
    kept = handbook(
        shared.delivered().to_pandas(), split, delay=spec.label_source(shared.catalog).maturity.timedelta()
    )
    with_all = store.build(shared.settings, spec, shared.catalog, LAST_DAY)
    built = store.build(shared.settings, excluding(spec), shared.catalog, LAST_DAY)
    rows, all_rows = built.rows.to_pandas(), with_all.rows.to_pandas()
    assert set(rows[rows.split == "test"].transaction_id) == kept
    train = rows[rows.split == "train"].reset_index(drop=True)
    assert train.equals(all_rows[all_rows.split == "train"].reset_index(drop=True)), "train days keep them"
    left_out = len(all_rows) - len(rows)
    assert built.manifest["rows_known_positive"] == left_out > 100
    assert with_all.manifest["rows_known_positive"] == 0
    assert built.manifest["rows"]["test"]["rows"] == len(kept)


def test_a_set_with_the_rule_is_rebuilt_with_the_rule(shared: Platform) -> None:
    built = store.build(shared.settings, excluding(declared(shared)), shared.catalog, LAST_DAY)
    again = store.rebuild(shared.settings, built.manifest)
    assert again.identical and again.content_hash == content_hash(built.rows)


def test_only_an_entity_that_the_features_are_about_can_be_excluded(shared: Platform) -> None:
    with pytest.raises(
        DeclarationError, match=r"exclude_known_positive_entities.*\(customer, terminal\); got 'shop'"
    ):
        excluding(declared(shared), "shop").nodes(shared.catalog)


def test_rows_carry_the_join_keys_of_every_entity_beside_the_event_id(shared: Platform) -> None:
    rows = shared.rows("training_sets/fraud", LAST_DAY)
    keys = declared(shared).keys_carried(shared.catalog)
    assert keys == ["customer_id", "terminal_id"]
    assert rows.column_names[:6] == ["transaction_id", *keys, "event_timestamp", "split", "label"]
    delivered = shared.delivered().to_pandas().set_index("transaction_id")
    carried: Any = rows.to_pandas().set_index("transaction_id")[keys]
    assert carried.astype("int64").equals(delivered.loc[carried.index, keys].astype("int64"))


def test_a_manifest_of_an_earlier_version_tells_the_same_entities_apart(shared: Platform) -> None:
    spec = declared(shared)
    manifest = store.read_manifest(shared.settings, spec, LAST_DAY)
    assert manifest["entities"] == {"customer": ["customer_id"], "terminal": ["terminal_id"]}
    earlier = {**manifest, "entities": {entity: key for entity, (key,) in manifest["entities"].items()}}
    now, then = (store.read_arrays(shared.settings, spec, found)["test"] for found in (manifest, earlier))
    assert {name: ids.tolist() for name, ids in now.entities.items()} == {
        name: ids.tolist() for name, ids in then.entities.items()
    }
