"""Pure work of training sets: which events are rows, with which label, and which are left out. SQL in, SQL out."""

import datetime as dt
from collections.abc import Mapping, Sequence

from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.training_sets.spec import Split, Task

LABEL, SPLIT = "label", "split"
TRAIN, TEST, GAP = "train", "test", "gap"
LABEL_TYPES: Mapping[Task, str] = {"classification": "BIGINT", "regression": "DOUBLE"}
WITHOUT_LABEL, KNOWN_POSITIVE = "without_label", "known_positive"


def labelled_sql(
    events: str, labels: str, *, event_id: str, label_event_id: str, label: str, task: Task
) -> str:
    """SQL of events with their label, null while it is unknown; `events` and `labels` as known at one time."""
    return (
        f'SELECT e.*, CAST(l."{label}" AS {LABEL_TYPES[task]}) AS {LABEL} FROM ({events}) e '
        f'LEFT JOIN (SELECT "{label_event_id}", "{label}" FROM ({labels})) l '
        f'ON e."{event_id}" = l."{label_event_id}"'
    )


def known_positives_sql(known: Mapping[dt.date, str], *, keys: Sequence[str]) -> str:
    """SQL of day and entity keys, for each entity with a positive label among what was known as the day began.

    `known` has for each day the labelled events as they were known at its first midnight.
    """
    listed = ", ".join(f'"{key}"' for key in keys)
    present = " AND ".join(f'"{key}" IS NOT NULL' for key in keys)
    return " UNION ALL ".join(
        f"SELECT DISTINCT DATE '{day}' AS known_on, {listed} FROM ({labelled}) WHERE {LABEL} = 1 AND {present}"
        for day, labelled in known.items()
    )


def placed_sql(
    labelled: str, split: Split, *, known_positives: str | None = None, keys: Sequence[str] = ()
) -> str:
    """SQL of labelled events and where each belongs: train, test, gap, or why it is left out.

    `known_positives` is what `known_positives_sql` gives for the entities that leave the test days, found in
    the events' columns `keys`. An event without a label is counted as such, whatever its entity.
    """
    test_from, gap_from = f"DATE '{split.test[0]}'", f"DATE '{split.gap[0]}'"
    cases = [
        f"WHEN r.{PARTITION_COLUMN} >= {gap_from} AND r.{PARTITION_COLUMN} < {test_from} THEN '{GAP}'",
        f"WHEN r.{LABEL} IS NULL THEN '{WITHOUT_LABEL}'",
        *([f"WHEN k.known_on IS NOT NULL THEN '{KNOWN_POSITIVE}'"] if known_positives else []),
        f"WHEN r.{PARTITION_COLUMN} >= {test_from} THEN '{TEST}' ELSE '{TRAIN}'",
    ]
    same = "".join(f' AND r."{key}" = k."{key}"' for key in keys)
    left_out = (
        f"LEFT JOIN ({known_positives}) k ON r.{PARTITION_COLUMN} = k.known_on{same}"
        if known_positives
        else ""
    )
    return f"SELECT r.*, CASE {' '.join(cases)} END AS {SPLIT} FROM ({labelled}) r {left_out}"
