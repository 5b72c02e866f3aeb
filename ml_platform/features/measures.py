"""The exact numbers that aggregates are made of, and how each is taken: from events, from days, over windows.

Apart from `compute.py`, which puts a view's query together and does not care what is counted. Counts and sums can
share an integer, in lanes: a window is then walked once for all of them, which is most of a view's cost.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sqlglot import exp

from ml_platform.features.aggregation import Aggregate, Stream
from ml_platform.lake import dialect
from ml_platform.lake.dialect import Frame, Lane, column, number

Kind = Literal["count", "total", "squares", "min", "max", "first", "last", "distinct"]
_KINDS: dict[str, tuple[Kind, ...]] = {
    "count": ("count",),
    "sum": ("count", "total"),
    "mean": ("count", "total"),
    "stddev": ("count", "total", "squares"),
    "min": ("min",),
    "max": ("max",),
    "first": ("first",),
    "last": ("last",),
    "count_distinct": ("distinct",),
}
_IN_LANES = ("count", "total")
_WORD_BITS = 126


@dataclass(frozen=True)
class Argument:
    """What is aggregated: a column, of the rows that pass a condition. A value has fewer than `bits` bits of units."""

    name: str
    column: str
    stream: Stream
    where: str | None
    units: int
    bits: int

    @property
    def condition(self) -> str:
        """Name of the column that says whether a row passes."""
        return f"{self.name}_counts"

    def fixed(self, value: exp.Expr) -> exp.Expr:
        """A value as a whole number of units; one with more bits is an error."""
        return dialect.fixed(value, units=self.units, bits=self.bits)


@dataclass(frozen=True)
class Number:
    """One number of an argument, whatever the window."""

    argument: Argument
    kind: Kind

    @property
    def name(self) -> str:
        return f"{self.argument.name}_{self.kind}"

    @property
    def bits(self) -> int:
        """Bits of a sum of half a billion events, with its sign."""
        return dialect.ROWS_BITS + 1 + (self.argument.bits if self.kind == "total" else 0)

    def adds(self, value: exp.Expr) -> exp.Expr:
        """What one event adds to a lane."""
        if self.kind == "count":
            return dialect.cast(dialect.is_not_null(value), "INT128")
        return dialect.cast(dialect.or_zero(self.argument.fixed(value)), "INT128")


@dataclass(frozen=True)
class Part:
    """What one column of events adds up to: several counts and sums in lanes, or one number of another kind."""

    name: str
    numbers: tuple[tuple[Number, Lane], ...]

    @property
    def kind(self) -> Kind:
        return self.numbers[0][0].kind

    def streams(self) -> set[Stream]:
        return {number.argument.stream for number, _ in self.numbers}

    def of(self, values: dict[Argument, exp.Expr]) -> exp.Expr:
        """What one event adds, of the values that there are."""
        first = self.numbers[0][0].argument
        if self.kind not in _IN_LANES:
            value = values[first]
            return dialect.square(first.fixed(value)) if self.kind == "squares" else value
        lanes = [lane.put(n.adds(values[n.argument])) for n, lane in self.numbers if n.argument in values]
        return dialect.added(lanes)

    def unpacked(self, lanes: exp.Expr) -> list[tuple[Number, exp.Expr]]:
        """Every count and sum out of its lane; none of a number that has no lane."""
        if self.kind not in _IN_LANES:
            return []
        _, top = self.numbers[-1]
        return [(found, lane.taken(lanes.copy(), topmost=lane is top)) for found, lane in self.numbers]

    def aggregate(self, part: exp.Expr, order: exp.Expr) -> exp.Expr:
        """The number from events or, but for distinct values, from days; `order` decides which is first."""
        match self.kind:
            case "distinct":
                return exp.Count(this=exp.Distinct(expressions=[part]))
            case "min":
                return exp.Min(this=part)
            case "max":
                return exp.Max(this=part)
            case "first":
                return dialect.earliest(part, order)
            case "last":
                return dialect.latest(part, order)
            case _:
                return exp.Sum(this=part)


@dataclass(frozen=True)
class Measure:
    """One part over one window."""

    part: Part
    window: str
    frame: Frame

    @property
    def name(self) -> str:
        return f"{self.part.name}_{self.window}"


@dataclass(frozen=True)
class Measures:
    """What a view's aggregates need."""

    aggregates: tuple[Aggregate, ...]

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """Every column that is aggregated, counts and sums together in as few as they fit into."""
        numbers = list(dict.fromkeys(n for a in self.aggregates for n in self.numbers(a)))
        words: list[list[tuple[Number, Lane]]] = []
        for found in (n for n in numbers if n.kind in _IN_LANES):
            word = next((w for w in words if w[-1][1].end + found.bits <= _WORD_BITS), None)
            if word is None:
                words.append(word := [])
            start = word[-1][1].end if word else 0
            word.append((found, Lane(start, found.bits, signed=found.kind == "total")))
        packed = [Part(f"lanes_{i}", tuple(word)) for i, word in enumerate(words, 1)]
        others = [Part(n.name, ((n, Lane(0, 0)),)) for n in numbers if n.kind not in _IN_LANES]
        return (*packed, *others)

    @cached_property
    def all(self) -> tuple[Measure, ...]:
        """Every part over every window that needs it."""
        needed = [(n, a) for a in self.aggregates for n in self.numbers(a)]
        found = [Measure(self._part(n), window_name(a), _frame(a)) for n, a in needed]
        return tuple(dict.fromkeys(found))

    def numbers(self, aggregate: Aggregate) -> list[Number]:
        """The numbers that one aggregate is made of."""
        argument = self.argument(aggregate)
        return [Number(argument, kind) for kind in _KINDS[aggregate.function]]

    def arguments(self, stream: Stream | None = None) -> list[Argument]:
        """Every column under every condition, in declared order."""
        mine = [a for a in self.aggregates if stream in (None, a.stream)]
        return list(dict.fromkeys(self.argument(aggregate) for aggregate in mine))

    def argument(self, aggregate: Aggregate) -> Argument:
        """What an aggregate is of; a filtered column is numbered by its condition."""
        conditions = dict.fromkeys(
            a.where for a in self.aggregates if a.column == aggregate.column and a.where
        )
        index = list(conditions).index(aggregate.where) + 1 if aggregate.where else 0
        name = f"{aggregate.column}_if_{index}" if index else aggregate.column
        units = dialect.DECIMALS if aggregate.kind in ("double", "float") else 1
        return Argument(name, aggregate.column, aggregate.stream, aggregate.where, units, aggregate.bits)

    def unpacked(self) -> list[exp.Expr]:
        """Every count and sum out of its lane."""
        columns: list[exp.Expr] = []
        for measure in self.all:
            for found, sum_ in measure.part.unpacked(column(measure.name)):
                columns.append(dialect.or_zero(sum_).as_(_unpacked_name(found, measure.window)))
        return columns

    def value(self, aggregate: Aggregate) -> exp.Expr:
        """The feature from `unpacked`: counts are zero when idle, everything else is null.

        The standard deviation is the sample's, from integer moments: sqrt((n q - s^2) / (n (n - 1))).
        """
        window, argument = window_name(aggregate), self.argument(aggregate)
        names = {
            n.kind: _unpacked_name(n, window) if n.kind in _IN_LANES else f"{n.name}_{window}"
            for n in self.numbers(aggregate)
        }
        if "count" not in names:
            (name,) = names.values()
            counted = aggregate.function == "count_distinct"
            return dialect.cast(dialect.or_zero(column(name)), "BIGINT") if counted else column(name)
        count = column(names["count"])
        if aggregate.function == "count":
            return dialect.cast(count, "BIGINT")
        total = column(names["total"])
        if aggregate.function == "stddev":
            moment = dialect.cast(count, "INT128") * column(names["squares"]) - dialect.square(total)
            pairs = dialect.as_double(count * (count - number(1)))
            root = exp.func("sqrt", dialect.as_double(moment) / pairs)
            return exp.case().when(count > number(1), _in_units(root, argument.units))
        sum_ = _in_units(dialect.as_double(total), argument.units)
        return exp.case().when(
            count > number(0), sum_ if aggregate.function == "sum" else sum_ / count.copy()
        )

    def _part(self, found: Number) -> Part:
        return next(part for part in self.parts if any(n == found for n, _ in part.numbers))


def window_name(aggregate: Aggregate) -> str:
    """A window's name in the query: its length, how long before t it ends, whether t itself is in it."""
    late = f"_before_{aggregate.delay}" if aggregate.delay.seconds else ""
    return f"{aggregate.window}{late}{'_closed' if aggregate.closed else ''}"


def bucketable(aggregates: Iterable[Aggregate], period: int) -> bool:
    """Whether windows are made of whole periods, and numbers of parts: then periods are added up before windows are."""
    return all(
        a.function != "count_distinct" and a.far % period == 0 and a.near % period == 0 for a in aggregates
    )


def windows(measures: Sequence[Measure]) -> dict[str, Frame]:
    """Every window of some measures once, by name."""
    return {measure.window: measure.frame for measure in measures}


def _unpacked_name(found: Number, window: str) -> str:
    return f"{found.name}_{window}"


def _frame(aggregate: Aggregate) -> Frame:
    return Frame(aggregate.far, aggregate.near, open=not aggregate.closed)


def _in_units(value: exp.Expr, units: int) -> exp.Expr:
    return value if units == 1 else value / number(units)
