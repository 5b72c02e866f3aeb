"""What becomes of logged predictions, as SQL: repetitions told from predictions, and predictions with their labels."""

from collections.abc import Mapping, Sequence

from ml_platform.kernel.partitions import CREATED_TIME, PARTITION_COLUMN
from ml_platform.training_sets.compute import LABEL_TYPES
from ml_platform.training_sets.spec import Task

CHAMPION = "champion"
"""The role of a prediction that was answered; the other is `shadow`."""

COLUMNS = ("prediction_id", "version", "run_id", "role", "as_of", "event_id", "outcome", "score", "alert")
"""What the log asset keeps of a prediction, beside what it is about."""


def entity_columns(join_keys: Mapping[str, str]) -> dict[str, str]:
    """Column of the log asset by join key: no name of a source can meet one of ours."""
    return {key: f"entity_{entity}" for entity, key in join_keys.items()}


def deduplicated_sql(log: str) -> str:
    """SQL of logged predictions, each once: of those with one id, what was logged first."""
    order = "logged_at, version, role, request_id"
    return (
        f"SELECT * FROM ({log}) QUALIFY row_number() OVER (PARTITION BY prediction_id ORDER BY {order}) = 1"
    )


def predictions_sql(log: str, join_keys: Mapping[str, str]) -> str:
    """SQL of the log asset's rows: predictions, and what they are about, ordered by day and id."""
    about = [f"""keys['{key}'] AS "{column}\"""" for key, column in entity_columns(join_keys).items()]
    listed = ", ".join([*COLUMNS, *about, PARTITION_COLUMN])
    return f"SELECT {listed} FROM ({log}) ORDER BY {PARTITION_COLUMN}, prediction_id"


def outcomes_sql(
    predictions: str, labels: str, *, event_id: str, label: str, event_lag: int, task: Task
) -> str:
    """SQL of predictions with their labels; null where none is known.

    `labels` has the latest version of each label, with the day of its event as `event_day`. A prediction of a day has
    the label of an event of that day, or of `event_lag` days before. Of the predictions of one version for one event
    on one day, the first with a score is counted.
    """
    known = (
        f'SELECT CAST("{event_id}" AS VARCHAR) AS event_id, CAST("{label}" AS {LABEL_TYPES[task]}) AS label, '
        f"{CREATED_TIME} AS label_known_at, event_day FROM ({labels})"
    )
    first = (
        f"row_number() OVER (PARTITION BY p.{PARTITION_COLUMN}, version, role, p.event_id "
        f"ORDER BY score IS NULL, as_of, prediction_id) = 1"
    )
    return f"""
SELECT p.* EXCLUDE ({PARTITION_COLUMN}), label, label_known_at,
    score IS NOT NULL AND label IS NOT NULL AND {first} AS counted, p.{PARTITION_COLUMN}
FROM ({predictions}) p LEFT JOIN ({known}) l
    ON p.event_id = l.event_id
    AND l.event_day BETWEEN p.{PARTITION_COLUMN} - {event_lag} AND p.{PARTITION_COLUMN}
ORDER BY p.{PARTITION_COLUMN}, prediction_id"""


def counted_sql(outcomes: str, entities: Mapping[str, Sequence[str]]) -> str:
    """SQL of the outcomes that are measured, in order of time, with entities numbered in the order of their ids.

    `entities` has the columns of ids by what is numbered: an entity, or a combination of several; -1 lacks an id.
    An event that a version was asked about on two days is there once, as it was answered first.
    """
    numbers = "".join(
        f", CASE WHEN {' OR '.join(f'{column} IS NULL' for column in columns)} THEN -1 "
        f'ELSE dense_rank() OVER (ORDER BY {", ".join(columns)}) END AS "{entity}"'
        for entity, columns in entities.items()
    )
    first = "PARTITION BY version, role, event_id ORDER BY as_of, prediction_id"
    counted = f"SELECT * FROM ({outcomes}) WHERE counted QUALIFY row_number() OVER ({first}) = 1"
    columns = f"version, role, as_of, score, label{numbers}"
    return f"SELECT {columns} FROM ({counted}) ORDER BY as_of, event_id, prediction_id"
