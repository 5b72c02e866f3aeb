"""What has landed for a source, by the ledger of files, and the versions of events that it makes."""

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import Range, within
from ml_platform.lake.dialect import quoted
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


DISMISSED = Ledger(
    "dismissed_deliveries",
    {
        "source": pa.string(),
        "digest": pa.string(),
        "day": pa.string(),
        "reason": pa.string(),
        "actor": pa.string(),
    },
)
"""Days of landed files that were refused and dropped; a file that lands again afterwards counts again."""

Files = list[tuple[str, str | None]]
"""Digests of files in landing order, each with the time at which its rows were known, if it was declared."""


def landed_files(lake: Lake, source: str) -> list[dict[str, Any]]:
    """Entries of a source in the ledger of files, in landing order; a file that landed again has several."""
    return LANDED_FILES.entries(lake, source=[source])


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


def dismissed_days(lake: Lake, source: str) -> dict[str, dict[str, dt.datetime]]:
    """By the digest of a file, when each of its dismissed days was dismissed last."""
    found: dict[str, dict[str, dt.datetime]] = {}
    for entry in DISMISSED.entries(lake, source=[source]):
        found.setdefault(entry["digest"], {})[entry["day"]] = entry["recorded_at"]
    return found


@dataclass(frozen=True)
class Landings:
    """Which landed files count for which days: what replaces them ends them, except on days that were dismissed."""

    rows: Mapping[str, Mapping[str, int]]  # good rows by file, in landing order, and day
    states: Mapping[str, Sequence[Files]]  # by day, the files that counted after each change of them
    in_place_of: Mapping[str, Sequence[str]]  # by file, those whose place it took, the newest first

    @classmethod
    def of(cls, lake: Lake, source: str) -> "Landings":
        """Of a source, by the ledgers."""
        return cls.made(landed_files(lake, source), dismissed_days(lake, source))

    @classmethod
    def made(
        cls, entries: Sequence[Mapping[str, Any]], dismissed: Mapping[str, Mapping[str, dt.datetime]]
    ) -> "Landings":
        """By landings in their order, and when days of files were dismissed."""
        counting: dict[str, dict[str, int]] = {}
        in_place_of: dict[str, list[str]] = {}
        known: dict[str, str | None] = {}
        states: dict[str, list[Files]] = {}
        for entry in entries:
            replaced = entry["replaces"]
            in_place_of[entry["digest"]] = [replaced, *in_place_of.get(replaced, [])] if replaced else []
            gone = {
                day for day, when in dismissed.get(entry["digest"], {}).items() if when > entry["recorded_at"]
            }
            touched = _land(counting, entry, in_place_of[entry["digest"]], gone)
            known[entry["digest"]] = entry["known_at"]
            for day in touched:
                files = [(digest, known[digest]) for digest, days in counting.items() if day in days]
                if states.setdefault(day, [])[-1:] != [files]:
                    states[day].append(files)
        return cls(counting, states, in_place_of)

    def not_counting(self, entries: Sequence[dict[str, Any]]) -> list[tuple[str, str]]:
        """Days of counting files for which they do not count: pairs of digest and day."""
        landed = {(entry["digest"], day) for entry in entries for day in entry["days"]}
        return sorted(case for case in landed if case[0] in self.rows and case[1] not in self.rows[case[0]])


def _land(
    counting: dict[str, dict[str, int]],
    entry: Mapping[str, Any],
    replaced: Sequence[str],
    gone: Collection[str],
) -> set[str]:
    """Let a file's days count, and those of the files in whose place it is no longer, except where it is gone itself.

    Returns the days that this may have changed.
    """
    landed = dict(zip(entry["days"], entry["rows_by_day"], strict=True))
    touched = {*landed, *counting.get(entry["digest"], {})}
    for digest in replaced:
        before = counting.get(digest, {})
        touched |= set(before)
        counting[digest] = {day: rows for day, rows in before.items() if day in landed and day in gone}
        if not counting[digest]:
            del counting[digest]
    counting[entry["digest"]] = {day: rows for day, rows in landed.items() if day not in gone}
    return touched


def landed_days(lake: Lake, source: str) -> set[str]:
    """Days for which some valid file has landed rows."""
    return {day for days in Landings.of(lake, source).rows.values() for day in days}


def landed_inputs(lake: Lake, source: str) -> dict[str, list[str]]:
    """By day, a digest of the files that counted for it, in landing order, after each delivery that changed them.

    The last one is of the files that count now.
    """
    states = Landings.of(lake, source).states
    return {day: [_files_digest(files) for files in found] for day, found in states.items()}


def expected_rows(lake: Lake, source: str) -> dict[str, int]:
    """Good rows by day that the files which count have landed, as the ledger says: what must be accounted for."""
    expected: dict[str, int] = {}
    for days in Landings.of(lake, source).rows.values():
        for day, rows in days.items():
            expected[day] = expected.get(day, 0) + rows
    return expected


def dismiss_deliveries(
    lake: Lake, spec: SourceSpec, day: str, *, since: str, reason: str, actor: str
) -> None:
    """Let the files that a day's published version was not made from count no more for that day.

    `since` is the digest of the files that it was made from, or empty when nothing is published. Files whose place
    they took count again. Raises InputError where the files of then cannot come back.
    """
    entries, dismissed = landed_files(lake, spec.name), dismissed_days(lake, spec.name)
    states = Landings.made(entries, dismissed).states.get(day, [])
    made_from = next((files for files in reversed(states) if _files_digest(files) == since), [])
    kept = {digest for digest, _ in made_from}
    gone = sorted({entry["digest"] for entry in entries if day in entry["days"]} - kept)
    last = dt.datetime.max.replace(tzinfo=dt.UTC)
    then = {**dismissed, **{digest: {**dismissed.get(digest, {}), day: last} for digest in gone}}
    left = Landings.made(entries, then).states.get(day, [[]])[-1]
    if (since and not made_from) or {digest for digest, _ in left} != kept:
        raise InputError(
            f"{spec.key} [{day}]: the files that the published version was made from are required to go back to it; "
            f"some were replaced since, by files without a row of that day. Nothing was changed; land them again"
        )
    common = {"source": spec.name, "day": day, "reason": reason, "actor": actor}
    if gone:
        DISMISSED.append(lake, [{**common, "digest": digest} for digest in gone])


def _files_digest(files: Files) -> str:
    return digest_of([list(file) for file in files])


def landing_table(lake: Lake, source: str) -> Table:
    """Good rows of deliveries, of valid files and others: by the day of their event and by file."""
    return lake.table(f"landing/{source}")


def quarantine(lake: Lake, source: str) -> Table:
    """Bad rows of deliveries that were taken: reason, file and position."""
    return lake.table(f"quarantine/{source}")


def landed_sql(lake: Lake, spec: SourceSpec, where: Sequence[Any], without: str | None = None) -> str:
    """SQL of the landed rows of valid files, each with the order in which its file landed.

    `without` a file is without those as well whose place it took.
    """
    cadence = spec.cadence
    columns = ", ".join(f'"{name}"' for name in [*columns_of(spec), cadence.column])
    entries = landed_files(lake, spec.name)
    landings = Landings.made(entries, dismissed_days(lake, spec.name))
    left_out = {without, *landings.in_place_of.get(without or "", ())}
    digests = [digest for digest in landings.rows if digest not in left_out]
    order = ", ".join(f"('{digest}', {i})" for i, digest in enumerate(digests)) or "(NULL, NULL)"
    gone = landings.not_counting(entries)
    pairs = ", ".join(f"('{digest}', '{key}')" for digest, key in gone)
    counting = f" WHERE (file_digest, CAST({cadence.column} AS VARCHAR)) NOT IN ({pairs})" if gone else ""
    return (
        f"SELECT {columns}, position, landing_order FROM ({landing_table(lake, spec.name).scan(where=where)}) "
        f"JOIN (VALUES {order}) AS files(file_digest, landing_order) USING (file_digest){counting}"
    )


def stage_versions(connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec, keys: Range) -> None:
    """Make the temporary table `staged`: the event versions of a range of partitions, from all that has landed."""
    landed = landed_sql(lake, spec, within(keys))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE landed AS {landed}")
    connection.execute(f"CREATE OR REPLACE TEMP TABLE staged AS {versions_sql(spec, 'landed')}")


def count_by_partition(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, rows: str) -> dict[str, int]:
    """Rows by partition of `landed` (good rows of those staged) or `staged` (the versions that they make)."""
    query = f"SELECT CAST({spec.cadence.column} AS VARCHAR), count(*) FROM {rows} GROUP BY 1"
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}


def count_events(connection: duckdb.DuckDBPyConnection, spec: SourceSpec, rows: str) -> dict[str, int]:
    """Events by partition of a relation of versions, each once however often it was corrected."""
    query = (
        f"SELECT CAST({spec.cadence.column} AS VARCHAR), count(DISTINCT {quoted(spec.event_id)}) "
        f"FROM {quoted(rows)} GROUP BY 1"
    )
    return dict(connection.execute(query).fetchall())


@dataclass(frozen=True)
class Repeats:
    """Landed rows of a partition that are no version: they say what was known, contradict another, or were replaced."""

    unchanged: int = 0
    contradicting: int = 0
    replaced: int = 0


def count_repeats(connection: duckdb.DuckDBPyConnection, spec: SourceSpec) -> dict[str, Repeats]:
    """What was landed more than once, by partition."""
    return {
        day: Repeats(*counts) for day, *counts in connection.execute(repeats_sql(spec, "landed")).fetchall()
    }


def count_quarantined(connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec) -> dict[str, int]:
    """Quarantined rows by the partition of their event, of valid files; rows without a readable time have none."""
    table = quarantine(lake, spec.name)
    digests = valid_digests(lake, spec.name)
    if table.version() is None or not digests:
        return {}
    listed = ", ".join(f"'{digest}'" for digest in digests)
    column = spec.cadence.column
    query = (
        f"SELECT CAST({column} AS VARCHAR), count(*) FROM ({table.scan()}) "
        f"WHERE file_digest IN ({listed}) AND {column} IS NOT NULL GROUP BY 1"
    )
    return {row[0]: row[1] for row in connection.execute(query).fetchall()}
