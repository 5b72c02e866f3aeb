"""Payments that are published by the hour: hourly snapshots, and what is made of a day from all of its hours."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.partitions import CADENCES, complete_at, key_range, start_of
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.lake.ledger import published
from ml_platform.sources.spec import SourceSpec
from tests.lifecycle.late_payments import PAYMENTS, RISK, SPENDING, World, consumers, differing
from tests.sources.deliveries import rows_of

FIRST, LAST = "2018-04-01", "2018-04-07"
HOUR = dt.timedelta(hours=1)
LATE = dt.timedelta(hours=6)
"""How long after a payment its label is known."""
PROFILE, TRAINING_SET = "drift_profiles/fraud", "training_sets/fraud"


def hourly_specs() -> list[NamedSpec]:
    """Payments and labels by the hour, and two views of the last hours."""
    time, number = {"type": "timestamp"}, {"type": "int64"}
    source: dict[str, Any] = {"event_id": "id", "start": FIRST, "end": LAST, "partitions": "hourly"}
    paid = {"id": number, "event_timestamp": time, "customer_id": number, "amount": {"type": "double"}}
    note = {"note": {"type": "string", "nullable": True}}
    labelled = {"id": number, "event_timestamp": time, "fraud": number}
    view: dict[str, Any] = {"entity": "customer", "source": "payments", "ttl": "3d"}
    spent = {"column": "amount", "windows": ["1h", "5h", "1d"]}
    risk = {"column": "fraud", "function": "mean", "windows": ["12h"], "delay": "6h"}
    return [
        SourceSpec.model_validate({**source, "name": "payments", "columns": {**paid, **note}}),
        SourceSpec.model_validate(
            {**source, "name": "labels", "columns": labelled, "arrival": "6h", "maturity": "6h"}
        ),
        FeatureViewSpec.model_validate(
            {
                **view,
                "name": "spending",
                "aggregations": [{**spent, "function": f} for f in ("count", "sum")],
                "available_after": "30m",
            }
        ),
        FeatureViewSpec.model_validate(
            {**view, "name": "risk", "labels": "labels", "aggregations": [risk], "available_after": "2h"}
        ),
        *consumers(),
    ]


Paid = tuple[int, dt.datetime, int, float]
"""Id, time, customer and amount of a payment."""


def payments() -> Iterator[Paid]:
    """Some payments in most hours, one exactly at an hour, and hours without any."""
    start, end = start_of(FIRST), complete_at(LAST)
    for number, minutes in enumerate(range(0, int((end - start) / dt.timedelta(minutes=1)), 50)):
        if number % 11 < 8:
            yield number, start + dt.timedelta(minutes=minutes), number % 3 + 1, float(number % 7 + 1)


def payment_line(paid: Paid, amount: float | None = None) -> str:
    id_, at, customer, was = paid
    return f"{id_},{at:%Y-%m-%dT%H:%M:%S},{customer},{was if amount is None else amount},"


def label_line(paid: Paid) -> str:
    return f"{paid[0]},{paid[1]:%Y-%m-%dT%H:%M:%S},{int(paid[0] % 5 == 0)}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Everything published, of good deliveries in time."""
    return delivered(tmp_path_factory.mktemp("hourly"))


def delivered(folder: Path) -> World:
    world = World(Settings(home=folder).prepare(), hourly_specs(), last=LAST)
    world.deliver("payments", map(payment_line, payments()))
    world.deliver("labels", map(label_line, payments()))
    world.make_all()
    return world


def spent(customer: int, until: dt.datetime, hours: int) -> float:
    """What a customer paid in the hours before a time."""
    return sum(p[3] for p in payments() if p[2] == customer and until - hours * HOUR <= p[1] < until)


def fraud_rate(customer: int, until: dt.datetime) -> float | None:
    end = until - LATE
    found = [p[0] % 5 == 0 for p in payments() if p[2] == customer and end - 12 * HOUR <= p[1] < end]
    return sum(found) / len(found) if found else None


def seen_at(time: dt.datetime, available_after: dt.timedelta) -> dt.datetime:
    """The time of the snapshot that a payment sees."""
    latest = time - available_after
    return latest.replace(minute=0, second=0, microsecond=0)


def test_every_hour_has_a_snapshot_of_all_who_had_paid_as_of_its_end(built: World) -> None:
    rows = rows_of(built.lake.table(SPENDING))
    hours = key_range(f"{FIRST}-00:00", f"{LAST}-23:00")
    assert sorted(published(built.lake, SPENDING)) == hours == sorted({row["partition_hour"] for row in rows})
    for row in rows[::7]:
        end = complete_at(row["partition_hour"])
        assert row["event_timestamp"] == row["created_timestamp"] == end
        for window, length in (("1h", 1), ("5h", 5), ("1d", 24)):
            assert (row[f"amount_sum_{window}"] or 0.0) == spent(row["customer_id"], end, length)
    late = [row for row in rows_of(built.lake.table(RISK)) if row["partition_hour"] > "2018-04-02"]
    assert any(row["fraud_mean_12h"] for row in late)
    for row in late[::5]:
        rate = fraud_rate(row["customer_id"], complete_at(row["partition_hour"]))
        assert row["fraud_mean_12h"] == (rate if rate is None else pytest.approx(rate))


def test_a_day_is_profiled_and_trained_on_from_what_its_hours_said_at_each_event(built: World) -> None:
    profiled = rows_of(built.lake.table(PROFILE))
    of_day = [row for row in profiled if str(row["partition_date"]) == "2018-04-05"]
    by_id = {p[0]: p for p in payments()}
    assert {row["id"] for row in of_day} == {
        i for i, p in by_id.items() if p[1].date() == dt.date(2018, 4, 5)
    }
    trained = rows_of(built.lake.table(TRAINING_SET))
    newest = [row for row in trained if str(row["partition_date"]) == LAST]
    assert {row["event_timestamp"].day for row in newest if row["split"] == "test"} == {6}
    assert {row["event_timestamp"].day for row in newest if row["split"] == "train"} == {4}
    for row in [*of_day, *newest]:
        _, at, customer, _ = by_id[row["id"]]
        assert row["amount_sum_5h"] == pytest.approx(
            spent(customer, seen_at(at, HOUR / 2), 5) or None, nan_ok=True
        )
        rate = fraud_rate(customer, seen_at(at, 2 * HOUR))
        assert row["fraud_mean_12h"] == (rate if rate is None else pytest.approx(rate))
    assert all(row["label"] == int(row["id"] % 5 == 0) for row in newest)


@pytest.mark.parametrize("known_after", [HOUR / 2, 3 * HOUR, 30 * HOUR])
def test_late_rows_re_open_exactly_the_hours_and_days_that_they_change(
    tmp_path: Path, known_after: dt.timedelta
) -> None:
    world = delivered(tmp_path / "home")
    assert world.stale() == []
    before = world.hashes()
    paid = next(p for p in payments() if p[1].day == 5)
    known_at = (paid[1] + known_after).isoformat()
    world.deliver(
        "payments", [payment_line(paid, 50.0), payment_line((900, paid[1], 4, 3.0))], known_at=known_at
    )
    rebuilt = world.settle()
    assert world.hashes() == (expected := world.rebuilt_in(tmp_path / "fresh"))
    assert rebuilt == differing(before, expected)
    assert rebuilt[PAYMENTS] == {CADENCES["hourly"].key(paid[1])}
    first = min(rebuilt[SPENDING])
    assert complete_at(first) >= paid[1] + known_after > start_of(first)
