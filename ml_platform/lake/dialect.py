"""The SQL dialect: what engines spell differently, as sqlglot expressions; a query is built of them and then printed.

Whatever decides a value is integer arithmetic, which every engine does alike: times are microseconds since 1970 in
UTC, numbers are fixed point, and sums of several columns share a 128-bit integer, each in a lane of its own.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import sqlglot
from sqlglot import exp

DAY = 86_400_000_000
"""Microseconds of a day."""

NEVER = 9_000_000_000_000_000_000
"""A time, in microseconds, that no clock reaches."""

DECIMALS = 1_000_000
"""Units of one in fixed point, for numbers that are not whole."""

ROWS_BITS = 29
"""Sums are exact for half a billion rows a window."""

_NAME = "duckdb"


_INTEGERS = {7: "TINYINT", 15: "SMALLINT", 31: "INT", 63: "BIGINT"}
_BIGINT_BITS = 64


@dataclass(frozen=True)
class Lane:
    """Some bits of an integer that hold a sum of their own: `bits` of them from `start` on.

    A sum that is not `signed` is known not to be negative.
    """

    start: int
    bits: int
    signed: bool = True

    @property
    def end(self) -> int:
        return self.start + self.bits

    def put(self, value: exp.Expr) -> exp.Expr:
        """A whole number moved into the lane."""
        return value * number(2**self.start) if self.start else value

    def taken(self, lanes: exp.Expr, *, topmost: bool) -> exp.Expr:
        """The lane's sum out of an integer; lanes below may be negative, and above the topmost there is none."""
        sum_ = lanes
        if self.start:
            rounded = exp.Paren(this=lanes + number(2 ** (self.start - 1)))
            sum_ = exp.Paren(this=exp.BitwiseRightShift(this=rounded, expression=number(self.start)))
        if not topmost:
            half = number(2 ** (self.bits - 1))
            shifted = exp.Paren(this=sum_ + half) if self.signed else sum_
            masked = exp.BitwiseAnd(this=shifted, expression=number(2**self.bits - 1))
            sum_ = exp.Paren(this=masked) - half.copy() if self.signed else masked
        return cast(sum_, "BIGINT") if self.bits < _BIGINT_BITS else sum_


@dataclass(frozen=True)
class Frame:
    """Rows of a window, by how far their time lies before the current row's: `near` to `far` microseconds.

    Both ends are included, except that an `open` frame leaves out the rows exactly `near` before.
    """

    far: int
    near: int
    open: bool

    @property
    def nearest(self) -> int:
        """How long after an event, in microseconds, the first row comes that counts it."""
        return self.near + 1 if self.open else self.near


def column(name: str, table: str | None = None) -> exp.Column:
    """A column by its name, whatever characters it has."""
    return exp.column(identifier(name), table=table)


def identifier(name: str) -> exp.Identifier:
    """A name, quoted only where it must be; reserved words are quoted when printed."""
    return exp.to_identifier(name, quoted=re.fullmatch("[a-z_][a-z0-9_]*", name) is None)


def table(name: str, alias: str | None = None) -> exp.Table:
    """A relation by its name, whatever characters it has."""
    return exp.Table(this=identifier(name), alias=exp.TableAlias(this=identifier(alias)) if alias else None)


def is_not_null(value: exp.Expr) -> exp.Expr:
    """Whether there is a value."""
    return exp.not_(exp.Is(this=value, expression=exp.null()))


def least(*values: exp.Expr) -> exp.Expr:
    """The smallest value, nulls left out."""
    return exp.Least(this=values[0], expressions=list(values[1:]), ignore_nulls=True)


def greatest(*values: exp.Expr) -> exp.Expr:
    """The greatest value, nulls left out."""
    return exp.Greatest(this=values[0], expressions=list(values[1:]), ignore_nulls=True)


def number(value: int) -> exp.Expr:
    """A whole number."""
    return exp.Literal.number(value) if value >= 0 else exp.Neg(this=exp.Literal.number(-value))


def call(function: str, *arguments: exp.Expr) -> exp.Anonymous:
    """A function of the engine by its own name."""
    return exp.Anonymous(this=function, expressions=list(arguments))


def cast(value: exp.Expr, kind: str) -> exp.Cast:
    """A value in another type of the engine; its error if it does not fit."""
    return exp.cast(value, _type(kind))


@cache
def _type(kind: str) -> exp.DataType:
    return exp.DataType.build(kind)


def timestamp(time: dt.datetime) -> exp.Expr:
    """A given time, with its zone."""
    return cast(exp.Literal.string(time.isoformat()), "TIMESTAMPTZ")


def micros(time: exp.Expr) -> exp.Expr:
    """Microseconds since 1970 in UTC of a time."""
    return call("epoch_us", time)


def time_of(microseconds: exp.Expr) -> exp.Expr:
    """The time, with its zone, of microseconds since 1970."""
    return call("make_timestamptz", microseconds)


def date_of(microseconds: exp.Expr) -> exp.Expr:
    """The date in UTC of microseconds since 1970."""
    days = cast(whole(microseconds, DAY), "INT")
    return exp.Paren(this=cast(exp.Literal.string("1970-01-01"), "DATE") + days)


def hour_of(microseconds: exp.Expr) -> exp.Expr:
    """The date and hour in UTC of microseconds since 1970, as text: `2018-06-01-13:00`."""
    return call("strftime", call("make_timestamp", microseconds), exp.Literal.string("%Y-%m-%d-%H:00"))


def whole(value: exp.Expr, length: int) -> exp.Expr:
    """How many times a length fits into a value."""
    return exp.IntDiv(
        this=exp.Paren(this=value) if isinstance(value, exp.Binary) else value, expression=number(length)
    )


def next_end(microseconds: exp.Expr, period: int) -> exp.Expr:
    """The first end of a period at or after a time, such as a midnight."""
    return exp.Paren(this=whole(microseconds + number(period - 1), period) * number(period))


def times_from_to(first: int, last: int, step: int) -> exp.Expr:
    """One row per time from first to last, both included."""
    return exp.func("unnest", call("range", number(first), number(last + 1), number(step)))


def fixed(value: exp.Expr, *, units: int, bits: int) -> exp.Expr:
    """A number as a whole number of units; one that has more bits is the engine's conversion error."""
    whole_units = value if units == 1 else exp.func("round", value * number(units))
    return cast(whole_units, _INTEGERS[bits])


def square(value: exp.Expr) -> exp.Expr:
    """The exact square of a whole number."""
    return cast(value, "INT128") * cast(value.copy(), "INT128")


def added(values: Sequence[exp.Expr]) -> exp.Expr:
    """The sum of some numbers of one row."""
    total, *others = values
    for other in others:
        total = total + other
    return total


def or_zero(value: exp.Expr) -> exp.Expr:
    """A number, or zero where there is none."""
    return exp.Coalesce(this=value, expressions=[number(0)])


def or_false(value: exp.Expr) -> exp.Expr:
    """A truth value, or false where there is none."""
    return exp.Coalesce(this=value, expressions=[exp.false()])


def ratio(numerator: exp.Expr, denominator: exp.Expr) -> exp.Expr:
    """One number over another in double precision; null for a denominator of zero."""
    return as_double(numerator) / exp.Nullif(this=as_double(denominator), expression=number(0))


def as_double(value: exp.Expr) -> exp.Expr:
    """A number in double precision."""
    return cast(value, "DOUBLE")


def refused(message: str, subject: exp.Expr) -> exp.Expr:
    """No value: the engine's error, with a message and what it is about."""
    return call(
        "error", exp.DPipe(this=exp.Literal.string(f"{message} "), expression=cast(subject, "VARCHAR"))
    )


def earliest(value: exp.Expr, order: exp.Expr) -> exp.Expr:
    """The value with the least order; values that are null are left out."""
    return exp.ArgMin(this=value, expression=order)


def latest(value: exp.Expr, order: exp.Expr) -> exp.Expr:
    """The value with the greatest order; values that are null are left out."""
    return exp.ArgMax(this=value, expression=order)


def counted(condition: exp.Expr, aggregate: exp.Expr) -> exp.Expr:
    """An aggregate over the rows for which a condition holds."""
    return exp.Filter(this=aggregate, expression=exp.Where(this=condition))


def over(aggregate: exp.Expr, window: str) -> exp.Expr:
    """An aggregate over a named window."""
    return exp.Window(this=aggregate, alias=identifier(window), over="OVER")


def among(function: exp.Expr, by: str, order: Sequence[exp.Expr] = ()) -> exp.Expr:
    """A function over the rows that agree in a column, in an order."""
    ordered = exp.Order(expressions=list(order)) if order else None
    return exp.Window(this=function, partition_by=[column(by)], order=ordered, over="OVER")


def descending(value: exp.Expr) -> exp.Expr:
    """Greatest first, nulls last."""
    return exp.Ordered(this=value, desc=True, nulls_first=False)


def ascending(value: exp.Expr) -> exp.Expr:
    """Least first, nulls last."""
    return exp.Ordered(this=value, nulls_first=False)


def same(names: Sequence[str], left: str, right: str) -> exp.Expr:
    """Whether rows of two relations agree in some columns."""
    return exp.and_(*(column(name, left).eq(column(name, right)) for name in names))


def window(name: str, frame: Frame, *, by: Sequence[str], order: str) -> exp.Window:
    """A named window over the rows that agree in some columns, by integer time."""
    if frame.near:
        end: dict[str, Any] = {
            "end": number(frame.near + 1 if frame.open else frame.near),
            "end_side": "PRECEDING",
        }
    else:  # rows of the same time are found at once, which a search for `1 PRECEDING` is not
        end = {"end": "CURRENT ROW", "exclude": exp.Var(this="GROUP") if frame.open else None}
    start: dict[str, Any] = (
        {"start": number(frame.far), "start_side": "PRECEDING"} if frame.far else {"start": "CURRENT ROW"}
    )
    return exp.Window(
        this=identifier(name),
        partition_by=list(map(column, by)),
        order=exp.Order(expressions=[ascending(column(order))]),
        spec=exp.WindowSpec(kind="RANGE", **start, **end),
    )


def parsed(text: str) -> exp.Expr:
    """The engine's SQL as an expression; sqlglot's ParseError when it is none."""
    return sqlglot.parse_one(text, dialect=_NAME)


def quoted(name: str) -> str:
    """A name as it stands in SQL text."""
    return identifier(name).sql(_NAME, identify=True)


def printed(query: exp.Expr) -> str:
    """A query as the engine's SQL, laid out for people."""
    return query.sql(_NAME, pretty=True)
