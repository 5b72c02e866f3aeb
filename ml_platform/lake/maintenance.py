"""Upkeep of the lake: fewer and larger files, and none that nobody needs. What any read returns never changes.

Which old versions are needed is told by whoever knows: the lake does not know what was made from it.
"""

import datetime as dt
import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from ml_platform.kernel.errors import StoreError
from ml_platform.lake.tables import Lake

UNNAMED_FILES_AFTER = dt.timedelta(hours=1)
"""A file that no commit names may belong to a commit that is still to come; after this time it never will."""


@dataclass(frozen=True)
class Compacted:
    """What merging small files did to one table."""

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int


@retry(
    retry=retry_if_exception_type(CommitFailedError),
    stop=stop_after_attempt(12),
    wait=wait_random_exponential(multiplier=0.05, max=2),
    reraise=True,
)
def compact(lake: Lake, name: str) -> Compacted:
    """Merge the small files of each partition of a table; the same rows, in the same order, in fewer files.

    A writer that replaces a partition meanwhile wins, and the merging begins again. Raises StoreError for a
    table that was never written.
    """
    table = _opened(lake, name)
    files = len(table.file_uris())
    merged = table.optimize.compact()
    removed, added = json.loads(merged["filesRemoved"]), json.loads(merged["filesAdded"])
    size = sum(table.get_add_actions().column("size_bytes").to_pylist())
    return Compacted(
        table=name,
        files_before=files,
        files_after=files - merged["numFilesRemoved"] + merged["numFilesAdded"],
        bytes_before=size + removed["totalSize"] - added["totalSize"],
        bytes_after=size,
    )


@dataclass(frozen=True)
class Needed:
    """Old versions of tables, and files of the lake by their path below its root, that have to stay."""

    versions: Mapping[str, frozenset[int]] = field(default_factory=dict)
    files: frozenset[str] = frozenset()

    @classmethod
    def of(cls, manifests: Mapping[str, Mapping[str, Any]]) -> "Needed":
        """What manifests name: the table version of each of their inputs, and its files.

        The mapping's keys say whose manifests they are. Raises StoreError for one that cannot be understood.
        """
        versions: dict[str, frozenset[int]] = {}
        files: set[str] = set()
        for owner, manifest in manifests.items():
            try:
                for entry in manifest["inputs"]:
                    asset, version = str(entry["asset"]), int(entry["table_version"])
                    versions[asset] = versions.get(asset, frozenset()) | {version}
                    files.update(map(str, entry["files"]))
            except (KeyError, TypeError, ValueError) as err:
                raise StoreError(
                    f"{owner}: a manifest with inputs, each with asset, table_version and files, is required; "
                    f"this one cannot be understood ({err!r})"
                ) from err
        return cls(versions, frozenset(files))


@dataclass(frozen=True)
class Vacuum:
    """The files of one table that nobody needs, and those that only an old version keeps, by their size."""

    table: str
    files: int
    bytes: int
    kept_files: int
    kept_bytes: int
    keep_versions: tuple[int, ...]
    older_than: dt.timedelta


def plan_vacuum(lake: Lake, needed: Needed, older_than: dt.timedelta) -> list[Vacuum]:
    """What a vacuum would remove, table by table; nothing is removed.

    That is data files which neither the newest version of their table nor a needed one has, and which were
    replaced (or, if no commit ever named them, written) longer ago than `older_than`. Raises StoreError when
    a needed version is not there.
    """
    sizes = lake.files()
    names = lake.table_names(sizes)
    strangers = sorted(set(needed.versions) - set(names))
    if strangers:
        raise StoreError(
            f"{lake.root}: tables that models were trained from are required, and {strangers} are not there. "
            f"Nothing was removed; is this the lake of these models?"
        )
    return [_plan(lake, name, needed, older_than, sizes) for name in names]


def vacuum(lake: Lake, planned: Vacuum) -> None:
    """Remove what was planned; the table's log stays, so that every version can still be named."""
    if planned.files:
        _removable(lake, planned.table, planned.keep_versions, planned.older_than, dry_run=False)


def _plan(
    lake: Lake, name: str, needed: Needed, older_than: dt.timedelta, sizes: Mapping[str, int]
) -> Vacuum:
    keep = tuple(sorted(needed.versions.get(name, ())))
    for version in keep:
        lake.table(name).open(version)
    files = _removable(lake, name, keep, older_than, dry_run=True)
    unneeded = _removable(lake, name, (), older_than, dry_run=True) if keep else files
    contradictory = files & needed.files
    if contradictory:
        raise StoreError(
            f"{name}: files that a model names must belong to a version that it names; {min(contradictory)} "
            f"belongs to none of {list(keep)}. Nothing was removed; register the model again"
        )
    there = sizes.keys()  # the log names files that an earlier vacuum has removed
    kept, files = (unneeded - files) & there, files & there
    return Vacuum(
        table=name,
        files=len(files),
        bytes=_size(files, sizes),
        kept_files=len(kept),
        kept_bytes=_size(kept, sizes),
        keep_versions=keep,
        older_than=older_than,
    )


def _removable(
    lake: Lake, name: str, keep: Collection[int], older_than: dt.timedelta, *, dry_run: bool
) -> set[str]:
    removed = _opened(lake, name).vacuum(
        retention_hours=math.ceil(older_than / dt.timedelta(hours=1)),
        dry_run=dry_run,
        enforce_retention_duration=False,  # the bound is the caller's, and what is needed is named
        full=older_than >= UNNAMED_FILES_AFTER,
        keep_versions=list(keep) or None,
    )
    return {f"{name}/{file}" for file in removed}


def _size(files: Collection[str], sizes: Mapping[str, int]) -> int:
    return sum(sizes.get(file, 0) for file in files)


def _opened(lake: Lake, name: str) -> DeltaTable:
    table = lake.table(name).open()
    if table is None:
        raise StoreError(
            f"{name}: a table of the lake is required; there are {', '.join(lake.table_names())}"
        )
    return table
