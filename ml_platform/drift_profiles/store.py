"""Where drift lives in the lake: the judged rows, the whylogs profiles, every statistic and every decision."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
from sqlglot import exp

from ml_platform.drift_profiles.metrics import DRIFT_METRICS, write_metrics
from ml_platform.drift_profiles.report import Distance, TimelineDay, Told
from ml_platform.drift_profiles.sequence import Columns, PastDay, Verdict
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import PARTITION_COLUMN, day, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect, small_answer
from ml_platform.lake.ledger import Publication, publish_partitions, published
from ml_platform.lake.tables import Lake


@dataclass(frozen=True)
class JudgedDay:
    """What is kept of a judged day: the verdict, the content that it is about, and what it was compared with."""

    verdict: Verdict
    content: str
    reference: str  # digest of the reference's days and their contents
    columns: tuple[str, ...]  # features and ids that its rows were made with


def write(
    lake: Lake,
    key: str,
    *,
    rows: pa.Table,
    profiles: Mapping[str, bytes],
    judged: Mapping[str, JudgedDay],
    publications: Sequence[Publication],
) -> None:
    """Replace the given days' rows and profiles, publish the days with the rows, then record the verdicts on them."""
    lake.table(f"{key}_whylogs").replace_partitions(_profile_table(profiles), keys=sorted(profiles))
    publish_partitions(lake, rows, publications)
    write_verdicts(lake, key, judged)


def write_verdicts(lake: Lake, key: str, judged: Mapping[str, JudgedDay]) -> None:
    """Replace the statistics and the verdicts of days, which may have been judged again."""
    write_metrics(lake, key, _metrics(judged), days=sorted(judged))
    lake.table(f"{key}_decisions").replace_partitions(_decision_table(judged), keys=sorted(judged))


def judged_before(lake: Lake, key: str, *, before: str) -> dict[str, PastDay]:
    """What is kept of the judged days before a day, in order."""
    found = lake.table(f"{key}_decisions").answer(exp.select("*"))
    rows = {str(row[PARTITION_COLUMN]): row for row in found}
    return {
        key: PastDay(row["status"], frozenset(row.get("breached") or ()), row.get("content") or "")
        for key, row in sorted(rows.items())
        if key < before
    }


def timeline(lake: Lake, key: str, *, first: str, last: str) -> dict[str, TimelineDay]:
    """How each day of a range was judged, by partition, and how far each feature was; days without are left out."""
    column, (stage, name) = exp.column(PARTITION_COLUMN), key.split("/")
    low, high = (exp.cast(exp.Literal.string(date), "date") for date in (first, last))
    of_days = exp.and_(column >= low, column <= high)
    of_asset = exp.and_(exp.column("stage").eq(stage), exp.column("name").eq(name))
    distances: dict[str, dict[str, Distance]] = {}
    wanted = exp.select(PARTITION_COLUMN, "feature", *(f.name for f in fields(Distance)))
    for row in lake.table(DRIFT_METRICS).answer(wanted.where(of_days, of_asset)):
        partition, feature = str(row.pop(PARTITION_COLUMN)), row.pop("feature")
        distances.setdefault(partition, {})[feature] = Distance(**row)
    told = lake.table(f"{key}_decisions").answer(exp.select("*").where(of_days))
    return {
        (partition := str(row[PARTITION_COLUMN])): TimelineDay(
            Told(row["status"], row["reason"]), distances.get(partition, {}), row.get("content") or ""
        )
        for row in told
    }


def read_profiles(lake: Lake, key: str, *, first: str, last: str) -> dict[str, bytes]:
    """The whylogs profiles of the published days in a range, in order."""
    table = lake.table(f"{key}_whylogs")
    if table.version() is None:
        return {}
    where = [(PARTITION_COLUMN, ">=", first), (PARTITION_COLUMN, "<=", last)]
    rows = small_answer(f"SELECT {PARTITION_COLUMN}, profile FROM ({table.scan(where=where)}) ORDER BY 1")
    known = published(lake, key)
    return {str(partition): profile for partition, profile in rows if str(partition) in known}


def read_days(settings: Settings, key: str, days: Sequence[str], names: Sequence[str]) -> dict[str, Columns]:
    """The stored feature and id columns of days, by day; a day without stored rows is left out.

    Raises InputError where rows of a day were made before one of the names was declared.
    """
    lake = Lake(settings.lake_uri)
    table = lake.table(key)
    _require_made_with(lake, key, days, names)
    where = [(PARTITION_COLUMN, "in", list(days))]
    listed = ", ".join(f'"{name}"' for name in [*names, PARTITION_COLUMN])
    with connect(settings) as connection:
        rows = connection.sql(f"SELECT {listed} FROM ({table.scan(where=where)})").to_arrow_table()
    return split_days(rows, names)


def _require_made_with(lake: Lake, key: str, days: Sequence[str], names: Sequence[str]) -> None:
    """Raise InputError for days whose rows lack a column: read as null, it would look like values that went missing."""
    table = lake.table(key).open()
    stored = [field.name for field in table.schema().fields] if table is not None else list(names)
    judged = {
        str(row[PARTITION_COLUMN]): row for row in lake.table(f"{key}_decisions").answer(exp.select("*"))
    }
    made_with = {day: judged.get(day, {}).get("columns") or stored for day in days}
    lacking = [day for day, columns in made_with.items() if not {*names} <= {*columns}]
    if lacking:
        new = sorted({*names} - {*made_with[lacking[0]]})
        raise InputError(
            f"{key}: rows with {', '.join(new)} are required of {spans(lacking)}; they were made before that was "
            f"declared. Nothing was judged; make these days again, in one run: dg launch --assets {key} "
            f"--partition-range {min(lacking)}...{max(lacking)}"
        )


def split_days(rows: pa.Table, names: Sequence[str]) -> dict[str, Columns]:
    """Columns by day, in order: features as float32 with NaN for missing, ids as they are, with None."""
    encoded = rows.column(PARTITION_COLUMN).cast(pa.int32()).to_numpy()  # days since 1970
    if len(encoded) and (encoded[1:] < encoded[:-1]).any():
        order = np.argsort(encoded, kind="stable")
        rows, encoded = rows.take(pa.array(order)), encoded[order]
    days, starts = np.unique(encoded, return_index=True)
    keys = [str(np.datetime64(int(found), "D")) for found in days]
    columns = {name: _to_numpy(rows.column(name)) for name in names}
    return {
        key: {name: values[start:end] for name, values in columns.items()}
        for key, start, end in zip(keys, starts, [*starts[1:], len(encoded)], strict=True)
    }


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    if column.null_count and not pa.types.is_floating(column.type):
        return np.array(column.to_pylist(), dtype=object)  # as floats long ids would fall together
    return column.to_numpy()


def _profile_table(profiles: Mapping[str, bytes]) -> pa.Table:
    return pa.table(
        {
            "profile": pa.array(list(profiles.values()), pa.binary()),
            PARTITION_COLUMN: pa.array([day(key) for key in profiles], pa.date32()),
        }
    )


def _metrics(judged: Mapping[str, JudgedDay]) -> list[dict[str, Any]]:
    """The statistics of every compared feature of days, as rows of the metrics table."""
    return [
        {
            PARTITION_COLUMN: day(partition),
            "day": day(partition),
            "status": found.verdict.decision.status,
            "judged": found.content,
            "reference": found.reference,
            **asdict(feature),
        }
        for partition, found in judged.items()
        for feature in found.verdict.decision.features
    ]


def _decision_table(judged: Mapping[str, JudgedDay]) -> pa.Table:
    rows = [
        {
            "status": found.verdict.decision.status,
            "reason": found.verdict.decision.reason,
            "rows": found.verdict.decision.rows,
            "reference_rows": found.verdict.decision.reference_rows,
            "breached": [f.feature for f in found.verdict.decision.features if f.breached],
            "content": found.content,
            "reference": found.reference,
            "reference_days": list(found.verdict.reference),
            "columns": list(found.columns),
            PARTITION_COLUMN: day(partition),
        }
        for partition, found in judged.items()
    ]
    return pa.Table.from_pylist(rows, schema=_DECISIONS)


_DECISIONS = pa.schema(
    [
        ("status", pa.string()),
        ("reason", pa.string()),
        ("rows", pa.int64()),
        ("reference_rows", pa.int64()),
        ("breached", pa.list_(pa.string())),
        ("content", pa.string()),
        ("reference", pa.string()),
        ("reference_days", pa.list_(pa.string())),
        ("columns", pa.list_(pa.string())),
        (PARTITION_COLUMN, pa.date32()),
    ]
)
