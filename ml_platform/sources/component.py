"""Sources as assets: daily versions of events, published only when their expectations hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ml_platform.compiler import AssetComponent, Step
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.publishing import Staged, publish
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.partitions import PARTITION_COLUMN, spans
from ml_platform.kernel.settings import Settings
from ml_platform.lake.audit import audit
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake
from ml_platform.sources import store
from ml_platform.sources.feed import land_from_feed
from ml_platform.sources.spec import CREATED_TIME, SourceSpec


class Source(AssetComponent):
    """A source of events, versioned by id and created time, in daily partitions."""

    spec_type = SourceSpec
    kinds = frozenset({"deltalake", "duckdb"})
    spec: SourceSpec

    def work(self, step: Step) -> Sequence[Outcome]:
        return materialize(self.spec, step)

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        return {"dagster/column_schema": column_schema(self.spec)}


def materialize(spec: SourceSpec, step: Step) -> list[Outcome]:
    """Publish the event versions of days from all that has landed; a day's refusal leaves the others alone."""
    settings: Settings = step.resources.environment
    lake = Lake(settings.lake_uri)
    _require_landed(settings, spec, lake, step)
    first, last = min(step.partitions), max(step.partitions)
    with connect(settings) as connection:
        store.stage_versions(connection, lake, spec, (first, last))
        landed = store.count_by_day(connection, "landed")
        versions = store.count_by_day(connection, "staged")
        quarantined = store.count_quarantined(connection, lake, spec)
        findings = audit(connection, "staged", spec.expectations, partitions=step.partitions)
        rows = connection.sql("SELECT * FROM staged").to_arrow_table()
    step.log.info("%s: %s versions staged for %s", spec.key, f"{rows.num_rows:,}", spans(step.partitions))
    metadata = {
        key: _counts(landed.get(key, 0), versions.get(key, 0), quarantined.get(key, 0))
        for key in step.partitions
    }
    staged = Staged(spec.key, step.partitions, rows, findings, spec.digest(), metadata)
    outcomes = publish(lake, staged, run_id=step.run_id)
    _require_accounted(spec, outcomes)
    return outcomes


def column_schema(spec: SourceSpec) -> dg.TableSchema:
    """The source's columns as Dagster shows them."""
    columns = [
        dg.TableColumn(name, column.type, description=column.description or None)
        for name, column in spec.columns.items()
    ]
    if CREATED_TIME not in spec.columns:
        columns.append(dg.TableColumn(CREATED_TIME, "timestamp", description="When the row was known."))
    return dg.TableSchema([*columns, dg.TableColumn(PARTITION_COLUMN, "date")])


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


def _counts(landed: int, versions: int, quarantined: int) -> Mapping[str, int]:
    return {
        "rows_landed": landed + quarantined,
        "rows_staged": versions,
        "rows_unchanged": landed - versions,
        "rows_quarantined": quarantined,
    }


def _require_accounted(spec: SourceSpec, outcomes: Sequence[Outcome]) -> None:
    """Rows landed = published + unchanged + quarantined + refused, or nothing can be trusted."""
    for outcome in outcomes:
        counts = outcome.metadata
        published = counts.get("dagster/partition_row_count", 0)
        refused = 0 if outcome.published else counts["rows_staged"]
        known = published + refused + counts["rows_unchanged"] + counts["rows_quarantined"]
        if known != counts["rows_landed"]:
            raise StoreError(
                f"{spec.key} [{outcome.partition}]: {counts['rows_landed']} rows landed and {known} are accounted "
                f"for ({published} published, {refused} refused, {counts['rows_unchanged']} unchanged, "
                f"{counts['rows_quarantined']} quarantined); do not use this partition, and report it"
            )
