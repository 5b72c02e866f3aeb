"""Computes a view's rows for a range of partitions, in one pass; nothing is published.

A view's query names relations, not files; here the relations are made, of the partitions and columns that are read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import duckdb
import pyarrow as pa

from ml_platform.features import handwritten
from ml_platform.features.compute import OTHER_TIME, WindowQuery
from ml_platform.features.known_at import prompt_sql
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.view_query import view_sql
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import Range, complete_at, start_of, within
from ml_platform.lake.dialect import quoted
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.known_keys import KeyHistory, first_rows, key_history
from ml_platform.lake.schemas import columns_of, differences
from ml_platform.lake.snapshots import Snapshot
from ml_platform.lake.tables import Lake
from ml_platform.sources.casts import accepts
from ml_platform.sources.compute import nothing_sql
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

_TIMES = (EVENT_TIME, CREATED_TIME)


@dataclass(frozen=True)
class _Read:
    """Partitions of a source in one version of its table; neither where none is read."""

    source: SourceSpec
    keys: Range | None
    table: Snapshot | None

    def select(self, columns: Collection[str] | None) -> str:
        """SQL of the rows of these partitions: of some columns, or of all."""
        chosen = ", ".join(quoted(name) for name in sorted(columns)) if columns is not None else "*"
        if self.table is None or self.keys is None:
            rows = nothing_sql(self.source)
        else:
            rows = self.table.scan(where=within(self.keys))
        return f"SELECT {chosen} FROM ({rows})"


def stage_rows(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    inputs: Inputs,
    partitions: Sequence[str],
) -> dict[str, KeyHistory]:
    """Make the temporary table `staged`: the view's rows of contiguous partitions, by partition and keys.

    Everything that they read has a published version. Raises InputError for a value that is out of range. Returns
    the history of the keys that have rows, by their source; of none if rows are events.
    """
    into = "CREATE OR REPLACE TEMP TABLE staged AS"
    with _telling_values(spec):
        for rows in _statements(connection, spec, catalog, inputs, sorted(partitions)):
            connection.execute(f"{into} {rows}")
            into = "INSERT INTO staged"
    source, _ = spec.sources(catalog)
    if not _has_keys(spec):
        return {}
    return {
        source.key: key_history(
            lambda query: connection.execute(query).fetchall(),
            f"FROM {quoted(_keys(source))}",
            spec.entity_keys,
            source.cadence,
        )
    }


def schema_differences(
    connection: duckdb.DuckDBPyConnection, rows: str, spec: FeatureViewSpec, catalog: Catalog
) -> list[str]:
    """In what the columns of a relation of rows differ from those declared; of SQL by hand, those that it returns.

    The rows of such a view have the declared types already, whatever was lost on the way to them.
    """
    if spec.sql is None:
        cadence = spec.cadence(catalog)
        declared = {**spec.row_types(catalog), cadence.column: cadence.column_type}
        return differences(columns_of(connection, f"FROM {rows}"), declared)
    source, _ = spec.sources(catalog)
    declared = {**{key: source.columns[key].type for key in spec.entity_keys}, **spec.columns}
    return differences(handwritten.returned(spec, catalog), declared, accepts=accepts)


def row_table(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    inputs: Inputs,
    partitions: Sequence[str],
) -> pa.Table:
    """What `stage_rows` stages, in memory."""
    with _telling_values(spec):
        statements = _statements(connection, spec, catalog, inputs, sorted(partitions))
        return pa.concat_tables([connection.sql(rows).to_arrow_table() for rows in statements])


def _statements(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    inputs: Inputs,
    partitions: Sequence[str],
) -> list[str]:
    """SQL of the rows in their order: one query, or one for each partition if somebody wrote it by hand."""
    keys = (partitions[0], partitions[-1])
    reads = _reads(spec, catalog, inputs.lake, keys)
    relations = _relations(spec, catalog, reads)
    if _has_keys(spec):
        _stage_keys(connection, spec, reads[0], keys)
    if spec.sql is not None:
        order = ", ".join([spec.cadence(catalog).column, *map(quoted, spec.row_key(catalog))])
        found = [handwritten.partition_sql(spec, catalog, partition) for partition in partitions]
        return [f"{_reading(relations, rows)} ORDER BY {order}" for rows in found]
    query = _from_ledger(window_query(spec, catalog, keys), reads, inputs)
    if not query.prompt:
        answers = (connection.execute(_reading(relations, sql)).fetchall() for sql in prompt_sql(query))
        query = replace(query, prompt=all(answer[0][0] for answer in answers))
    return [_reading(relations, view_sql(query))]


def _reading(relations: Mapping[str, str], query: str) -> str:
    """A query with the relations that it names."""
    named = ", ".join(f"{quoted(name)} AS ({select})" for name, select in relations.items())
    return f"WITH {named} SELECT * FROM ({query})"


def _from_ledger(query: WindowQuery, reads: Sequence[_Read], inputs: Inputs) -> WindowQuery:
    """The query with what the ledger alone says: every id has one version, known before any row that counts it.

    It says so where all rows of all that is read became known equally long after their events.
    """
    lags = [
        inputs.lags(read.source.key, read.table.version, read.keys)
        if read.table is not None and read.keys is not None
        else {None}
        for read in reads
    ]
    for stream, found in zip(query.streams_read, lags, strict=False):
        if len(found) != 1 or any(lag is None or lag > query.reach(stream).nearest for lag in found):
            return query
    return replace(query, prompt=True, at_once=all(lag is not None and lag <= 0 for lag in lags[0]))


def query_text(spec: FeatureViewSpec, catalog: Catalog, keys: Range, *, prompt: bool) -> str:
    """The SQL that computes a range of partitions, of a view by hand only its first one's; no data is looked at."""
    if spec.sql is not None:
        return handwritten.partition_sql(spec, catalog, keys[0])
    return view_sql(replace(window_query(spec, catalog, keys), prompt=prompt))


def window_query(spec: FeatureViewSpec, catalog: Catalog, keys: Range) -> WindowQuery:
    """The query of a view of aggregations for a range of partitions, over relations named as their assets."""
    source, labels = spec.sources(catalog)
    return WindowQuery(
        entity_keys=spec.entity_keys,
        event_id=source.event_id,
        accuracy=spec.accuracy,
        aggregates=tuple(spec.aggregates(catalog)),
        ratios=spec.ratios,
        events=source.key,
        labels=labels.key if labels is not None else None,
        keys=_keys(source),
        first=since_epoch(start_of(keys[0])),
        last=since_epoch(complete_at(keys[1])),
        cadence=source.cadence,
    )


def _reads(spec: FeatureViewSpec, catalog: Catalog, lake: Lake, keys: Range) -> list[_Read]:
    """What some partitions of a view read of its events, and of their labels if it declares any."""
    read = catalog.lineage.direct_partitions(spec.key, keys)
    found: list[_Read] = []
    for source in spec.sources(catalog):
        if source is not None:
            table = lake.table(source.key).at() if source.key in read else None
            found.append(_Read(source, read.get(source.key), table))
    return found


def _relations(spec: FeatureViewSpec, catalog: Catalog, reads: Sequence[_Read]) -> dict[str, str]:
    """SQL of published versions that are read, by the names that the view's query has for them."""
    columns = _columns_read(spec, catalog)
    return {read.source.key: read.select(columns.get(read.source.key)) for read in reads}


def _has_keys(spec: FeatureViewSpec) -> bool:
    """Whether the view's query asks for the keys of all history, beside what windows reach."""
    return spec.sql is None and spec.accuracy == "snapshot"


def _stage_keys(
    connection: duckdb.DuckDBPyConnection, spec: FeatureViewSpec, events: _Read, keys: Range
) -> None:
    """Make the temporary table of the keys that have rows."""
    first, _ = events.source.cadence.of_days(events.source.start, events.source.start)
    rows = (
        nothing_sql(events.source)
        if events.table is None
        else first_rows(events.table, spec.entity_keys, first, keys)
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(_keys(events.source))} AS {rows}")


def _columns_read(spec: FeatureViewSpec, catalog: Catalog) -> dict[str, set[str]]:
    """The columns of each source that aggregates need; a view by hand may read any."""
    if spec.sql is not None:
        return {}
    source, labels = spec.sources(catalog)
    aggregates = spec.aggregates(catalog)
    taken = {stream: {a.column for a in aggregates if a.stream == stream} for stream in ("events", "labels")}
    conditions = {name for a in aggregates for name in a.condition_columns}
    found = {source.key: {source.event_id, *spec.entity_keys, *_TIMES, *taken["events"], *conditions}}
    if labels is not None:
        found[labels.key] = {labels.event_id, *_TIMES, *taken["labels"]}
    return found


def _keys(source: SourceSpec) -> str:
    return f"{source.key}, all days"


@contextmanager
def _telling_values(spec: FeatureViewSpec) -> Iterator[None]:
    """Tell of a value that no feature can hold, and of a label at another time than its event, as an InputError."""
    try:
        yield
    except duckdb.InvalidInputException as err:
        if OTHER_TIME not in str(err):
            raise
        raise InputError(
            f"{spec.key}: {OTHER_TIME}{str(err).split(OTHER_TIME)[1].splitlines()[0]}. Nothing was published; give "
            f"labels the event time of their events in source {spec.labels!r}: when a label was known is its "
            f"{CREATED_TIME}"
        ) from err
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as err:
        raise InputError(
            f"{spec.key}: numbers within the bounds of their source, and below nine billion, are required in what "
            f"is aggregated; {str(err).splitlines()[0]}. Nothing was published; bound the column with `minimum:` "
            f"and `maximum:` in the source, so that such rows are quarantined, or leave them out with `where:`"
        ) from err
