"""Which rows break an expectation, as SQL over the rows of any number of partitions.

What is judged by values that are published elsewhere reads a temporary table of them, which `stage_references`
makes beforehand.
"""

from collections.abc import Iterable

import duckdb
from sqlglot import exp

from ml_platform.kernel.expectations import Expectation, Reference
from ml_platform.kernel.partitions import DAILY, Cadence
from ml_platform.lake import dialect
from ml_platform.lake.dialect import column, is_not_null, quoted
from ml_platform.lake.predicates import predicate
from ml_platform.lake.tables import Lake

JUDGED, _FOUND = "judged", "found"
_VALUE, _SINCE = "__value", "__since"  # no declared column has such a name


def failing_rows(
    connection: duckdb.DuckDBPyConnection, rows: str, expectation: Expectation, cadence: Cadence = DAILY
) -> duckdb.DuckDBPyRelation | None:
    """The rows of the relation named `rows` that break an expectation, each partition judged by itself.

    All that share a value where one is required to be unique, and all nulls where there are too many; None for an
    expectation that is not about single rows, such as their number. What it references has been staged on the
    connection.
    """
    broken = breaks(expectation, cadence=cadence)
    if broken is None:
        return None
    query = from_rows(rows, {0: expectation}).select(f"{JUDGED}.*")
    windowed = broken.find(exp.Window) is not None
    return connection.sql(dialect.printed(query.qualify(broken) if windowed else query.where(broken)))


def breaks(expectation: Expectation, number: int = 0, cadence: Cadence = DAILY) -> exp.Expr | None:
    """Whether a row of `from_rows` breaks an expectation, true or not; None if no single row can.

    Nothing but a missing value, and a predicate that does not say yes, is broken by null.
    """
    if expectation.sql is not None:
        return exp.not_(exp.paren(dialect.or_false(exp.paren(predicate(expectation.sql)))))
    if expectation.column is None:
        return None
    value, partition = _of_row(expectation.column), _of_row(cadence.column)
    if expectation.unique is not None:
        return _among_rows(exp.Count(this=value), partition, value.copy()) > dialect.number(1)
    if expectation.between is not None:
        return _outside(value, *expectation.between)
    if expectation.one_of is not None:
        return exp.not_(value.isin(*map(exp.convert, expectation.one_of)))
    if expectation.matches is not None:
        return exp.not_(dialect.call("regexp_full_match", value, exp.Literal.string(expectation.matches)))
    if expectation.references is not None:
        since = column(_SINCE, f"{_FOUND}{number}")
        known = dialect.or_false(exp.paren(since <= partition))
        return exp.and_(is_not_null(value), exp.not_(known))
    missing = exp.Is(this=value, expression=exp.null())
    if expectation.null_share_at_most is not None:
        nulls = _among_rows(dialect.call("count_if", missing.copy()), partition)
        share = dialect.as_double(nulls) / _among_rows(exp.Count(this=exp.Star()), partition.copy())
        allowed = dialect.as_double(exp.Literal.string(repr(expectation.null_share_at_most)))
        return exp.and_(missing, share > allowed)
    return missing


def from_rows(rows: str, expectations: dict[int, Expectation]) -> exp.Select:
    """A query over a relation's rows that selects nothing yet, with what expectations reference at their side."""
    query = exp.select().from_(dialect.table(rows, JUDGED))
    for number, expectation in expectations.items():
        reference = expectation.references
        if reference is not None and expectation.column is not None:
            found = f"{_FOUND}{number}"
            value = _of_row(expectation.column)
            mine = value if reference.asset is not None else dialect.cast(value, "VARCHAR")
            query = query.join(
                dialect.table(reference.place, found), on=mine.eq(column(_VALUE, found)), join_type="left"
            )
    return query


def stage_references(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    rows: str,
    expectations: Iterable[Expectation],
    cadence: Cadence = DAILY,
) -> None:
    """Make a temporary table for every reference: of the values in the relation named `rows`, those that exist there.

    Each comes with the first partition of the rows, which are of a cadence, in whose time it exists: rows of earlier
    ones cannot have known it. Of an asset it is what is published now.
    """
    asking: dict[Reference, list[str]] = {}
    for expectation in expectations:
        if expectation.references is not None and expectation.column is not None:
            asking.setdefault(expectation.references, []).append(expectation.column)
    for reference, columns in asking.items():
        wanted = " UNION ALL ".join(f"SELECT {quoted(name)} FROM {quoted(rows)}" for name in columns)
        given = [list(reference.values or ())] if reference.asset is None else None
        values = _values(lake, reference, wanted, cadence)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {quoted(reference.place)} AS {values}", given)


def _values(lake: Lake, reference: Reference, wanted: str, cadence: Cadence) -> str:
    """SQL of those of the wanted values that exist, and since when; a file's have been there always."""
    if reference.asset is None:
        always = _since("DATE '0001-01-01'", DAILY, cadence)
        return f"SELECT unnest($1::VARCHAR[]) AS {_VALUE}, {always} AS {_SINCE}"
    table, name = lake.table(reference.asset), quoted(reference.column)
    if table.version() is None:
        return f"SELECT CAST(NULL AS VARCHAR) AS {_VALUE}, CAST(NULL AS DATE) AS {_SINCE} WHERE false"
    found = table.at()
    since = _since(f"min({found.cadence.column})", found.cadence, cadence)
    return (
        f"SELECT {name} AS {_VALUE}, {since} AS {_SINCE} "
        f"FROM ({found.scan()}) WHERE {name} IN ({wanted}) GROUP BY 1"
    )


def _since(first: str, found: Cadence, judged: Cadence) -> str:
    """SQL of the first partition of one cadence that shares time with a partition of another, or of the same."""
    if found == judged:
        return first
    return f"CAST(left({first}, 10) AS DATE)" if judged == DAILY else f"CAST({first} AS VARCHAR) || '-00:00'"


def _outside(value: exp.Expr, low: float | None, high: float | None) -> exp.Expr:
    """Whether a number is outside of bounds; one that is none (NaN), which the engine has above all others, is."""
    infinity = dialect.as_double(exp.Literal.string("Infinity"))
    above = value > (exp.convert(high) if high is not None else infinity)
    return above if low is None else exp.or_(value.copy() < exp.convert(low), above)


def _of_row(name: str) -> exp.Column:
    return column(name, JUDGED)


def _among_rows(aggregate: exp.Expr, partition: exp.Expr, *alike: exp.Expr) -> exp.Expr:
    """An aggregate over the rows of a row's partition, of those that are alike in some values."""
    return exp.Window(this=aggregate, partition_by=[partition, *alike], over="OVER")
