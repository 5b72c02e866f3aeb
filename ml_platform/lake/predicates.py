"""Predicates that declarations are written with: SQL over one row, checked when it is read and not when it runs."""

from collections.abc import Sequence

from sqlglot import exp
from sqlglot.errors import ParseError

from ml_platform.kernel.errors import DeclarationError
from ml_platform.lake.dialect import parsed


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
    return found
