"""Where drift lives in the lake: the judged rows, the whylogs profiles, every statistic and every decision."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml_platform.drift_profiles.compute import DriftDecision
from ml_platform.drift_profiles.report import Distance, TimelineDay, Verdict
from ml_platform.kernel.partitions import PARTITION_COLUMN, day
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.ledger import Publication, publish_days
from ml_platform.lake.tables import Lake

Columns = Mapping[str, np.ndarray]


def write(
    lake: Lake,
    key: str,
    *,
    rows: pa.Table,
    profiles: Mapping[str, bytes],
    decisions: Mapping[str, DriftDecision],
    publications: Sequence[Publication],
) -> None:
    """Replace the given days' rows, profiles, statistics and decisions, and publish the days with the rows."""
    days = sorted(decisions)
    lake.table(f"{key}_whylogs").replace_days(_profile_table(profiles), days=days)
    lake.table("drift_metrics").replace(
        _metrics_table(key, decisions),
        predicate=f"profile = '{_profile_name(key)}' AND {PARTITION_COLUMN} IN ({', '.join(repr(d) for d in days)})",
        partition_by=("profile", PARTITION_COLUMN),
    )
    publish_days(lake, rows, publications)
    lake.table(f"{key}_decisions").replace_days(_decision_table(decisions), days=days)


def reference_days(
    lake: Lake, key: str, *, before: str, count: int, regimes: Collection[str] = ()
) -> list[str]:
    """The last `count` days before a day that may be a reference, oldest first.

    Days that passed, or were not judged, are references; failed days never are, accepted or not, unless one
    began a new regime: then only days from the newest such day on count.
    """
    rows = lake.table(f"{key}_decisions").answer(exp.select("status", PARTITION_COLUMN))
    start = max((partition for partition in regimes if partition < before), default="")
    good = {
        str(row[PARTITION_COLUMN])
        for row in rows
        if row["status"] != "failed" or str(row[PARTITION_COLUMN]) in regimes
    }
    return sorted(found for found in good if start <= found < before)[-count:]


def timeline(lake: Lake, key: str, *, first: str, last: str) -> dict[str, TimelineDay]:
    """How each day of a range was judged, by partition, and how far each feature was; days without are left out."""
    column = exp.column(PARTITION_COLUMN)
    low, high = (exp.cast(exp.Literal.string(date), "date") for date in (first, last))
    of_days = exp.and_(column >= low, column <= high)
    of_profile = exp.column("profile").eq(_profile_name(key))
    distances: dict[str, dict[str, Distance]] = {}
    wanted = exp.select(PARTITION_COLUMN, "feature", *(f.name for f in fields(Distance)))
    for row in lake.table("drift_metrics").answer(wanted.where(of_days, of_profile)):
        partition, feature = str(row.pop(PARTITION_COLUMN)), row.pop("feature")
        distances.setdefault(partition, {})[feature] = Distance(**row)
    verdicts = {
        str(row[PARTITION_COLUMN]): Verdict(row["status"], row["reason"])
        for row in lake.table(f"{key}_decisions").answer(
            exp.select(PARTITION_COLUMN, "status", "reason").where(of_days)
        )
    }
    return {
        partition: TimelineDay(verdict, distances.get(partition, {}))
        for partition, verdict in verdicts.items()
    }


def read_days(settings: Settings, key: str, days: Sequence[str], names: Sequence[str]) -> list[Columns]:
    """The stored feature and id columns of days, one mapping each, in the order of the days."""
    if not days:
        return []
    table = Lake(settings.lake_uri).table(key)
    where = [(PARTITION_COLUMN, "in", list(days))]
    listed = ", ".join(f'"{name}"' for name in names)
    with connect(settings) as connection:
        rows = connection.sql(
            f"SELECT {listed}, {PARTITION_COLUMN} FROM ({table.scan(where=where)}) ORDER BY {PARTITION_COLUMN}"
        ).to_arrow_table()
    found = split_days(rows, names)
    return [found[key_] for key_ in days if key_ in found]


def split_days(rows: pa.Table, names: Sequence[str]) -> dict[str, Columns]:
    """Columns by day: features as float32 with NaN for missing, ids as they are, with None; ordered by day."""
    encoded = rows.column(PARTITION_COLUMN).cast(pa.string()).to_numpy()
    starts = np.flatnonzero(np.r_[True, encoded[1:] != encoded[:-1]]) if len(encoded) else np.array([], int)
    ends = np.r_[starts[1:], len(encoded)].astype(int)
    columns = {name: _to_numpy(rows.column(name)) for name in names}
    return {
        str(encoded[start]): {name: values[start:end] for name, values in columns.items()}
        for start, end in zip(starts, ends, strict=True)
    }


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    if column.null_count and not pa.types.is_floating(column.type):
        return np.array(column.to_pylist(), dtype=object)  # as floats long ids would fall together
    return column.to_numpy()


def _profile_name(key: str) -> str:
    """The profile's name without its stage: a partition value, and so a folder."""
    return key.rsplit("/", 1)[-1]


def _profile_table(profiles: Mapping[str, bytes]) -> pa.Table:
    return pa.table(
        {
            "profile": pa.array(list(profiles.values()), pa.binary()),
            PARTITION_COLUMN: pa.array([day(key) for key in profiles], pa.date32()),
        }
    )


def _metrics_table(key: str, decisions: Mapping[str, DriftDecision]) -> pa.Table:
    rows = [
        {
            "profile": _profile_name(key),
            PARTITION_COLUMN: day(partition),
            "status": decision.status,
            **asdict(feature),
        }
        for partition, decision in decisions.items()
        for feature in decision.features
    ]
    return pa.Table.from_pylist(rows, schema=_METRICS)


def _decision_table(decisions: Mapping[str, DriftDecision]) -> pa.Table:
    return pa.table(
        {
            "status": pa.array([d.status for d in decisions.values()], pa.string()),
            "reason": pa.array([d.reason for d in decisions.values()], pa.string()),
            "rows": pa.array([d.rows for d in decisions.values()], pa.int64()),
            "reference_rows": pa.array([d.reference_rows for d in decisions.values()], pa.int64()),
            PARTITION_COLUMN: pa.array([day(key) for key in decisions], pa.date32()),
        }
    )


_METRICS = pa.schema(
    [
        ("profile", pa.string()),
        (PARTITION_COLUMN, pa.date32()),
        ("status", pa.string()),
        ("feature", pa.string()),
        ("kind", pa.string()),
        ("statistic_name", pa.string()),
        ("statistic", pa.float64()),
        ("p_value", pa.float64()),
        ("p_adjusted", pa.float64()),
        ("bound", pa.float64()),
        ("missing_share", pa.float64()),
        ("reference_missing_share", pa.float64()),
        ("missing_p_value", pa.float64()),
        ("missing_p_adjusted", pa.float64()),
        ("psi", pa.float64()),
        ("gated", pa.bool_()),
        ("breached", pa.bool_()),
        ("reason", pa.string()),
    ]
)
