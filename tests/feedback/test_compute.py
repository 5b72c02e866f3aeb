"""Which predictions are measured: of one version for one event the first that has a score, whatever day it was made."""

from ml_platform.feedback.compute import counted_sql, outcomes_sql
from ml_platform.lake.engine import small_answer

PREDICTIONS = """
SELECT * FROM (VALUES
    ('a-0', 1, 'champion', TIMESTAMPTZ '2026-05-01 10:00Z', '7', NULL, DATE '2026-05-01'),
    ('a-1', 1, 'champion', TIMESTAMPTZ '2026-05-01 10:01Z', '7', 0.9, DATE '2026-05-01'),
    ('a-2', 1, 'champion', TIMESTAMPTZ '2026-05-01 10:02Z', '7', 0.8, DATE '2026-05-01'),
    ('a-3', 2, 'champion', TIMESTAMPTZ '2026-05-01 10:03Z', '7', 0.7, DATE '2026-05-01'),
    ('b-0', 1, 'champion', TIMESTAMPTZ '2026-05-01 23:59Z', '8', 0.2, DATE '2026-05-01'),
    ('b-1', 1, 'champion', TIMESTAMPTZ '2026-05-02 00:01Z', '8', 0.3, DATE '2026-05-02'),
    ('c-0', 1, 'champion', TIMESTAMPTZ '2026-05-02 00:02Z', NULL, 0.4, DATE '2026-05-02'),
    ('d-0', 1, 'champion', TIMESTAMPTZ '2026-05-02 00:03Z', '9', 0.5, DATE '2026-05-02')
) t(prediction_id, version, role, as_of, event_id, score, partition_date)"""
LABELS = """
SELECT * FROM (VALUES
    (7, 1, TIMESTAMPTZ '2026-05-03 00:00Z', DATE '2026-05-01'),
    (8, 0, TIMESTAMPTZ '2026-05-03 00:00Z', DATE '2026-05-01')
) t(id, is_fraud, created_timestamp, event_day)"""
OUTCOMES = outcomes_sql(
    PREDICTIONS, LABELS, event_id="id", label="is_fraud", event_lag=1, task="classification"
)


def test_a_rejected_prediction_leaves_the_event_to_the_one_that_was_scored() -> None:
    counted = small_answer(f"SELECT prediction_id FROM ({OUTCOMES}) WHERE counted ORDER BY ALL")
    assert counted == [("a-1",), ("a-3",), ("b-0",), ("b-1",)]


def test_an_event_that_was_asked_about_on_two_days_is_measured_once() -> None:
    rows = f"SELECT *, event_id AS entity_card FROM ({OUTCOMES})"
    measured = small_answer(
        f"SELECT version, score::DOUBLE, label, card FROM ({counted_sql(rows, {'card': ['entity_card']})})"
    )
    assert measured == [(1, 0.9, 1, 1), (2, 0.7, 1, 1), (1, 0.2, 0, 2)]


def test_combinations_of_entities_are_numbered_in_the_order_of_their_ids() -> None:
    ids = ", CAST(event_id AS INT) % 2 AS entity_region, nullif(event_id, '8') AS entity_kind"
    query = counted_sql(f"SELECT *{ids} FROM ({OUTCOMES})", {"region_kind": ["entity_region", "entity_kind"]})
    assert small_answer(f"SELECT region_kind FROM ({query})") == [(2,), (2,), (-1,)]
