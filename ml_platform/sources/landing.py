"""Landing a delivered file: good rows by their event's partition, bad rows in quarantine, then the file in the ledger.

Landing is idempotent by file digest: rows of a digest are replaced, never added, and the `landed_files`
ledger entry comes last, so a killed ingest leaves nothing that a reader would see. Apart from `store.py`, which
says what has landed and makes versions of it, because only a delivery writes here.
"""

import datetime as dt
import glob
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from filelock import FileLock

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.sources.compute import columns_of, conflicts_sql
from ml_platform.sources.delivery import Delivery, declared_time, split_file
from ml_platform.sources.spec import SourceSpec
from ml_platform.sources.store import (
    LANDED_FILES,
    digests_that_count,
    dismissed_days,
    expected_rows,
    landed_files,
    landed_sql,
    landing_table,
    quarantine,
)


@dataclass(frozen=True)
class Landed:
    """What one ingest of one file did; `unchanged` means that these very bytes had landed before."""

    source: str
    path: str
    digest: str
    rows: int
    quarantined: int
    days: tuple[str, ...]
    unchanged: bool = False


def expand(paths: Sequence[str]) -> list[Path]:
    """Files that paths, folders and globs name, in a stable order; InputError for one that names none."""
    found: list[Path] = []
    for text in paths:
        path = Path(text).expanduser()
        # Path.glob wants a folder to start from; here any part of the path may be a pattern.
        matching = glob.glob(str(path), recursive=True)  # noqa: PTH207
        named = [path] if path.exists() else sorted(Path(name) for name in matching)
        files = [file for one in named for file in (_deliveries(one) if one.is_dir() else [one])]
        if not files:
            raise InputError(
                f"{text}: a Parquet or CSV file, a folder or a glob of them is required; found none"
            )
        found += files
    return list(dict.fromkeys(found))


def _deliveries(folder: Path) -> list[Path]:
    endings = (".parquet", ".csv", ".csv.gz")
    return sorted(
        path for path in folder.rglob("*") if path.name.lower().endswith(endings) and path.is_file()
    )


def ingest(
    settings: Settings,
    spec: SourceSpec,
    path: Path,
    *,
    known_at: str | None = None,
    replaces: str | None = None,
) -> Landed:
    """Land one file for a source: good rows by partition, bad rows in quarantine, the file in the ledger.

    Landing the same bytes again changes nothing. `replaces` names the digest (or its start) of a landed file
    whose place this one takes. Raises InputError, with nothing changed, for a file that is refused whole.
    """
    digest = _digest(path)
    (settings.root / "locks").mkdir(parents=True, exist_ok=True)
    # Two that run at once here could contradict each other; elsewhere, materializing the partition finds it.
    with FileLock(settings.root / "locks" / f"ingest-{spec.name}"):
        return _ingest(settings, spec, path, digest, known_at=known_at, replaces=replaces)


def land_nothing(settings: Settings, spec: SourceSpec, partition: str, *, reason: str) -> Landed:
    """Say that a day or hour had no events: from then on it can be materialized, and is judged like any other.

    Raises InputError, with nothing changed, without a reason, for one that the source does not have, or of which rows
    have landed; a file that lands later counts.
    """
    if not reason.strip():
        raise InputError(
            f"--reason is required: say why {spec.key} had no events on {partition}; nothing was landed"
        )
    digest = hashlib.sha256(f"no events of {spec.name} on {partition}".encode()).hexdigest()
    (settings.root / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(settings.root / "locks" / f"ingest-{spec.name}"):
        lake = Lake(settings.lake_uri)
        _require_quiet(lake, spec, partition)
        entry: dict[str, Any] = {
            "source": spec.name,
            "digest": digest,
            "path": f"no events: {reason}",
            "rows": 0,
            "quarantined": 0,
            "days": [partition],
            "rows_by_day": [0],
            "known_at": None,
            "replaces": None,
            "actor": settings.who,
        }
        LANDED_FILES.append(lake, [entry])
    return _landed(entry, path=entry["path"])


def _require_quiet(lake: Lake, spec: SourceSpec, partition: str) -> None:
    cadence = spec.cadence
    try:
        start = cadence.start(partition)
    except ValueError:
        start = None
    if start is None or not spec.start <= start.date() <= (spec.end or dt.datetime.now(dt.UTC).date()):
        raise InputError(
            f"{cadence.one} of {spec.key} is required, from {spec.start} to {spec.end or 'now'}, such as "
            f"{cadence.example}; got {partition!r}. Nothing was landed"
        )
    landed = expected_rows(lake, spec.name)
    if not landed:
        raise InputError(
            f"{spec.key}: rows of some other {cadence.unit} are required first; no file has landed. Nothing was landed"
        )
    if landed.get(partition):
        raise InputError(
            f"{spec.key} [{partition}]: {cadence.one} without rows is required; {landed[partition]:,} have landed. "
            f"Nothing was changed; "
            f"what is wrong with them is put right with another file: ml-platform ingest … --replaces DIGEST"
        )


def _ingest(
    settings: Settings,
    spec: SourceSpec,
    path: Path,
    digest: str,
    *,
    known_at: str | None,
    replaces: str | None,
) -> Landed:
    lake = Lake(settings.lake_uri)
    known_at = declared_time(known_at) if known_at is not None else None
    entries = landed_files(lake, spec.name)
    replaced = _replaced(entries, replaces, spec)
    before = _landed_before(entries, digest, known_at=known_at, replaced=replaced)
    if before is not None and digest not in dismissed_days(lake, spec.name):
        return _landed(before, path=str(path), unchanged=True)
    with connect(settings) as connection:
        delivery = split_file(connection, spec, path, known_at=known_at)
        _require_consistent(connection, lake, spec, path, without=replaced)
        _write(connection, lake, spec, digest, delivery)
    entry = {
        "source": spec.name,
        "digest": digest,
        "path": str(path),
        "rows": delivery.rows,
        "quarantined": delivery.bad,
        "days": list(delivery.days),
        "rows_by_day": list(delivery.rows_by_day.values()),
        "known_at": known_at,
        "replaces": replaced,
        "actor": settings.who,
    }
    LANDED_FILES.append(lake, [entry])
    return _landed(entry, path=str(path))


def _require_consistent(
    connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec, path: Path, *, without: str | None
) -> None:
    if landing_table(lake, spec.name).version() is None:
        return
    landed = landed_sql(lake, spec, [], without=without)
    moved, contradicted, example = connection.execute(conflicts_sql(spec, landed)).fetchall()[0]
    if moved or contradicted:
        raise InputError(
            f"{path}: an id keeps its event time, and one ({spec.event_id}, created) has one content; against "
            f"what has landed, {moved} rows move their event and {contradicted} contradict, such as "
            f"{spec.event_id} {example}. The file was refused whole; land corrections with --known-at TIME, "
            f"or put it in the place of the wrong file with --replaces DIGEST"
        )


def _write(
    connection: duckdb.DuckDBPyConnection, lake: Lake, spec: SourceSpec, digest: str, delivery: Delivery
) -> None:
    columns = ", ".join(f'"{name}"' for name in [*columns_of(spec), spec.cadence.column])
    tagged = f"SELECT {columns}, position, '{digest}' AS file_digest"
    good = connection.sql(f"{tagged} FROM delivered WHERE reason IS NULL")
    predicate = f"file_digest = '{digest}'"
    landing_table(lake, spec.name).replace(
        good, predicate=predicate, partition_by=(spec.cadence.column, "file_digest")
    )
    if delivery.bad:
        bad = connection.sql(f"{tagged}, reason FROM delivered WHERE reason IS NOT NULL")
        quarantine(lake, spec.name).replace(bad, predicate=predicate, partition_by=("file_digest",))


def _replaced(entries: Sequence[dict[str, Any]], replaces: str | None, spec: SourceSpec) -> str | None:
    """The digest of the landed file that `replaces` names; InputError when it names none, or several."""
    if replaces is None:
        return None
    paths = {entry["digest"]: entry["path"] for entry in entries}
    matching = [digest for digest in paths if replaces and digest.startswith(replaces)]
    if len(matching) != 1:
        known = ", ".join(f"{digest[:12]} ({path})" for digest, path in list(paths.items())[-5:])
        raise InputError(
            f"--replaces {replaces}: the digest of one landed file of source {spec.name!r} is required; "
            f"{len(matching)} match. Nothing was landed. The newest are: {known or 'none'}"
        )
    return matching[0]


def _landed_before(
    entries: Sequence[dict[str, Any]], digest: str, *, known_at: str | None, replaced: str | None
) -> dict[str, Any] | None:
    """The entry of these very bytes when there is nothing left to do; InputError when that would hide a wish."""
    before = next((entry for entry in reversed(entries) if entry["digest"] == digest), None)
    valid = digests_that_count(entries)
    if replaced is not None and replaced not in valid and digest not in valid:
        raise InputError(
            f"--replaces {replaced[:12]}: a file that still counts is required; another has taken its place. "
            f"Nothing was landed; name that one"
        )
    if before is None or (digest not in valid and replaced is not None):
        return None
    if digest in valid and before["known_at"] != known_at:
        raise InputError(
            f"these bytes have landed as {digest[:12]}, known at {before['known_at'] or 'their own times'}; "
            f"--known-at {known_at or 'their own times'} would change that. Nothing was landed; write the rows to "
            f"another file, and land it with --replaces {digest[:12]} if this one was wrong"
        )
    return before if replaced in (None, digest) or replaced not in valid else None


def _landed(entry: dict[str, Any], *, path: str, unchanged: bool = False) -> Landed:
    return Landed(
        entry["source"],
        path,
        entry["digest"],
        entry["rows"],
        entry["quarantined"],
        tuple(entry["days"]),
        unchanged,
    )


def _digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex; InputError when it cannot be read."""
    digest = hashlib.sha256()
    try:
        for block in _blocks(path):
            digest.update(block)
    except OSError as err:
        raise InputError(f"{path}: a readable file is required; {err.strerror}. Nothing was landed") from err
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            yield block
