"""What a partition is made from: of every day that it reads, the content as it was known at the partition's time.

Two digests of it, then and now, are equal if and only if nothing that the partition reads has changed. What came
to be known later belongs to later partitions.
"""

import datetime as dt
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Lineage, Upstream
from ml_platform.kernel.partitions import (
    CREATED_TIME,
    EVENT_TIME,
    Cadence,
    Range,
    cadence_of,
    complete_at,
    key_range,
    spans,
)
from ml_platform.lake.content_hash import content_hash
from ml_platform.lake.kept_keys import keys_of
from ml_platform.lake.known_keys import FIRST, LAST, KeyHistory, moment_after, name_of
from ml_platform.lake.ledger import Publication, publications_by_asset, publications_of
from ml_platform.lake.tables import Lake

_NOTHING = "nothing"

Content = Mapping[str, Mapping[str, str]]
"""By upstream asset and partition, the content hash as a partition sees it."""


def known_history(rows: pa.Table, cadence: Cadence) -> dict[str, str]:
    """Content hash of the versions of one partition that were known, by every moment at which it changes.

    Moments are ends of partitions, such as midnights, and are named by the partition that they begin.
    """
    created, period = _micros(rows.column(CREATED_TIME)), cadence.microseconds
    moments = np.clip(-(-created // period), FIRST // period, LAST // period)
    changes = np.unique(moments)
    return {
        name_of(int(moment), cadence): content_hash(
            rows if moment == changes[-1] else rows.filter(pa.array(moments <= moment))
        )
        for moment in changes
    }


def equal_lag(rows: pa.Table) -> int | None:
    """Microseconds from event to when it was known, if they are the same for all rows of a day."""
    created, event = (_micros(rows.column(name)) for name in (CREATED_TIME, EVENT_TIME))
    lags = np.unique(created - event)
    return int(lags[0]) if len(lags) == 1 else None


def _micros(times: pa.ChunkedArray) -> np.ndarray:
    return times.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()


def as_known(publication: Publication, time: dt.datetime) -> str:
    """The content hash of what was known of a published partition at a time, which is the end of some partition.

    Within a day that is published whole, what was known by the end of that day counts: it may be more, and is never
    less. Rows without a time of their own at which they were known count as known, whenever they were made.
    """
    return _known_at(publication, moment_after(time, cadence_of(publication.partition)))


def _known_at(publication: Publication, moment: str) -> str:
    """The same at a moment by its name."""
    if not publication.known:
        return publication.content_hash
    passed = [when for when in publication.known if when <= moment]
    return publication.known[max(passed)] if passed else _NOTHING


@dataclass(frozen=True)
class Inputs:
    """What is published at one moment, as those who read it see it."""

    lake: Lake
    lineage: Lineage
    publications: Mapping[str, Mapping[str, Publication]]
    _keys: dict[tuple[str, tuple[str, ...]], KeyHistory] = field(default_factory=dict, init=False)

    @classmethod
    def now(cls, lake: Lake, lineage: Lineage) -> "Inputs":
        """Of all assets."""
        return cls(lake, lineage, publications_by_asset(lake, lineage.nodes))

    @classmethod
    def of(cls, asset: str, lake: Lake, lineage: Lineage) -> "Inputs":
        """Of what one asset reads itself."""
        read = {upstream.key for upstream in lineage.node(asset).upstream}
        return cls(lake, lineage, publications_of(lake, read))

    def require(self, asset: str, partitions: Collection[str]) -> None:
        """Raise InputError when something that a range of partitions reads has no published version."""
        asked = min(partitions), max(partitions)
        for upstream, read in self.lineage.direct_partitions(asset, asked).items():
            missing = sorted(set(key_range(*read)) - set(self.publications.get(upstream, {})))
            if missing:
                raise InputError(
                    f"{asset}: published partitions of {upstream} are required; {spans(missing)} have none, because "
                    f"they were never materialized or were refused. Nothing was computed; materialize {upstream} for "
                    f"them first"
                )

    def read_by(self, asset: str, partition: str) -> Content:
        """What a partition reads of each upstream that has published partitions."""
        read = self.lineage.direct_partitions(asset, (partition, partition))
        return {
            upstream.key: self._content(upstream, key_range(*read[upstream.key]), partition)
            for upstream in self.lineage.node(asset).upstream
            if upstream.key in read
        }

    def digest(self, asset: str, partition: str, keys: Mapping[str, KeyHistory] | None = None) -> str:
        """A digest of what a partition reads; empty when it reads nothing.

        `keys` has, by upstream, the history of keys from who has just read it, of a range that has the partition.
        """
        content = {key: dict(found) for key, found in self.read_by(asset, partition).items()}
        for upstream in self.lineage.node(asset).upstream:
            if upstream.keys and upstream.key in content:
                given = (keys or {}).get(upstream.key)
                history = self._key_history(upstream.key, upstream.keys) if given is None else given
                end = moment_after(complete_at(partition), self.lineage.node(upstream.key).cadence)
                passed = [digest for when, digest in history if when <= end]
                content[upstream.key][", ".join(upstream.keys)] = passed[-1] if passed else _NOTHING
        return digest_of(content) if content else ""

    def digests(
        self, asset: str, partitions: Iterable[str], keys: Mapping[str, KeyHistory] | None = None
    ) -> dict[str, str]:
        """The digest of what each partition reads.

        Take `keys` from the rows that were read, or these digests before any are: then what is published meanwhile
        leaves the partition outdated, and never current by mistake.
        """
        return {partition: self.digest(asset, partition, keys) for partition in partitions}

    def lags(self, asset: str, version: int, keys: Range) -> set[int | None]:
        """How long after their events the rows of some partitions were known; None where that is unknown or differs.

        Known only if the table is at the given version, so that what is read is what the ledger tells of.
        """
        mine = self.publications.get(asset, {})
        if max((p.table_version for p in mine.values()), default=None) != version:
            return {None}
        return {p.lag for key, p in mine.items() if keys[0] <= key <= keys[1] and p.rows}

    def _content(self, upstream: Upstream, keys: Iterable[str], partition: str) -> dict[str, str]:
        mine = self.publications.get(upstream.key, {})
        moment = moment_after(complete_at(partition), self.lineage.node(upstream.key).cadence)
        return {
            key: mine[key].content_hash
            if upstream.latest_truth or (upstream.whole and key == partition)
            else _known_at(mine[key], moment)
            for key in keys
            if key in mine
        }

    def _key_history(self, asset: str, columns: tuple[str, ...]) -> KeyHistory:
        """Of everything that is published of an asset; nothing is read where nothing is."""
        if asset not in self.publications:
            return []
        if (asset, columns) not in self._keys:
            start = self.lineage.node(asset).first
            assert start is not None  # what is published of has partitions
            self._keys[asset, columns] = keys_of(self.lake, asset, columns, start)
        return self._keys[asset, columns]
