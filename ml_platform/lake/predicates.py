"""Predicates that declarations are written with: SQL over one row, checked when it is read and not when it runs."""

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.errors import ParseError

from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.dialect import parsed

_OF_NO_ROW = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.Rand, exp.Uuid)
_OF_NO_ROW_BY_NAME = frozenset({"now", "today", "random", "setseed", "get_current_timestamp", "uuid"})


def check_predicate(text: str, *, columns: Sequence[str], owner: str) -> None:
    """Raise DeclarationError when a declared predicate does not parse, or reads a column that is not there."""
    unknown = sorted(set(predicate_columns(text, owner=owner)) - set(columns))
    if unknown:
        raise DeclarationError(f"{owner} may read {', '.join(columns)}; {text!r} reads {unknown}")


def predicate_columns(text: str, *, owner: str = "a predicate") -> list[str]:
    """The columns that a declared predicate reads."""
    found = predicate(text, owner=owner).find_all(exp.Column)
    return list(dict.fromkeys(one.name for one in found))


def predicate(text: str, *, owner: str = "a predicate") -> exp.Expr:
    """A declared SQL predicate over one row; DeclarationError when it does not parse as one."""
    try:
        found = parsed(text)
    except ParseError as err:
        raise DeclarationError(
            f"{owner}: a SQL predicate over one row is required; {text!r} does not parse: {err}"
        ) from err
    if isinstance(found, exp.Query) or found.find(exp.AggFunc, exp.Window, exp.Query):
        raise DeclarationError(
            f"{owner}: a SQL predicate over one row is required; {text!r} reads more than one"
        )
    if function := of_no_row(found):
        raise DeclarationError(
            f"{owner}: a SQL predicate over one row is required, which says the same whenever it is asked; "
            f"{text!r} has {function}"
        )
    return found


def of_no_row(expression: exp.Expr) -> str | None:
    """The first function of an expression whose value follows from no row, such as the clock; None if there is none."""
    for function in expression.find_all(exp.Func):
        named = isinstance(function, exp.Anonymous) and function.name.lower() in _OF_NO_ROW_BY_NAME
        if named or isinstance(function, _OF_NO_ROW):
            return function.sql("duckdb")
    return None
