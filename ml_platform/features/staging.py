"""Computes a view's rows for a range of days, in one pass; nothing is published.

A view's query names relations, not files; here the relations are made, of the days and columns that are read.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import duckdb
import pyarrow as pa

from ml_platform.features import handwritten
from ml_platform.features.compute import WindowQuery
from ml_platform.features.known_at import prompt_sql
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.view_query import view_sql
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import ONE_DAY, PARTITION_COLUMN, complete_at, day, key_of
from ml_platform.lake.dialect import quoted
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.snapshots import PartitionFilter, Snapshot
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

_TIMES = (EVENT_TIME, CREATED_TIME)
_MARGIN = dt.timedelta(milliseconds=2)  # the lake's log has the times of a file to the millisecond


def stage_rows(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    inputs: Inputs,
    partitions: Sequence[str],
) -> None:
    """Make the temporary table `staged`: the view's rows of contiguous partitions, by partition and key.

    Every day that they read has a published version. Raises InputError for a value that is out of range.
    """
    into = "CREATE OR REPLACE TEMP TABLE staged AS"
    with _telling_values(spec):
        for rows in _statements(connection, spec, catalog, inputs, sorted(partitions)):
            connection.execute(f"{into} {rows}")
            into = "INSERT INTO staged"


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
    days = (partitions[0], partitions[-1])
    opened = {source.key: inputs.lake.table(source.key).at() for source in _sources(spec, catalog)}
    relations = _relations(spec, catalog, opened, days)
    if spec.sql is not None:
        found = [handwritten.partition_sql(spec, catalog, partition) for partition in partitions]
    else:
        query = window_query(spec, catalog, days)
        prompt = _known_prompt(query, spec, catalog, inputs, opened, days) or all(
            connection.execute(_reading(relations, sql)).fetchall()[0][0] for sql in prompt_sql(query)
        )
        found = [view_sql(replace(query, prompt=prompt))]
    order = ", ".join([PARTITION_COLUMN, *map(quoted, spec.row_key(catalog))])
    return [f"{_reading(relations, rows)} ORDER BY {order}" for rows in found]


def _reading(relations: Mapping[str, str], query: str) -> str:
    """A query with the relations that it names."""
    named = ", ".join(f"{quoted(name)} AS ({select})" for name, select in relations.items())
    return f"WITH {named} SELECT * FROM ({query})"


def _known_prompt(
    query: WindowQuery,
    spec: FeatureViewSpec,
    catalog: Catalog,
    inputs: Inputs,
    opened: Mapping[str, Snapshot],
    days: tuple[str, str],
) -> bool:
    """Whether the ledger alone says that every id has one version, known before any row that counts it.

    It does where all rows of all days that are read became known equally long after their events.
    """
    for stream, source in zip(query.streams_read, _sources(spec, catalog), strict=False):
        lags = inputs.lags(source.key, opened[source.key].version, _days_read(spec, catalog, source, days))
        if len(lags) != 1 or any(lag is None or lag > query.reach(stream).nearest for lag in lags):
            return False
    return True


def query_text(spec: FeatureViewSpec, catalog: Catalog, days: tuple[str, str], *, prompt: bool) -> str:
    """The SQL that computes a range of days, of a view by hand only its first day's; no data is looked at."""
    if spec.sql is not None:
        return handwritten.partition_sql(spec, catalog, days[0])
    return view_sql(replace(window_query(spec, catalog, days), prompt=prompt))


def window_query(spec: FeatureViewSpec, catalog: Catalog, days: tuple[str, str]) -> WindowQuery:
    """The query of a view of aggregations for days from first to last, over relations named as their assets."""
    source, labels = spec.sources(catalog)
    return WindowQuery(
        entity_key=spec.entity_key,
        event_id=source.event_id,
        accuracy=spec.accuracy,
        aggregates=tuple(spec.aggregates(catalog)),
        ratios=spec.ratios,
        events=source.key,
        labels=labels.key if labels is not None else None,
        keys=_keys(source),
        first=since_epoch(complete_at(key_of(day(days[0]) - ONE_DAY))),
        last=since_epoch(complete_at(days[1])),
    )


def _sources(spec: FeatureViewSpec, catalog: Catalog) -> list[SourceSpec]:
    """The view's events, and their labels if it declares any."""
    return [source for source in spec.sources(catalog) if source is not None]


def _relations(
    spec: FeatureViewSpec, catalog: Catalog, opened: Mapping[str, Snapshot], days: tuple[str, str]
) -> dict[str, str]:
    """SQL of every relation that the view's query reads, by its name there: published versions of some days."""
    source, *_ = sources = _sources(spec, catalog)
    columns = _columns_read(spec, catalog)
    selects = {
        s.key: _scan(opened[s.key], _days_read(spec, catalog, s, days), columns.get(s.key)) for s in sources
    }
    if spec.sql is None and spec.accuracy == "snapshot":
        selects[_keys(source)] = _all_days(opened[source.key], source, spec.entity_key, days)
    return selects


def _columns_read(spec: FeatureViewSpec, catalog: Catalog) -> dict[str, set[str]]:
    """The columns of each source that aggregates need; a view by hand may read any."""
    if spec.sql is not None:
        return {}
    source, labels = spec.sources(catalog)
    aggregates = spec.aggregates(catalog)
    taken = {stream: {a.column for a in aggregates if a.stream == stream} for stream in ("events", "labels")}
    conditions = {name for a in aggregates for name in a.condition_columns}
    found = {source.key: {source.event_id, spec.entity_key, *_TIMES, *taken["events"], *conditions}}
    if labels is not None:
        found[labels.key] = {labels.event_id, *_TIMES, *taken["labels"]}
    return found


def _days_read(
    spec: FeatureViewSpec, catalog: Catalog, source: SourceSpec, days: tuple[str, str]
) -> tuple[str, str]:
    """First and last day of a source that the windows of some days reach."""
    read = catalog.lineage.direct_days(spec.key, (day(days[0]), day(days[1])))
    first, last = read.get(source.key, (source.start, source.start - ONE_DAY))
    return key_of(first), key_of(last)


def _scan(table: Snapshot, days: tuple[str, str], columns: set[str] | None) -> str:
    chosen = ", ".join(quoted(name) for name in sorted(columns)) if columns is not None else "*"
    return f"SELECT {chosen} FROM ({table.scan(where=_within(*days))})"


def _all_days(table: Snapshot, source: SourceSpec, entity_key: str, days: tuple[str, str]) -> str:
    """SQL of the keys of all history, with both times, which are not read where they do not matter.

    They do not where a whole file is of a day before the first midnight and was known before it: its keys have a
    row at every midnight.
    """
    midnight = complete_at(days[0])
    newest = table.newest_of_files(CREATED_TIME, _within(key_of(source.start), days[0]))
    known = {file for file, time in newest.items() if time is not None and time < midnight - _MARGIN}
    every = table.files(_within(key_of(source.start), days[1]))
    key = quoted(entity_key)
    since = f"TIMESTAMPTZ '{midnight - _MARGIN}'"
    settled = f"SELECT {key}, {since} AS {EVENT_TIME}, {since} AS {CREATED_TIME}"
    others = table.scan([file for file in every if file not in known])
    return (
        f"{settled} FROM (SELECT DISTINCT {key} FROM ({table.scan(sorted(known))})) "
        f"UNION ALL SELECT {key}, {EVENT_TIME}, {CREATED_TIME} FROM ({others})"
    )


def _within(first: str, last: str) -> list[PartitionFilter]:
    return [(PARTITION_COLUMN, ">=", first), (PARTITION_COLUMN, "<=", last)]


def _keys(source: SourceSpec) -> str:
    return f"{source.key}, all days"


@contextmanager
def _telling_values(spec: FeatureViewSpec) -> Iterator[None]:
    """Tell of a value that no feature can hold as an InputError."""
    try:
        yield
    except (duckdb.ConversionException, duckdb.OutOfRangeException) as err:
        raise InputError(
            f"{spec.key}: numbers within the bounds of their source, and below nine billion, are required in what "
            f"is aggregated; {str(err).splitlines()[0]}. Nothing was published; bound the column with `minimum:` "
            f"and `maximum:` in the source, so that such rows are quarantined, or leave them out with `where:`"
        ) from err
