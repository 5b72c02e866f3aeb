"""Views whose rows are computed by SQL that somebody wrote, one statement for each partition.

The statement reads relations named as the sources, in which every event stands once, as it was known when the
partition was complete, and returns the join keys and the declared features. `{{ partition_start }}` and
`{{ partition_end }}` are the times between which the partition lies: of a day, two midnights.
"""

import duckdb
import sqlglot
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from sqlglot import exp
from sqlglot.errors import ParseError

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.partitions import cadence_of, complete_at, start_of
from ml_platform.lake import dialect
from ml_platform.lake.dialect import column
from ml_platform.lake.engine import database
from ml_platform.lake.predicates import of_no_row
from ml_platform.lake.schemas import ENGINE_TYPES, columns_of
from ml_platform.sources.compute import latest_versions_sql, nothing_sql
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec


def partition_sql(spec: FeatureViewSpec, catalog: Catalog, partition: str) -> str:
    """SQL of one partition's rows, in no order: keys, both times, features, partition.

    It reads relations named as the sources' assets, which hold all versions of what the view reaches.
    """
    end = dialect.timestamp(complete_at(partition))
    values = [dialect.cast(column(name), ENGINE_TYPES[kind]).as_(name) for name, kind in spec.columns.items()]
    times = [end.as_(EVENT_TIME), end.copy().as_(CREATED_TIME)]
    cadence = cadence_of(partition)
    own = dialect.cast(exp.Literal.string(partition), ENGINE_TYPES[cadence.column_type]).as_(cadence.column)
    select = exp.select(*map(column, spec.entity_keys), *times, *values, own)
    return dialect.printed(_from_statement(select, spec, catalog, partition))


def returned(spec: FeatureViewSpec, catalog: Catalog) -> dict[str, str]:
    """The columns that the statement returns, in the engine's types, before they become the declared ones.

    The engine reads the statement and no data. Raises DeclarationError for one that the engine does not understand,
    and for declared columns that it does not return.
    """
    where, (first, _) = f"FeatureView {spec.name!r}: sql", spec.sources(catalog)
    partition, _ = first.cadence.of_days(first.start, first.start)
    query = dialect.printed(_from_statement(exp.select("*"), spec, catalog, partition))
    relations = [
        f"{dialect.quoted(source.key)} AS ({nothing_sql(source)})"
        for source in spec.sources(catalog)
        if source is not None
    ]
    try:
        with database(threads=1) as connection:
            found = columns_of(connection, f"WITH {', '.join(relations)} SELECT * FROM ({query})")
    except duckdb.Error as err:
        raise DeclarationError(
            f"{where} must be one SELECT statement over its sources; {str(err).splitlines()[0]}"
        ) from err
    wanted = [*spec.entity_keys, *spec.columns]
    if missing := sorted(set(wanted) - set(found)):
        raise DeclarationError(f"{where} must return {', '.join(wanted)}; missing: {missing}")
    return found


def _from_statement(
    select: exp.Select, spec: FeatureViewSpec, catalog: Catalog, partition: str
) -> exp.Select:
    """What is selected of the view's own statement, over the sources as they were known."""
    select = select.from_(statement(spec, catalog, partition).subquery("computed"))
    for source in spec.sources(catalog):
        if source is not None:
            select = select.with_(source.name, as_=_known(spec, source, partition), dialect="duckdb")
    return select


def statement(spec: FeatureViewSpec, catalog: Catalog, partition: str) -> exp.Select:
    """The view's own statement for a partition; DeclarationError for one that no partition can be made by."""
    ends = {"partition_start": start_of(partition), "partition_end": complete_at(partition)}
    literals = {name: dialect.timestamp(time).sql("duckdb") for name, time in ends.items()}
    where = f"FeatureView {spec.name!r}: sql"
    try:
        text = SandboxedEnvironment(undefined=StrictUndefined).from_string(spec.sql or "").render(literals)
        found = sqlglot.parse_one(text, dialect="duckdb")
    except (TemplateError, ParseError) as err:
        raise DeclarationError(
            f"{where} must be one SELECT statement with {{{{ partition_start }}}} and {{{{ partition_end }}}} as its "
            f"only parameters; {err}"
        ) from err
    if not isinstance(found, exp.Select):
        raise DeclarationError(f"{where} must be one SELECT statement; got {found.key.upper()}")
    _check(spec, catalog, found, where)
    return found


def _check(spec: FeatureViewSpec, catalog: Catalog, found: exp.Select, where: str) -> None:
    """Raise DeclarationError for a statement that reads or returns something else than the view says."""
    allowed = {source.name for source in spec.sources(catalog) if source is not None}
    steps = {step.alias for step in found.find_all(exp.CTE)}
    unknown = sorted({one.name for one in found.find_all(exp.Table)} - allowed - steps)
    if unknown:
        raise DeclarationError(f"{where} may read {', '.join(sorted(allowed))}; it reads {unknown}")
    if function := of_no_row(found):
        raise DeclarationError(
            f"{where} must follow from the events alone, or a partition made again has other rows; it has "
            f"{function}; use {{{{ partition_end }}}}"
        )
    wanted = {*spec.entity_keys, *spec.columns}
    returned = set(found.named_selects)
    if not found.is_star and returned != wanted:
        raise DeclarationError(
            f"{where} must return {', '.join(sorted(wanted))}; missing: {sorted(wanted - returned) or 'none'}, "
            f"unknown: {sorted(returned - wanted) or 'none'}"
        )


def _known(spec: FeatureViewSpec, source: SourceSpec, partition: str) -> str:
    """SQL of a source's events as they were known when the partition was complete, one row each."""
    end = complete_at(partition)
    since = end - spec.look_back.timedelta() if spec.look_back is not None else end
    versions = dialect.table(source.key).sql("duckdb")
    newest = latest_versions_sql(source, f"SELECT * FROM {versions}", known_by=end.isoformat())
    inside = exp.and_(
        column(EVENT_TIME) >= dialect.timestamp(since), column(EVENT_TIME) < dialect.timestamp(end)
    )
    return f"SELECT * FROM ({newest}) WHERE {inside.sql('duckdb')}"
