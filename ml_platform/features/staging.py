"""Computes a view's rows for a range of days into the temporary table `staged`: one pass, nothing published.

A view's query names relations, not files; here the relations are made, of the days and columns that are read.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import duckdb

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
from ml_platform.lake.tables import Lake, scan_sql
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

_MARGIN = dt.timedelta(milliseconds=2)  # the lake's log has the times of a file to the millisecond


def stage_rows(
    connection: duckdb.DuckDBPyConnection,
    spec: FeatureViewSpec,
    catalog: Catalog,
    lake: Lake,
    partitions: Sequence[str],
) -> None:
    """Make the temporary table `staged`: the view's rows of contiguous partitions, by partition and key.

    Every day that they read has a published version. Raises InputError for a value that is out of range.
    """
    days = (min(partitions), max(partitions))
    for name, select in relations(spec, catalog, lake, days).items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {quoted(name)} AS {select}")
    order = ", ".join([PARTITION_COLUMN, *map(quoted, spec.row_key(catalog))])
    into = "CREATE OR REPLACE TEMP TABLE staged AS"
    with _telling_values(spec):
        for rows in _statements(connection, spec, catalog, sorted(partitions)):
            connection.execute(f"{into} SELECT * FROM ({rows}) ORDER BY {order}")
            into = "INSERT INTO staged"


def _statements(
    connection: duckdb.DuckDBPyConnection, spec: FeatureViewSpec, catalog: Catalog, partitions: Sequence[str]
) -> list[str]:
    """SQL of all rows of the partitions: one query, or one for each partition if somebody wrote it by hand."""
    if spec.sql is not None:
        return [handwritten.partition_sql(spec, catalog, partition) for partition in partitions]
    query = window_query(spec, catalog, (partitions[0], partitions[-1]))
    prompt = all(connection.execute(sql).fetchall()[0][0] for sql in prompt_sql(query))
    return [view_sql(replace(query, prompt=prompt))]


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


def relations(spec: FeatureViewSpec, catalog: Catalog, lake: Lake, days: tuple[str, str]) -> dict[str, str]:
    """SQL of every relation that the view's query reads, by its name there: published versions of some days."""
    source, labels = spec.sources(catalog)
    if spec.sql is not None:
        found = [source, *([labels] if labels is not None else [])]
        return {s.key: _scan(lake, s, None, _days_read(spec, catalog, s, days)) for s in found}
    aggregates = spec.aggregates(catalog)
    conditions = {name for a in aggregates for name in a.condition_columns}
    events = {a.column for a in aggregates if a.stream == "events"} | conditions
    own = {source.event_id, spec.entity_key, EVENT_TIME, CREATED_TIME}
    selects = {source.key: _scan(lake, source, own | events, _days_read(spec, catalog, source, days))}
    if labels is not None:
        columns = {a.column for a in aggregates if a.stream == "labels"}
        taken = {labels.event_id, EVENT_TIME, CREATED_TIME} | columns
        selects[labels.key] = _scan(lake, labels, taken, _days_read(spec, catalog, labels, days))
    if spec.accuracy == "snapshot":
        selects[_keys(source)] = _all_days(spec, lake, source, days)
    return selects


def _days_read(
    spec: FeatureViewSpec, catalog: Catalog, source: SourceSpec, days: tuple[str, str]
) -> tuple[str, str]:
    """First and last day of a source that the windows of some days reach."""
    read = catalog.lineage.direct_days(spec.key, (day(days[0]), day(days[1])))
    first, last = read.get(source.key, (source.start, source.start - ONE_DAY))
    return key_of(first), key_of(last)


def _scan(lake: Lake, source: SourceSpec, columns: set[str] | None, days: tuple[str, str]) -> str:
    where = [(PARTITION_COLUMN, ">=", days[0]), (PARTITION_COLUMN, "<=", days[1])]
    chosen = ", ".join(quoted(name) for name in sorted(columns)) if columns is not None else "*"
    return f"SELECT {chosen} FROM ({lake.table(source.key).scan(where=where)})"


def _all_days(spec: FeatureViewSpec, lake: Lake, source: SourceSpec, days: tuple[str, str]) -> str:
    """SQL of the keys of all history, with both times, which are not read where they do not matter.

    They do not where a whole file was known before the first midnight: its keys have a row at every midnight.
    """
    midnight = complete_at(days[0])
    where = [(PARTITION_COLUMN, ">=", key_of(source.start)), (PARTITION_COLUMN, "<=", days[1])]
    table = lake.table(source.key)
    newest = table.newest_of_files(CREATED_TIME, where=where)
    known = [file for file, time in newest.items() if time is not None and time < midnight - _MARGIN]
    key = quoted(spec.entity_key)
    since = f"TIMESTAMPTZ '{midnight - _MARGIN}'"
    files = scan_sql(table.uri, files=known)
    settled = f"SELECT DISTINCT {key}, {since} AS {EVENT_TIME}, {since} AS {CREATED_TIME} FROM ({files})"
    others = scan_sql(table.uri, files=[file for file in newest if file not in set(known)])
    return f"{settled} UNION ALL SELECT {key}, {EVENT_TIME}, {CREATED_TIME} FROM ({others})"


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
