"""What has landed for a source, by the ledger of files, and the versions of events that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.partitions import PARTITION_COLUMN
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake, Table
from ml_platform.sources.compute import columns_of, repeats_sql, versions_sql
from ml_platform.sources.spec import SourceSpec

LANDED_FILES = Ledger(
    "landed_files",
    {
        "source": pa.string(),
        "digest": pa.string(),
        "path": pa.string(),
        "rows": pa.int64(),
        "quarantined": pa.int64(),
        "days": pa.list_(pa.string()),
        "rows_by_day": pa.list_(pa.int64()),
        "known_at": pa.string(),
        "replaces": pa.string(),
        "actor": pa.string(),
    },
)


def landed_files(lake: Lake, source: str) -> list[dict[str, Any]]:
    """Entries of a source in the ledger of files, in landing order; a file that landed again has several."""
    return [entry for entry in LANDED_FILES.entries(lake) if entry["source"] == source]


def digests_that_count(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Digests of the files that count after all entries, in landing order: each entry ends what it replaces."""
    valid: dict[str, None] = {}
    for entry in entries:
        valid.pop(entry["replaces"], None)
        valid[entry["digest"]] = None
    return list(valid)


def valid_digests(lake: Lake, source: str) -> list[str]:
    """Digests of the files that count for a source, in landing order."""
    return digests_that_count(landed_files(lake, source))


def landed_days(lake: Lake, source: str) -> set[str]:
    """Days for which some valid file has landed rows."""
    entries = landed_files(lake, source)
    valid = set(digests_that_count(entries))
    return {day for entry in entries if entry["digest"] in valid for day in entry["days"]}


def landed_inputs(lake: Lake, source: str) -> dict[str, list[str]]:
    """By day, a digest of the files that counted for it, in landing order, after each delivery that changed them.

    The last one is of the files that count now.
    """
    counting: dict[str, dict[str, Any]] = {}
    found: dict[str, list[str]] = {}
    for entry in landed_files(lake, source):
        gone = counting.pop(entry["replaces"], None)
        before = counting.get(entry["digest"])
        counting[entry["digest"]] = entry
        for day in {*entry["days"], *(gone["days"] if gone else ()), *(before["days"] if before else ())}:
            files = [[file["digest"], file["known_at"]] for file in counting.values() if day in file["days"]]
            digest = digest_of(files)
            if found.setdefault(day, [])[-1:] != [digest]:
                found[day].append(digest)
    return found


def expected_rows(lake: Lake, source: str) -> dict[str, int]:
    """Good rows by day that the files which count have landed, as the ledger says: what must be accounted for."""
    entries = landed_files(lake, source)
    # Two that landed one file at once told it twice.
    by_digest = {entry["digest"]: entry for entry in entries}
    expected: dict[str, int] = {}
    for digest in digests_that_count(entries):
        entry = by_digest[digest]
        for day, rows in zip(entry["days"], entry["rows_by_day"], strict=True):
            expected[day] = expected.get(day, 0) + rows
    return expected


def landing_table(lake: Lake, source: str) -> Table:
    """Good rows of deliveries, of valid files and others: by the day of their event and by file."""
    return lake.table(f"landing/{source}")


def quarantine(lake: Lake, source: str) -> Table:
    """Bad rows of deliveries that were taken: reason, file and position."""
    return lake.table(f"quarantine/{source}")


def landed_sql(lake: Lake, spec: SourceSpec, where: Sequence[Any], without: str | None = None) -> str:
    """SQL of the landed rows of valid files, each with the order in which its file landed."""
    columns = ", ".join(f'"{name}"' for name in [*columns_of(spec), PARTITION_COLUMN])
    digests = [digest for digest in valid_digests(lake, spec.name) if digest != without]
    order = ", ".join(f"('{digest}', {i})" for i, digest in enumerate(digests)) or "(NULL, NULL)"
    return (
        f"SELECT {columns}, position, landing_order FROM ({landing_table(lake, spec.name).scan(where=where)}) "
        f"JOIN (VALUES {order}) AS files(file_digest, landing_order) USING (file_digest)"
    )


def stage_versions(
    connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec, days: tuple[str, str]
) -> None:
    """Make the temporary table `staged`: the event versions of a range of days, from all that has landed."""
    landed = landed_sql(lake, spec, [(PARTITION_COLUMN, ">=", days[0]), (PARTITION_COLUMN, "<=", days[1])])
    connection.execute(f"CREATE OR REPLACE TEMP TABLE landed AS {landed}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS {versions_sql(spec, 'landed')}")


def count_by_day(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, int]:
    """Rows by day of `landed` (good rows of the staged days) or `staged` (the versions that they make)."""
    query = f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), count(*) FROM {rows} GROUP BY 1"
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}


@dataclass(frozen=True)
class Repeats:
    """Landed rows of one day that are no version: they say what was known, contradict another, or were replaced."""

    unchanged: int = 0
    contradicting: int = 0
    replaced: int = 0


def count_repeats(connection: duckdb.DuckDBPyConnection, spec: SourceSpec) -> dict[str, Repeats]:
    """What was landed more than once, by day."""
    return {
        day: Repeats(*counts) for day, *counts in connection.execute(repeats_sql(spec, "landed")).fetchall()
    }


def count_quarantined(connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec) -> dict[str, int]:
    """Quarantined rows by the day of their event, of valid files; rows without a readable time have none."""
    table = quarantine(lake, spec.name)
    digests = valid_digests(lake, spec.name)
    if table.version() is None or not digests:
        return {}
    listed = ", ".join(f"'{digest}'" for digest in digests)
    query = (
        f"SELECT CAST({PARTITION_COLUMN} AS VARCHAR), count(*) FROM ({table.scan()}) "
        f"WHERE file_digest IN ({listed}) AND {PARTITION_COLUMN} IS NOT NULL GROUP BY 1"
    )
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}
