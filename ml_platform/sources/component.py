"""Sources as assets: versions of events by day or hour, published only when their expectations hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg
import duckdb
import pyarrow as pa

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.publishing import Staged, broken_and_let_through, judge_published, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.partitions import spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import Beside, Finding, audit, published_sizes
from ml_platform.lake.broken_rows import stage_references
from ml_platform.lake.engine import connect
from ml_platform.lake.schemas import columns_of, differences
from ml_platform.lake.tables import Lake
from ml_platform.sources import store
from ml_platform.sources.feed import land_from_feed
from ml_platform.sources.spec import CREATED_TIME, SourceSpec


class Source(AssetComponent):
    """A source of events, versioned by id and created time, in partitions of a day or an hour."""

    spec_type = SourceSpec
    kinds = frozenset({"deltalake", "duckdb"})
    code = ("lake.schemas", "sources.casts", "sources.compute", "sources.delivery", "sources.store")
    spec: SourceSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def rechecked(self, catalog: Catalog, settings: Settings, partitions: Sequence[str]) -> Sequence[Outcome]:
        lake = Lake(settings.lake_uri)

        def judged(connection: duckdb.DuckDBPyConnection, rows: str) -> dict[str, list[Finding]]:
            beside = Beside(events=store.count_events(connection, self.spec, rows))
            return audited(connection, self.spec, lake, rows, partitions, beside=beside)

        return judge_published(settings, self.spec.key, partitions, judged)

    def forget_delivery(
        self, settings: Settings, partition: str, *, since: str, reason: str, actor: str
    ) -> None:
        lake = Lake(settings.lake_uri)
        store.dismiss_deliveries(lake, self.spec, partition, since=since, reason=reason, actor=actor)

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        return {"dagster/column_schema": column_schema(self.spec)}


def materialize(spec: SourceSpec, step: Step) -> list[Outcome]:
    """Publish the event versions of partitions from all that has landed; a refusal of one leaves the others alone."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    _require_landed(settings, spec, lake, step)
    landed = store.landed_inputs(lake, spec.name)
    with connect(settings) as connection:
        store.stage_versions(connection, lake, spec, (min(step.partitions), max(step.partitions)))
        counts = _accounts(spec, lake, connection, step.partitions)
        _require_accounted(spec, counts)
        events = store.count_events(connection, spec, "staged")
        beside = Beside(events=events, findings=_contradicting(spec, counts))
        findings = audited(connection, spec, lake, "staged", step.partitions, beside=beside)
        for line in broken_and_let_through(findings):
            step.log.warning("%s %s", spec.key, line)
        rows = connection.sql("FROM staged")
        step.log.info("%s: %s versions staged for %s", spec.key, f"{len(rows):,}", spans(step.partitions))
        metadata = {key: account.metadata() for key, account in counts.items()}
        inputs = {key: landed[key][-1] for key in step.partitions}
        staged = Staged(
            spec.key,
            step.partitions,
            rows,
            findings,
            spec.digest(),
            inputs,
            versions=True,
            events=events,
            metadata=metadata,
        )
        return publish(lake, staged, run_id=step.run_id)


def computed(spec: SourceSpec, _: Catalog, settings: Settings, partitions: Sequence[str]) -> pa.Table:
    """The versions of a range of partitions as they would be published; nothing is written, and no other asset read."""
    with connect(settings) as connection:
        store.stage_versions(connection, Lake(settings.lake_uri), spec, (min(partitions), max(partitions)))
        return connection.sql("SELECT * FROM staged").to_arrow_table()


def audited(
    connection: duckdb.DuckDBPyConnection,
    spec: SourceSpec,
    lake: Lake,
    rows: str,
    partitions: Sequence[str],
    *,
    beside: Beside,
) -> dict[str, list[Finding]]:
    """What is found in the versions of some days in the relation named `rows`, beside what else is known of them."""
    cadence = spec.cadence
    stage_references(connection, lake, rows, spec.expectations, cadence)
    declared = {**spec.column_types(), cadence.column: cadence.column_type}
    known = replace(
        beside,
        published=published_sizes(lake, spec.key, spec.expectations, partitions),
        schema=differences(columns_of(connection, f"FROM {rows}"), declared),
    )
    return audit(connection, rows, spec.expectations, partitions=partitions, beside=known, cadence=cadence)


def _contradicting(spec: SourceSpec, counts: Mapping[str, "Account"]) -> dict[str, list[Finding]]:
    """What is required of every source: no second content for one event at one time."""
    required = f"one content per ({spec.event_id}, created)"
    return {
        key: [Finding.of_rows("versions", required, rows=account.staged, failing=account.contradicting)]
        for key, account in counts.items()
    }


@dataclass(frozen=True)
class Account:
    """Where the rows of one partition went. `landed` is what the ledger of files says; the others were counted."""

    landed: int
    staged: int
    unchanged: int
    quarantined: int
    contradicting: int
    replaced: int = 0

    def metadata(self) -> dict[str, int]:
        """The counts as they are shown with the partition."""
        return {
            "rows_landed": self.landed + self.quarantined,
            "rows_staged": self.staged,
            "rows_unchanged": self.unchanged,
            "rows_quarantined": self.quarantined,
            **({"rows_replaced": self.replaced} if self.replaced else {}),
        }


def _accounts(
    spec: SourceSpec, lake: Lake, connection: duckdb.DuckDBPyConnection, partitions: Sequence[str]
) -> dict[str, Account]:
    expected = store.expected_rows(lake, spec.name)
    staged = store.count_by_partition(connection, spec, "staged")
    repeated = dict.fromkeys(partitions, store.Repeats()) | store.count_repeats(connection, spec)
    quarantined = store.count_quarantined(connection, lake, spec)
    return {
        key: Account(
            expected.get(key, 0),
            staged.get(key, 0),
            repeated[key].unchanged,
            quarantined.get(key, 0),
            repeated[key].contradicting,
            repeated[key].replaced,
        )
        for key in partitions
    }


def _require_accounted(spec: SourceSpec, counts: Mapping[str, Account]) -> None:
    """Rows landed = published or refused + unchanged + replaced, day by day, or nothing is published."""
    for key, account in counts.items():
        found = account.staged + account.unchanged + account.replaced
        if found != account.landed:
            raise StoreError(
                f"{spec.key} [{key}]: the ledger of files says that {account.landed} good rows landed, and {found} "
                f"are there ({account.staged} versions, {account.unchanged} unchanged, {account.replaced} replaced). "
                f"Nothing was published; "
                f"restore the landing table, or land the files of this day again with --replaces"
            )


def column_schema(spec: SourceSpec) -> dg.TableSchema:
    """The source's columns as Dagster shows them."""
    columns = [
        dg.TableColumn(name, column.type, description=column.description or None)
        for name, column in spec.columns.items()
    ]
    if CREATED_TIME not in spec.columns:
        columns.append(dg.TableColumn(CREATED_TIME, "timestamp", description="When the row was known."))
    return dg.TableSchema([*columns, dg.TableColumn(spec.cadence.column, spec.cadence.column_type)])


def _require_landed(settings: Settings, spec: SourceSpec, lake: Lake, step: Step) -> None:
    missing = sorted(set(step.partitions) - store.landed_days(lake, spec.name))
    if missing and spec.feed is not None:
        step.log.info("%s: asking the feed for %s", spec.key, spans(missing))
        land_from_feed(settings, spec, missing)
        missing = sorted(set(missing) - store.landed_days(lake, spec.name))
    if missing:
        raise InputError(
            f"{spec.key}: landed rows are required for {spans(missing)}; no file has any. Nothing was published; "
            f"land them with: ml-platform ingest {spec.name} PATH"
        )
