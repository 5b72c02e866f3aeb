"""Append-only ledgers: who did what to which partition, and what was published when.

A ledger is a lake table that nothing ever rewrites. Wall time is recorded here and never enters a hash.
"""

import datetime as dt
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from operator import itemgetter
from typing import Any

import pyarrow as pa
from sqlglot import exp

from ml_platform.lake.rows import Rows
from ml_platform.lake.tables import Lake

_TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Ledger:
    """One ledger: its name and the columns of an entry; `recorded_at` is added by `append`."""

    name: str
    columns: Mapping[str, pa.DataType]

    @property
    def schema(self) -> pa.Schema:
        fields = [pa.field(name, kind) for name, kind in self.columns.items()]
        return pa.schema([*fields, pa.field("recorded_at", _TIME)])

    def append(self, lake: Lake, entries: Sequence[Mapping[str, Any]]) -> None:
        """Add entries in one commit; each must have exactly the ledger's columns."""
        for entry in entries:
            if set(entry) != set(self.columns):
                raise ValueError(f"ledger {self.name} has columns {list(self.columns)}; got {list(entry)}")
        now = dt.datetime.now(dt.UTC)
        rows = [{**entry, "recorded_at": now} for entry in entries]
        lake.table(f"ledgers/{self.name}").append(pa.Table.from_pylist(rows, schema=self.schema))

    def entries(self, lake: Lake, /, **wanted: Collection[str]) -> list[dict[str, Any]]:
        """All entries, oldest first; only those that have one of the wanted values of a column, if any are named.

        Each has the ledger's columns: those that came after the release that wrote it are null, and those that a
        later release added are there beside them.
        """
        return self.entries_from(lake, {}, **wanted)

    def entries_from(
        self, lake: Lake, least: Mapping[str, Any], /, **wanted: Collection[str]
    ) -> list[dict[str, Any]]:
        """The same of those that have at least such values; what has none of them costs nothing to leave out."""
        query = exp.select("*").where(*(exp.column(name) >= value for name, value in least.items()))
        found = ({**dict.fromkeys(self.columns), **row} for row in self._answer(lake, query, wanted))
        return sorted(found, key=itemgetter("recorded_at"))

    def greatest(
        self, lake: Lake, column: str, /, *, near: int | None = None, **wanted: Collection[str]
    ) -> Any:
        """The greatest value of a column, of such entries; None when there are none.

        It is looked for from `near` on first: where it is found there, the files of all that came before stay shut.
        """
        every = exp.select(exp.func("max", exp.column(column)).as_("value"))
        nearby = [] if near is None else [every.where(exp.column(column) >= near)]
        for query in (*nearby, every):
            found = self._answer(lake, query, wanted)
            if found and found[0]["value"] is not None:
                return found[0]["value"]
        return None

    def greatest_by(self, lake: Lake, column: str, *, by: str) -> dict[str, Any]:
        """The greatest value of a column for each value of another, of all entries."""
        query = exp.select(by, exp.func("max", exp.column(column)).as_("value")).group_by(by)
        return {row[by]: row["value"] for row in self._answer(lake, query, {})}

    def _answer(
        self, lake: Lake, query: exp.Select, wanted: Mapping[str, Collection[str]]
    ) -> list[dict[str, Any]]:
        if not all(wanted.values()):
            return []
        for column, values in wanted.items():
            query = query.where(exp.column(column).isin(*sorted(values)))
        return lake.table(f"ledgers/{self.name}").answer(query)


@dataclass(frozen=True)
class Publication:
    """One published version of one partition of an asset, and what it was made from."""

    asset: str
    partition: str
    content_hash: str
    rows: int
    table_version: int
    declaration: str
    run_id: str
    inputs: str = ""  # digest of what was read; see `inputs`
    known: Mapping[str, str] = field(
        default_factory=dict
    )  # content hash by the ends of partitions, such as midnights, at which it changes
    lag: int | None = None  # microseconds from every row's event to when it was known, if they are the same
    events: int | None = None  # how many events the rows are versions of, where they are versions


_TOLD = "publications"  # under this name a commit says what it published

_PUBLICATIONS = Ledger(
    "publications",
    {
        "asset": pa.string(),
        "partition": pa.string(),
        "content_hash": pa.string(),
        "rows": pa.int64(),
        "table_version": pa.int64(),
        "declaration": pa.string(),
        "run_id": pa.string(),
        "inputs": pa.string(),
        "known": pa.string(),
        "lag": pa.int64(),
        "events": pa.int64(),
    },
)


def publish_partitions(lake: Lake, rows: Rows, publications: Sequence[Publication]) -> list[Publication]:
    """Replace the rows of the published partitions of one asset, and say so in the same commit; with their version.

    The commit carries the publications: from then on readers have them, even if this process dies before the
    ledger has.
    """
    (asset,) = {publication.asset for publication in publications}
    told = {_TOLD: [asdict(publication) for publication in publications]}
    keys = [publication.partition for publication in publications]
    version = lake.table(asset).replace_partitions(rows, keys=keys, told=told)
    _record(lake, asset, version)
    return [replace(publication, table_version=version) for publication in publications]


def restamp(lake: Lake, publications: Sequence[Publication]) -> None:
    """Record publications again that are what they were, made from what is published now.

    Each has the table version of the one that it stands for, so that a later commit still counts for more.
    """
    for asset, mine in _recorded(publications).items():
        _record(lake, asset, max(map(_version, mine)))
    _append(lake, publications)


def history(lake: Lake, assets: Collection[str] | None = None) -> list[Publication]:
    """Every publication that the ledger has, of all assets or of some, in the order in which they were recorded."""
    wanted = {"asset": assets} if assets is not None else {}
    return [_publication(entry) for entry in _PUBLICATIONS.entries(lake, **wanted)]


def publications_by_asset(lake: Lake, also: Iterable[str] = ()) -> dict[str, dict[str, Publication]]:
    """The newest publication of each partition, by asset and partition key.

    The greatest table version is the newest, whoever recorded it first: that is whose rows are in the table.
    `also` names assets that the ledger may have nothing of yet, because the first to publish them died.
    """
    recorded = _recorded(history(lake))
    return _newest(lake, {*recorded, *also}, recorded)


def publications_of(lake: Lake, assets: Collection[str]) -> dict[str, dict[str, Publication]]:
    """The same of some assets only; nothing is read of the others."""
    return _newest(lake, assets, _recorded(history(lake, assets)))


def published(lake: Lake, asset: str) -> dict[str, Publication]:
    """The newest publication of each partition of an asset, by partition key."""
    return publications_of(lake, [asset]).get(asset, {})


def published_since(lake: Lake, asset: str, first: str) -> dict[str, Publication]:
    """The same of the partitions from a first one on; those before it are read only where there are none."""
    entries = _PUBLICATIONS.entries_from(lake, {"partition": first}, asset=[asset])
    newest = _newest(lake, [asset], {asset: [_publication(entry) for entry in entries]})
    return {key: publication for key, publication in newest.get(asset, {}).items() if key >= first}


def newest_partitions(lake: Lake, assets: Iterable[str]) -> dict[str, str]:
    """The last partition, by its name, that is published of each of some assets; nothing of one that has none."""
    partitions = _PUBLICATIONS.greatest_by(lake, "partition", by="asset")
    versions = _PUBLICATIONS.greatest_by(lake, "table_version", by="asset")
    found: dict[str, str] = {}
    for asset in assets:
        later = [publication.partition for publication in _unrecorded(lake, asset, versions.get(asset))]
        known = [*later, *([partitions[asset]] if asset in partitions else [])]
        if known:
            found[asset] = max(known)
    return found


def _newest(
    lake: Lake, assets: Iterable[str], recorded: Mapping[str, Sequence[Publication]]
) -> dict[str, dict[str, Publication]]:
    found: dict[str, dict[str, Publication]] = {}
    for asset in assets:
        entries = recorded.get(asset, [])
        later = _unrecorded(lake, asset, max(map(_version, entries), default=None))
        newest = {p.partition: p for p in sorted([*entries, *later], key=_version)}
        if newest:
            found[asset] = newest
    return found


def _record(lake: Lake, asset: str, version: int) -> None:
    """Bring the ledger up to the asset's newest commit, with those of processes that died before they could.

    So an entry means that all commits before it are recorded too, and readers need to look at later ones only.
    Most often the one before `version`, which is a commit of the asset, is the last that was recorded.
    """
    recorded = _PUBLICATIONS.greatest(lake, "table_version", near=version - 1, asset=[asset])
    missing = _unrecorded(lake, asset, recorded)
    if missing:
        _append(lake, missing)


def _append(lake: Lake, publications: Sequence[Publication]) -> None:
    entries = [{**asdict(entry), "known": json.dumps(dict(entry.known))} for entry in publications]
    _PUBLICATIONS.append(lake, entries)


def _recorded(publications: Iterable[Publication]) -> dict[str, list[Publication]]:
    """Publications by asset, in their order."""
    found: dict[str, list[Publication]] = {}
    for publication in publications:
        found.setdefault(publication.asset, []).append(publication)
    return found


def _unrecorded(lake: Lake, asset: str, recorded: int | None) -> list[Publication]:
    """Publications of the commits after the newest recorded version, oldest first; of all if none is recorded."""
    last = -1 if recorded is None else recorded
    return [
        _publication({**entry, "table_version": commit["version"]})
        for commit in lake.table(asset).commits_after(last)
        for entry in commit.get(_TOLD, [])
    ]


def _publication(entry: Mapping[str, Any]) -> Publication:
    """A publication from its entry or its commit; columns that came later may be missing, or null."""
    told = {f.name: entry[f.name] for f in fields(Publication) if entry.get(f.name) is not None}
    if isinstance(told.get("known"), str):
        told["known"] = json.loads(told["known"])
    return Publication(**told)


def _version(publication: Publication) -> int:
    return publication.table_version
