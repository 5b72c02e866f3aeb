"""Refuses, when definitions load, expectations that no partition could be judged by.

The engine itself judges one row without values, so whatever it does not know (a function, a regular expression, a
comparison of a text with a number) is found where it was written, and not in the night's run.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from functools import cache

import duckdb

from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.expectations import Expectation, Reference
from ml_platform.kernel.lineage import Upstream
from ml_platform.kernel.partitions import DAILY, ONE_DAY, ONE_HOUR
from ml_platform.lake import dialect
from ml_platform.lake.broken_rows import breaks, from_rows
from ml_platform.lake.engine import small_questions
from ml_platform.lake.predicates import check_predicate, predicate
from ml_platform.lake.schemas import ENGINE_TYPES, typed_nulls

_NUMBERS = ("int64", "int32", "double", "float")
_NO_VALUES = "no_values"


def check_expectations(
    expectations: Sequence[Expectation], *, columns: Mapping[str, str], owner: str
) -> None:
    """Raise DeclarationError for the first expectation that rows of declared columns and types cannot be judged by.

    `owner` says whose they are, with the way to them: `FeatureView 'risk': `, or nothing where that is known.
    """
    for number, expectation in enumerate(expectations):
        _check_columns(expectation, columns, f"{owner}expectations.{number}")
    if problem := _first_problem(tuple(expectations), tuple(columns.items())):
        number, why = problem
        raise DeclarationError(
            f"{owner}expectations.{number}: a condition that rows can be judged by is required; {why}"
        )


def references_of(
    expectations: Sequence[Expectation],
    *,
    key: str,
    types: Mapping[str, str],
    find: Callable[[Reference, str], tuple[Mapping[str, str], dt.timedelta]],
    owner: str,
) -> tuple[Upstream, ...]:
    """The assets that the expectations of an asset reference; DeclarationError for one that cannot be asked.

    `types` are those of the asset's own columns. `find` gives the columns of what is referenced, and how long
    after the asset's its partitions are complete; it is told for whom it asks.
    """
    found: dict[str, Upstream] = {}
    for number, expectation in enumerate(expectations):
        reference, where = expectation.references, f"{owner}expectations.{number}.references"
        if reference is None or reference.asset is None:
            continue
        if reference.asset == key:
            raise DeclarationError(f"{where} must name something else than {key} itself")
        columns, late = find(reference, where)
        _check_reference(reference, types[str(expectation.column)], columns, late, where)
        found[reference.asset] = Upstream(reference.asset, keys=(reference.column,))
    return tuple(found.values())


def _check_reference(
    reference: Reference, kind: str, columns: Mapping[str, str], late: dt.timedelta, where: str
) -> None:
    """Raise DeclarationError for a reference to a column that is not there, of another type, or known too late."""
    asset, name = reference.asset, reference.column
    if name not in columns:
        raise DeclarationError(
            f"{where}.column must be one of {sorted(columns)}, those of {asset}; got {name!r}"
        )
    if columns[name] != kind:
        raise DeclarationError(
            f"{where} needs values of one type: the column is a {kind}, and {reference.place} is a {columns[name]}"
        )
    if late > dt.timedelta(0):
        unit, count = ("days", late // ONE_DAY) if not late % ONE_DAY else ("hours", late // ONE_HOUR)
        raise DeclarationError(
            f"{where} must be complete when the partition is; days of {asset} are complete {count} {unit} later. "
            f"Declare the expectation there, the other way round"
        )


def _check_columns(expectation: Expectation, columns: Mapping[str, str], where: str) -> None:
    name, reference = expectation.column, expectation.references
    if expectation.sql is not None:
        check_predicate(expectation.sql, columns=list(columns), owner=where)
    elif name is not None and name not in columns:
        raise DeclarationError(f"{where}.column must be one of {sorted(columns)}; got {name!r}")
    if expectation.between is not None and name is not None and columns[name] not in _NUMBERS:
        raise DeclarationError(
            f"{where}: between is for numbers; {name!r} is a {columns[name]}; write it as `sql:`"
        )
    values = expectation.one_of or ()
    if name is not None and columns[name] == "string" and not all(isinstance(value, str) for value in values):
        raise DeclarationError(
            f"{where}.one_of: {name!r} is a string, so texts are required; got {list(values)}"
        )
    if reference is not None and reference.file is not None and reference.values is None:
        raise DeclarationError(
            f"{where}.references.file: {reference.file!r} is read when a declaration is loaded from its folder; in "
            f"Python, list the values with one_of"
        )


@cache
def _first_problem(
    expectations: tuple[Expectation, ...], columns: tuple[tuple[str, str], ...]
) -> tuple[int, str] | None:
    """The first expectation that the engine cannot judge a row of columns of declared types by, and why."""
    if not any(breaks(expectation) for expectation in expectations):
        return None
    kinds = {name: ENGINE_TYPES[kind] for name, kind in columns} | {
        DAILY.column: ENGINE_TYPES[DAILY.column_type]
    }
    with small_questions() as connection:
        connection.execute(f"CREATE TEMP TABLE {_NO_VALUES} AS {typed_nulls(kinds)}")
        for number, expectation in enumerate(expectations):
            try:
                kind = _type_of(connection, expectation)
            except duckdb.Error as err:
                return number, str(err).splitlines()[0]
            if kind != "BOOLEAN":
                return number, f"{expectation.sql!r} is a {kind}, not true or false"
    return None


def _type_of(connection: duckdb.DuckDBPyConnection, expectation: Expectation) -> str:
    """The type of an expectation's condition over the row without values; duckdb.Error when it has none."""
    broken = breaks(expectation)
    if broken is None or expectation.references is not None:
        return "BOOLEAN"
    condition = predicate(expectation.sql) if expectation.sql is not None else broken
    query = from_rows(_NO_VALUES, {0: expectation}).select(broken, dialect.call("typeof", condition))
    ((_, kind),) = connection.execute(dialect.printed(query)).fetchall()
    return kind
