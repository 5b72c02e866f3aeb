"""From landed files to published days: audited, accounted for to the last row, and never half."""

from ml_platform.lake.ledger import published
from ml_platform.sources.component import column_schema
from tests.sources.deliveries import DAY, NEXT_DAY, Materialized, accounts, csv, payment, payments

LAST_DAY = "2018-04-03"


def account(landed: int, published: int, unchanged: int = 0, quarantined: int = 0) -> dict[str, int]:
    return {
        "rows_landed": landed,
        "partition_row_count": published,
        "rows_unchanged": unchanged,
        "rows_quarantined": quarantined,
    }


def test_a_day_is_published_with_all_its_rows_accounted_for(asset: Materialized) -> None:
    asset.source.land([payment(1), payment(2, amount=-1), payment(3, "2018-04-02T00:00:00")])
    asset.source.land(csv("1,2018-04-01T10:00:00,5,", "4,2018-04-01,6,"))
    asset.source.land([payment(1, amount=7)], known_at="2018-04-20")
    assert accounts(asset.run()) == {DAY: account(landed=5, published=3, unchanged=1, quarantined=1)}
    assert asset.published() == {DAY: [(1, 5.0), (1, 7.0), (4, 6.0)]}


def test_the_same_rows_in_another_file_are_counted_unchanged_and_change_no_content(
    asset: Materialized,
) -> None:
    asset.source.land([payment(1), payment(2)])
    asset.run()
    before = published(asset.source.lake, "sources/payments")[DAY].content_hash
    asset.source.land(csv("2,2018-04-01T10:00:00,5,", "1,2018-04-01T10:00:00,5,"))
    assert accounts(asset.run()) == {DAY: account(landed=4, published=2, unchanged=2)}
    assert published(asset.source.lake, "sources/payments")[DAY].content_hash == before


def test_a_source_without_expectations_accounts_for_its_rows_as_well(asset: Materialized) -> None:
    asset.source.spec = payments(expectations=[])
    asset.source.land([payment(1)])
    asset.source.land(csv("1,2018-04-01T10:00:00,5,"))
    report = asset.run()
    assert report.success, report.error
    assert accounts(report) == {DAY: account(landed=2, published=1, unchanged=1)}


def test_a_range_publishes_its_good_days_and_keeps_the_last_good_version_of_the_bad_one(
    asset: Materialized,
) -> None:
    days = {DAY: 1, NEXT_DAY: 2, LAST_DAY: 3}
    asset.source.land([payment(id, f"{day}T10:00:00") for day, id in days.items()])
    assert asset.run(DAY, LAST_DAY).success
    asset.source.land(
        [
            payment(10 + id, f"{day}T11:00:00", amount=9000 if day == NEXT_DAY else 6)
            for day, id in days.items()
        ]
    )
    report = asset.run(DAY, LAST_DAY)
    assert not report.success
    assert f"{NEXT_DAY}: quality: 1 of 2 rows break it (required: amount between 0 and 1000)" in report.error
    assert asset.published() == {
        DAY: [(1, 5.0), (11, 6.0)],
        NEXT_DAY: [(2, 5.0)],
        LAST_DAY: [(3, 5.0), (13, 6.0)],
    }
    assert asset.refused() == {NEXT_DAY: [(2, 5.0), (12, 9000.0)]}


def test_a_good_file_in_the_place_of_the_bad_one_publishes_the_day(asset: Materialized) -> None:
    bad = asset.source.land([payment(1, amount=9000)])
    assert not asset.run().success and asset.published() == {}
    asset.source.land([payment(1, amount=9)], replaces=bad.digest)
    report = asset.run()
    assert report.success and accounts(report) == {DAY: account(landed=1, published=1)}
    assert asset.published() == {DAY: [(1, 9.0)]}
    assert asset.refused() == {DAY: [(1, 9000.0)]}


def test_a_good_file_beside_the_bad_one_is_read_together_with_it_and_refused(asset: Materialized) -> None:
    asset.source.land([payment(1, amount=9000)])
    asset.source.land([payment(2)])
    assert not asset.run().success
    assert asset.refused() == {DAY: [(1, 9000.0), (2, 5.0)]}


def test_a_late_correction_changes_the_day_of_its_event_alone(asset: Materialized) -> None:
    asset.source.land([payment(1), payment(2, "2018-04-02T10:00:00")])
    asset.run(DAY, NEXT_DAY)
    before = published(asset.source.lake, "sources/payments")
    asset.source.land([payment(1, amount=7)], known_at="2018-04-25")
    asset.run(DAY, NEXT_DAY)
    after = published(asset.source.lake, "sources/payments")
    assert after[DAY].content_hash != before[DAY].content_hash
    assert after[NEXT_DAY].content_hash == before[NEXT_DAY].content_hash


def test_the_same_day_has_one_content_hash_from_any_files_in_any_order(asset: Materialized) -> None:
    asset.source.land([payment(2), payment(1)])
    asset.run()
    together = published(asset.source.lake, "sources/payments")[DAY].content_hash
    asset.source.spec = payments(name="apart")
    asset.source.land([payment(2)])
    asset.source.land(csv("1,2018-04-01T10:00:00,5,"))
    asset.run()
    assert published(asset.source.lake, "sources/apart")[DAY].content_hash == together


def test_days_on_which_nothing_has_landed_are_refused_by_name_and_nothing_is_published(
    asset: Materialized,
) -> None:
    asset.source.land([payment(1)])
    report = asset.run(DAY, LAST_DAY)
    assert not report.success and asset.published() == {}
    assert f"landed rows are required for {NEXT_DAY} … {LAST_DAY}; no file has any" in report.error
    assert "ml-platform ingest payments PATH" in report.error


def test_a_day_whose_rows_are_all_bad_is_a_day_on_which_nothing_has_landed(asset: Materialized) -> None:
    asset.source.land([payment(1, amount=-1), payment(2, "2018-04-02T10:00:00")])
    assert f"landed rows are required for {DAY}" in asset.run(DAY, NEXT_DAY).error


def test_columns_are_shown_with_types_and_the_created_time() -> None:
    shown = {column.name: column.type for column in column_schema(payments()).columns}
    assert list(shown) == ["id", "event_timestamp", "amount", "note", "created_timestamp", "partition_date"]
    assert (shown["amount"], shown["created_timestamp"], shown["partition_date"]) == (
        "double",
        "timestamp",
        "date",
    )
