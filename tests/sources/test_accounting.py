"""Random deliveries, duplicates, corrections and replacements against a naive account in plain Python."""

import datetime as dt
import logging
import tempfile
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ml_platform.compiler import Step
from ml_platform.gates.outcomes import Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.sources.component import materialize
from tests.sources.deliveries import (
    DAY,
    NEXT_DAY,
    Deliveries,
    by_day,
    csv,
    everything,
    payment,
    payments,
    rows_of,
)

DAYS = (DAY, NEXT_DAY)
LIMIT = 1000.0
SPECS = {mode: payments(max_bad_share=0.6, late_data=mode) for mode in ("as_known", "restate")}
TIMES = {id: f"{DAYS[id % 2]}T{10 + id}:00:00" for id in range(4)}


@dataclass(frozen=True)
class Delivery:
    """One file: ids with amounts; below zero is a bad row, above the limit refuses its day."""

    rows: tuple[tuple[int, float], ...]
    as_text: bool
    known_day: int | None
    replaces: int | None

    @property
    def known_at(self) -> str | None:
        return None if self.known_day is None else f"2018-04-{self.known_day}T00:00:00+00:00"

    def content(self) -> Any:
        if self.as_text:
            return csv(*(f"{id},{TIMES[id]},{amount}," for id, amount in self.rows))
        return [payment(id, TIMES[id], amount) for id, amount in self.rows]


DELIVERIES = st.lists(
    st.builds(
        Delivery,
        rows=st.lists(
            st.tuples(st.sampled_from(sorted(TIMES)), st.sampled_from([1.0, 2.0, 3.0, -1.0, 5000.0])),
            min_size=1,
            max_size=5,
        ).map(tuple),
        as_text=st.booleans(),
        known_day=st.sampled_from([None, None, 10, 20]),
        replaces=st.none() | st.integers(0, 3),
    ),
    min_size=1,
    max_size=5,
)


@dataclass
class Landed:
    """One file that was taken, as the account keeps it."""

    delivery: Delivery
    good: list[tuple[int, str, float]]  # id, created, amount
    bad: list[int]


@dataclass
class Account:
    """What must be true after each delivery, kept in plain lists."""

    restates: bool = False
    files: list[Landed] = field(default_factory=list)  # those that count, in landing order
    ever: list[tuple[Delivery, str]] = field(default_factory=list)  # all that was ever taken, with its digest
    published: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def take(self, delivery: Delivery, replaced: Delivery | None) -> bool:
        """Add a file; False when it must be refused."""
        good = [(id, delivery.known_at or TIMES[id], amount) for id, amount in delivery.rows if amount >= 0]
        bad = [id for id, amount in delivery.rows if amount < 0]
        kept = [file for file in self.files if replaced is None or file.delivery != replaced]
        contents: dict[tuple[int, str], set[float]] = {}
        others = [] if self.restates else [row for file in kept for row in file.good]
        for id, created, amount in [*good, *others]:
            contents.setdefault((id, created[:19]), set()).add(amount)
        if len(bad) > 0.6 * len(delivery.rows) or any(len(amounts) > 1 for amounts in contents.values()):
            return False
        self.files = [*kept, Landed(delivery, good, bad)]
        return True

    def versions(self, day: str, *, last_only: bool = True) -> list[tuple[int, float]]:
        rows = [
            (id, created[:19], order, position, amount)
            for order, file in enumerate(self.files)
            for position, (id, created, amount) in enumerate(file.good)
            if TIMES[id].startswith(day)
        ]
        found: list[tuple[int, float]] = []
        for id, versions in groupby(sorted(rows), key=lambda row: row[0]):
            amounts = [amount for *_, amount in versions]
            found += [(id, a) for i, a in enumerate(amounts) if i == 0 or a != amounts[i - 1]]
        return list(dict(found).items()) if last_only and self.restates else found

    def count(self, day: str) -> tuple[int, int]:
        """Good and bad rows of a day in the files that count."""
        good = sum(TIMES[id].startswith(day) for file in self.files for id, *_ in file.good)
        return good, sum(TIMES[id].startswith(day) for file in self.files for id in file.bad)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(DELIVERIES, st.sampled_from(sorted(SPECS)))
def test_every_landed_row_is_published_unchanged_replaced_quarantined_or_refused(
    deliveries: list[Delivery], late_data: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Deliveries(Settings(home=Path(folder)).prepare(), SPECS[late_data])
        account = Account(late_data == "restate")
        for delivery in deliveries:
            deliver(source, account, delivery)
            days = [day for day in DAYS if account.count(day)[0]]
            if days:
                check(account, {str(o.partition): o for o in materialized(source, days)})
            table = rows_of(source.lake.table("sources/payments"))
            assert by_day(table) == {day: rows for day, rows in account.published.items() if rows}


def deliver(source: Deliveries, account: Account, delivery: Delivery) -> None:
    """Ingest one file; it is taken, refused or found unchanged exactly when the account says so."""
    known = account.ever
    named = known[delivery.replaces % len(known)] if known and delivery.replaces is not None else None
    replaced, digest = named or (None, None)
    counts = [file.delivery for file in account.files]
    same = next((old for old, _ in known if old.content() == delivery.content()), None)
    before = everything(source.settings)
    try:
        landed = source.land(delivery.content(), known_at=delivery.known_at, replaces=digest)
    except InputError:
        assert everything(source.settings) == before
        assert must_be_refused(account, delivery, replaced, same)
        return
    if landed.unchanged:
        assert same is not None and everything(source.settings) == before
        assert replaced is None or replaced == same or replaced not in counts
        assert same not in counts or same.known_at == delivery.known_at
        return
    if same is not None:
        account.files = [file for file in account.files if file.delivery != same]
    assert account.take(delivery, replaced)
    account.ever = [entry for entry in known if entry[0] != same] + [(delivery, landed.digest)]


def must_be_refused(
    account: Account, delivery: Delivery, replaced: Delivery | None, same: Delivery | None
) -> bool:
    counts = [file.delivery for file in account.files]
    if replaced is not None and replaced not in counts and same not in counts:
        return True
    if same in counts and same is not None and same.known_at != delivery.known_at:
        return True
    return not Account(account.restates, list(account.files)).take(delivery, replaced)


def check(account: Account, outcomes: dict[str, Outcome]) -> None:
    """Rows landed = published + unchanged + replaced + quarantined + refused, each as the account has them."""
    for day, outcome in outcomes.items():
        versions, (good, bad) = account.versions(day), account.count(day)
        passes = all(amount <= LIMIT for _, amount in versions)
        counts = outcome.metadata
        assert outcome.published == passes
        assert counts["rows_landed"] == good + bad
        assert counts["rows_quarantined"] == bad
        assert counts["rows_staged"] == len(versions)
        ever = len(account.versions(day, last_only=False))
        assert (counts["rows_unchanged"], counts.get("rows_replaced", 0)) == (
            good - ever,
            ever - len(versions),
        )
        assert counts.get("dagster/partition_row_count", 0) == (len(versions) if passes else 0)
        if passes:
            account.published[day] = versions


def materialized(source: Deliveries, days: list[str]) -> list[Outcome]:
    """The outcomes of a step for some days, without Dagster around it."""
    context: Any = SimpleNamespace(
        resources=SimpleNamespace(environment=source.settings),
        log=logging.getLogger("step"),
        run=SimpleNamespace(run_id=f"run at {dt.datetime.now(dt.UTC)}"),
    )
    return materialize(source.spec, Step(context, tuple(days), Catalog()))
