"""A refused delivery is dropped: its files count no more for that day, and the published version does again."""

import datetime as dt

import pytest

from ml_platform.gates.guard import ClosedGate, Known, closed_by
from ml_platform.gates.overrides import Override, override
from ml_platform.gates.refused import Dismissal, broken_rows, dismiss, refused_partitions
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Node
from ml_platform.sources.component import Source
from ml_platform.sources.spec import SourceSpec
from tests.sources.deliveries import DAY, NEXT_DAY, Materialized, accounts, everything, payment

ASSET = "sources/payments"
BAD = 9000.0
LONG_AGO = dt.datetime(2018, 6, 5, 12, tzinfo=dt.UTC)


def catalog_of(asset: Materialized) -> Catalog:
    return Catalog({(SourceSpec, asset.source.spec.name): asset.source.spec})


def node_of(asset: Materialized) -> Node:
    return catalog_of(asset).node(ASSET)


def dismissed(asset: Materialized, day: str = DAY, reason: str = "a test file of theirs") -> bool | None:
    """Dismiss a refused day; whether what is published passed, or None when nothing is."""
    source, component = asset.source, Source(asset.source.spec)
    catalog = catalog_of(asset)
    outcome = dismiss(
        asset.instance,
        source.lake,
        Dismissal(catalog.node(ASSET), day, reason, "ada"),
        forget=lambda since: component.forget_delivery(
            source.settings, day, since=since, reason=reason, actor="ada"
        ),
        judge=lambda keys: component.rechecked(catalog, source.settings, keys),
    )
    return None if outcome is None else outcome.passed


def listed(asset: Materialized) -> list[tuple[str, bool, bool]]:
    found = refused_partitions(asset.instance, asset.source.lake)
    return [(entry.partition, entry.published, entry.superseded) for entry in found]


@pytest.fixture
def refused(asset: Materialized) -> Materialized:
    """One good row is published for each of two days; then a file with a bad row for each was refused."""
    asset.source.land([payment(1), payment(2, f"{NEXT_DAY}T10:00:00")])
    assert asset.run(DAY, NEXT_DAY).success
    asset.source.land([payment(3, amount=BAD), payment(4, f"{NEXT_DAY}T11:00:00", amount=BAD)])
    assert not asset.run(DAY, NEXT_DAY).success
    return asset


def test_refused_days_are_listed_with_what_readers_have_in_their_place(refused: Materialized) -> None:
    assert listed(refused) == [(DAY, True, False), (NEXT_DAY, True, False)]
    entry = refused_partitions(refused.instance, refused.source.lake)[0]
    assert (entry.rows, entry.observed, entry.bound) == (
        2,
        "1 of 2 rows break it",
        "amount between 0 and 1000",
    )


def test_a_good_version_that_comes_later_supersedes_what_was_refused_and_leaves_it_to_be_looked_at(
    refused: Materialized,
) -> None:
    refused.source.land([payment(3, amount=9)], known_at="2018-04-20")
    refused.source.spec = refused.source.spec.model_copy(update={"expectations": ()})
    assert refused.run(DAY).success
    assert listed(refused) == [(DAY, True, True), (NEXT_DAY, True, False)]


def test_the_rows_that_break_an_expectation_are_shown_under_it(refused: Materialized) -> None:
    source = refused.source
    entry = refused_partitions(refused.instance, source.lake)[0]
    broken = broken_rows(source.settings, source.lake, entry, source.spec.expectations, limit=10)
    assert {sentence: [row["id"] for row in rows] for sentence, rows in broken.items()} == {
        "amount between 0 and 1000": [3]
    }


def test_a_dismissed_day_is_what_it_was_before_the_delivery_and_the_other_day_waits_on(
    refused: Materialized,
) -> None:
    assert dismissed(refused) is True
    assert listed(refused) == [(NEXT_DAY, True, False)]
    assert refused.refused() == {NEXT_DAY: [(2, 5.0), (4, BAD)]}
    report = refused.run(DAY)
    assert report.success and accounts(report)[DAY]["rows_landed"] == 1
    assert refused.published() == {DAY: [(1, 5.0)], NEXT_DAY: [(2, 5.0)]}
    assert not refused.run(NEXT_DAY).success


def test_a_dismissal_is_recorded_with_who_why_and_what_was_refused(refused: Materialized) -> None:
    dismissed(refused)
    (entry,) = WAYS_OUT.entries(refused.source.lake)
    assert (entry["way"], entry["partition"], entry["actor"], entry["reason"], entry["evidence"]) == (
        "dismiss",
        DAY,
        "ada",
        "a test file of theirs",
        "1 of 2 rows break it (required: amount between 0 and 1000)",
    )


def test_the_file_that_a_dismissed_one_had_replaced_counts_again(asset: Materialized) -> None:
    good = asset.source.land([payment(1), payment(2, f"{NEXT_DAY}T10:00:00")])
    asset.run(DAY, NEXT_DAY)
    asset.source.land(
        [payment(1, amount=BAD), payment(2, f"{NEXT_DAY}T10:00:00", amount=7)], replaces=good.digest
    )
    assert not asset.run(DAY, NEXT_DAY).success
    assert dismissed(asset) is True
    assert asset.run(DAY, NEXT_DAY).success
    assert asset.published() == {DAY: [(1, 5.0)], NEXT_DAY: [(2, 7.0)]}


def test_a_file_in_the_place_of_a_dismissed_one_ends_what_that_one_had_replaced(asset: Materialized) -> None:
    good = asset.source.land([payment(1)])
    asset.run()
    bad = asset.source.land([payment(1, amount=BAD)], replaces=good.digest)
    asset.run()
    dismissed(asset)
    asset.source.land([payment(1, amount=8)], replaces=bad.digest)
    assert asset.run().success
    assert asset.published() == {DAY: [(1, 8.0)]}


def test_landing_a_dismissed_file_again_lets_it_count_again(refused: Materialized) -> None:
    bad = refused.source.settings.root / "inbox" / "2.parquet"
    dismissed(refused)
    again = refused.source.land(bad.read_bytes())
    assert not again.unchanged
    assert not refused.run(DAY).success
    assert listed(refused) == [(DAY, True, False), (NEXT_DAY, True, False)]


def test_what_was_refused_before_anything_was_published_is_dropped_and_the_day_waits_for_a_delivery(
    asset: Materialized,
) -> None:
    asset.source.land([payment(1, amount=BAD)])
    asset.run()
    assert dismissed(asset) is None
    assert listed(asset) == [] and asset.refused() == {}
    assert f"landed rows are required for {DAY}" in asset.run().error
    asset.source.land([payment(1)])
    assert asset.run().success


def test_a_dismissal_that_was_cut_off_can_be_done_again(
    refused: Materialized, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ml_platform.gates.refused.report_outcomes", cut_off)
        with pytest.raises(KeyboardInterrupt):
            dismissed(refused)
    assert listed(refused) == [(DAY, True, False), (NEXT_DAY, True, False)]
    assert dismissed(refused) is True
    assert listed(refused) == [(NEXT_DAY, True, False)]


def overridden(asset: Materialized, until: dt.datetime) -> None:
    check = node_of(asset).blocking_checks[0]
    override(
        asset.instance, asset.source.lake, Override(ASSET, check, DAY, until, "now", "ada"), now=LONG_AGO
    )


def gate(asset: Materialized) -> list[ClosedGate]:
    known = Known.now(asset.source.lake, ASSET)
    return closed_by(asset.instance, ASSET, node_of(asset).blocking_checks[0], [DAY], known=known)


@pytest.mark.parametrize("until", [dt.timedelta(hours=1), dt.timedelta(days=365 * 900)])
def test_an_override_ended_or_not_is_no_good_version_and_a_dismissal_still_drops_the_delivery(
    refused: Materialized, until: dt.timedelta
) -> None:
    overridden(refused, LONG_AGO + until)
    assert listed(refused)[0] == (DAY, True, False)
    assert dismissed(refused) is True
    assert gate(refused) == []
    assert refused.run(DAY).success and refused.published()[DAY] == [(1, 5.0)]


def test_rows_that_were_refused_by_a_step_that_died_before_it_could_say_so_close_the_gate(
    asset: Materialized, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset.source.land([payment(1)])
    assert asset.run(DAY).success and gate(asset) == []
    asset.source.land([payment(3, amount=BAD)])

    def dies(*_: object) -> None:
        raise MemoryError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("ml_platform.compiler.record", dies)
        assert not asset.run(DAY).success
    (closed,) = gate(asset)
    assert (closed.reason, closed.refused, closed.observed) == ("failed", True, "1 of 2 rows break it")
    assert listed(asset) == [(DAY, True, False)]
    assert dismissed(asset) is True
    assert gate(asset) == []


@pytest.mark.parametrize(("day", "reason"), [("2018-04-03", "why not"), (DAY, "  ")])
def test_what_is_not_refused_or_has_no_reason_is_not_dismissed(
    refused: Materialized, day: str, reason: str
) -> None:
    before = everything(refused.source.settings)
    with pytest.raises(InputError, match=r"a refused partition is required|reason is required"):
        dismissed(refused, day, reason)
    assert everything(refused.source.settings) == before
