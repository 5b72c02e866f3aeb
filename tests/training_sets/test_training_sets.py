"""A training set is what one would have built that midnight: no more, no less, and the same when built again."""

import datetime as dt
from typing import Any

import numpy as np

from ml_platform import declarations
from ml_platform.gates.acceptances import Acceptance, accept
from ml_platform.gates.guard import closed_gates
from ml_platform.kernel.partitions import day, day_range
from ml_platform.training_sets import store
from ml_platform.training_sets.manifest import declaration_digests
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.built import CUSTOMERS, NEXT_DAY, TERMINALS, Platform, changed_column, day_of_transactions
from tests.support import LAST_DAY

SET, MODEL, LABELS = "training_sets/fraud", "models/fraud", "sources/fraud_labels"
NEWEST_MATURED = "2018-06-19"
TRAIN, TEST = ("2018-05-09", "2018-06-05"), ("2018-06-13", "2018-06-19")
CUT = f"{NEXT_DAY}T00:00:00"


def declared() -> TrainingSetSpec:
    return declarations.load().get(TrainingSetSpec, "fraud", wanted_by="a test")


def manifest(platform: Platform) -> dict[str, Any]:
    return store.read_manifest(platform.settings, declared(), LAST_DAY)


def days(first: str, last: str) -> list[dt.date]:
    return day_range(day(first), day(last))


def test_the_days_of_a_split_are_those_of_the_architectures_example() -> None:
    split = declared().split(day("2018-08-01"), declarations.load())
    assert split.test == (day("2018-07-19"), day("2018-07-25"))
    assert split.gap == (day("2018-07-12"), day("2018-07-18"))
    assert split.train == (day("2018-06-14"), day("2018-07-11"))


def test_a_set_and_its_model_depend_on_exactly_the_days_that_they_read() -> None:
    lineage = declarations.load().lineage
    direct = {
        up.key: (day("2018-08-01") + dt.timedelta(up.first), day("2018-08-01") + dt.timedelta(up.last))
        for key in (SET, MODEL)
        for up in lineage.node(key).upstream
    }
    rows, features = (day("2018-06-14"), day("2018-07-25")), (day("2018-06-12"), day("2018-07-24"))
    assert direct == {
        "sources/transactions": rows,
        LABELS: rows,
        CUSTOMERS: features,
        TERMINALS: features,
        SET: (day("2018-08-01"), day("2018-08-01")),
        "drift_profiles/fraud": (day("2018-06-14"), day("2018-08-01")),
    }


def test_rows_are_the_events_of_train_and_test_days_and_none_of_the_gap(shared: Platform) -> None:
    rows = shared.rows(SET).to_pandas()
    found = rows.groupby("split").event_timestamp.agg(lambda times: sorted(set(times.dt.date)))
    assert found["train"] == days(*TRAIN)
    assert found["test"] == days(*TEST)
    delivered = shared.delivered().to_pandas()
    dates = delivered.tx_datetime.dt.date
    expected = delivered[dates.isin([*days(*TRAIN), *days(*TEST)])].set_index("transaction_id")
    assert rows.set_index("transaction_id").label.to_dict() == expected.tx_fraud.to_dict()


def test_no_row_has_a_value_that_was_not_available_an_hour_before_its_event(shared: Platform) -> None:
    query = f"""
        WITH asked AS (SELECT * FROM ({shared.scan(SET)})
                       WHERE hash(transaction_id) % 20 = 0 OR hour(event_timestamp) = 0),
        snapshots AS (SELECT * FROM ({shared.scan(TERMINALS)})),
        candidates AS (
          SELECT a.transaction_id, a.event_timestamp AS t, a.terminal_transactions_7d AS got_count,
                 a.terminal_fraud_rate_30d AS got_rate, s.* EXCLUDE (event_timestamp, partition_date),
                 row_number() OVER (PARTITION BY a.transaction_id ORDER BY s.event_timestamp DESC) AS newest
          FROM asked a JOIN ({shared.scan("sources/transactions")}) e USING (transaction_id)
          JOIN snapshots s ON s.terminal_id = e.terminal_id
           AND s.event_timestamp <= a.event_timestamp - INTERVAL 1 HOUR
           AND s.event_timestamp > a.event_timestamp - INTERVAL 3 DAY)
        SELECT * FROM candidates WHERE newest = 1
    """
    found = shared.query(query).to_pandas()
    assert len(found) > 1500
    early = found[found.t.dt.hour == 0]
    assert len(early) > 50
    age = early.t - early.created_timestamp
    assert age.min() >= np.timedelta64(24, "h"), (
        "before one o'clock the last midnight's snapshot is not there yet"
    )
    np.testing.assert_array_equal(found.got_count, found.terminal_transactions_7d.astype(np.float32))
    np.testing.assert_array_equal(found.got_rate, found.terminal_fraud_rate_30d.astype(np.float32))


def test_features_are_float32_in_the_table_and_for_the_model(shared: Platform) -> None:
    found = manifest(shared)
    schema = shared.rows(SET, LAST_DAY).schema
    assert {str(schema.field(name).type) for name in found["features"]} == {"float"}
    arrays = store.read_arrays(shared.settings, declared(), found)
    assert arrays["train"].features.dtype == arrays["test"].features.dtype == np.float32
    assert arrays["test"].names == tuple(found["features"])


def test_the_manifest_names_versions_files_digests_and_counts_of_what_was_read(shared: Platform) -> None:
    found = manifest(shared)
    inputs = {entry["asset"]: entry for entry in found["inputs"]}
    assert set(inputs) == {"sources/transactions", LABELS, CUSTOMERS, TERMINALS}
    for asset, entry in inputs.items():
        table = shared.lake.table(asset)
        assert entry["table_version"] == table.version()
        assert {f"{shared.lake.root}/{file}" for file in entry["files"]} <= set(table.files())
        held = {file.split("partition_date=")[1][:10] for file in entry["files"]}
        assert held == set(entry["partitions"]), "the files of the days that were read, and of no other"
        assert entry["partitions"].items() <= shared.hashes(asset).items()
    assert min(inputs[CUSTOMERS]["partitions"]) == "2018-05-07"
    assert max(inputs[CUSTOMERS]["partitions"]) == "2018-06-18"
    assert found["known_at"].startswith(f"{NEXT_DAY} 00:00:00")
    assert found["declarations"] == declaration_digests(declared(), shared.catalog)
    rows = shared.rows(SET, LAST_DAY).to_pandas()
    for side, counts in found["rows"].items():
        mine = rows[rows.split == side]
        assert counts == {"rows": len(mine), "positives": mine.label.sum()}
    assert found["content_hash"] == shared.hashes(SET)[LAST_DAY]
    shown = shared.newest_metadata(SET, LAST_DAY)
    assert (shown["rows"], shown["content_hash"]) == (found["rows"], found["content_hash"])


def test_the_same_inputs_give_the_same_content_whatever_else_was_published_since(platform: Platform) -> None:
    before = manifest(platform)
    platform.deliver("transactions", day_of_transactions(NEXT_DAY))
    platform.make("sources/transactions", NEXT_DAY)
    platform.make(SET, LAST_DAY)
    after = manifest(platform)
    assert after["content_hash"] == before["content_hash"]
    assert after["inputs"][0]["table_version"] == before["inputs"][0]["table_version"] + 1
    assert [entry["files"] for entry in after["inputs"]] == [entry["files"] for entry in before["inputs"]]


def test_events_without_a_label_are_left_out_and_counted(platform: Platform) -> None:
    before = manifest(platform)
    unlabelled = day_of_transactions("2018-06-15").slice(0, 3)
    unlabelled = changed_column(unlabelled, "transaction_id", [999_999_001, 999_999_002, 999_999_003])
    platform.deliver("transactions", unlabelled)
    platform.make("sources/transactions", "2018-06-15")
    platform.make(SET, LAST_DAY)
    after = manifest(platform)
    assert (before["rows_without_label"], after["rows_without_label"]) == (0, 3)
    assert platform.newest_metadata(SET, LAST_DAY)["rows_without_label"] == 3
    assert after["content_hash"] == before["content_hash"]


def test_a_label_counts_if_it_was_known_at_the_cut_and_not_a_microsecond_later(platform: Platform) -> None:
    before = manifest(platform)["rows"]["test"]["positives"]
    platform.relabel("2018-06-18", frauds=2, known_at=f"{CUT}.000001")
    platform.make(SET, LAST_DAY)
    assert manifest(platform)["rows"]["test"]["positives"] == before
    platform.relabel("2018-06-17", frauds=3, known_at=CUT)
    platform.make(SET, LAST_DAY)
    assert manifest(platform)["rows"]["test"]["positives"] == before + 3


def test_twice_the_frauds_on_the_newest_matured_day_close_the_model_until_that_is_accepted(
    platform: Platform,
) -> None:
    platform.relabel(NEWEST_MATURED, frauds=13, known_at=CUT)
    said = platform.refused(SET, LAST_DAY)
    assert f"label_drift: {NEWEST_MATURED}: label rate 0.0279 is 2." in said
    refusal = platform.refused(MODEL, LAST_DAY)
    assert f"{SET} [{LAST_DAY}] label_drift: {NEWEST_MATURED}: label rate" in refusal
    assert f"ml-platform drift accept {SET} {LAST_DAY}" in refusal

    acceptance = Acceptance(SET, "label_drift", LAST_DAY, "a wave of fraud", "ann")
    accept(platform.instance, platform.lake, acceptance)
    platform.make(MODEL, LAST_DAY)
    platform.make(SET, LAST_DAY)
    lineage = platform.catalog.lineage
    assert closed_gates(platform.instance, lineage, MODEL, LAST_DAY) == [], "accepted for good"


def test_too_few_positives_fail_quality_and_close_the_model(platform: Platform) -> None:
    demanding = declared().model_copy(update={"minimum_positives": 100})
    said = platform.refused(SET, LAST_DAY, changed=[demanding])
    assert "quality: test has 77 positives, fewer than 100 (required: " in said
    (closed,) = closed_gates(platform.instance, platform.catalog.lineage, MODEL, LAST_DAY)
    assert (closed.asset, closed.check, closed.reason) == (SET, "quality", "failed")
