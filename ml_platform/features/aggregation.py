"""What can be declared about windowed aggregates, and the single features that they become.

Apart from `spec.py` because a view is about an entity, its sources and its rows; an aggregate is about numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, model_validator

from ml_platform.kernel.durations import Duration
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.spec import DurationField, Name, Spec
from ml_platform.lake.predicates import check_predicate, predicate_columns
from ml_platform.sources.spec import SourceColumn, SourceSpec

AggregateFunction = Literal["count", "sum", "mean", "min", "max", "stddev", "first", "last", "count_distinct"]
FieldType = Literal["int64", "double", "float", "string", "boolean"]
Stream = Literal["events", "labels"]

_COUNTS = frozenset({"count", "count_distinct"})
_NUMERIC = frozenset({"sum", "mean", "stddev"})
_TYPES: Mapping[str, FieldType] = {
    "int64": "int64",
    "int32": "int64",
    "double": "double",
    "float": "float",
    "string": "string",
    "boolean": "boolean",
}


NO_DELAY = Duration(0)
_BITS: tuple[Literal[7, 15, 31], ...] = (7, 15, 31)


@dataclass(frozen=True)
class Feature:
    """One feature column as readers see it: name, type, a sentence, and the columns that it comes from."""

    name: str
    type: FieldType
    sentence: str
    reads: tuple[tuple[Stream, str], ...]


@dataclass(frozen=True)
class Aggregate:
    """One aggregate of one column over one window: `[t - delay - window, t - delay)`, with `closed` up to t itself.

    Rows count for which `where`, a SQL predicate, is true. A column of the label stream counts where the label is
    known. Values of a numeric column have fewer than `bits` bits, of a millionth each if they are not whole.
    """

    name: str
    column: str
    function: AggregateFunction
    window: Duration
    delay: Duration = NO_DELAY
    stream: Stream = "events"
    where: str | None = None
    closed: bool = False
    kind: str = "double"
    bits: Literal[7, 15, 31, 63] = 63

    @property
    def type(self) -> FieldType:
        if self.function in _COUNTS:
            return "int64"
        return "double" if self.function in _NUMERIC else _TYPES[self.kind]

    @property
    def condition_columns(self) -> list[str]:
        """Columns of the events that `where` reads."""
        return predicate_columns(self.where) if self.where else []

    @property
    def near(self) -> int:
        """Microseconds from the newest event in the window to t, at least."""
        return self.delay.microseconds

    @property
    def far(self) -> int:
        """Microseconds from the oldest event in the window to t, at most."""
        return self.delay.microseconds + self.window.microseconds

    def feature(self) -> Feature:
        """What readers see of it."""
        late = f", ending {self.delay} before" if self.delay.seconds else ""
        only = f", where {self.where}" if self.where else ""
        itself = ", the event itself included" if self.closed else ""
        sentence = f"{self.function} of {self.column} over {self.window}{late}{only}{itself}"
        return Feature(self.name, self.type, sentence, ((self.stream, self.column),))


class Aggregation(Spec):
    """One aggregate of one column over several windows: a feature for each window."""

    column: Name = Field(description="Column of the source, or of its labels.")
    function: AggregateFunction = Field(
        description="How the events of a window become one value; events without a value are left out."
    )
    windows: tuple[DurationField, ...] = Field(
        min_length=1, description="Window lengths; a window W at time t covers [t - W, t)."
    )
    delay: DurationField = Field(
        default=Duration(0), description="Windows end this long before t: [t - delay - W, t - delay)."
    )
    where: str | None = Field(
        default=None, description="SQL predicate over the source's columns: only such events count."
    )
    include_current: bool = Field(
        default=False,
        description="With `accuracy: event`: windows [t - W, t], so that the event counts itself.",
    )
    named: Name | None = Field(
        default=None,
        description="Stem of the feature names; default: column_function. The window is appended.",
    )

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        for window in self.windows:
            if window.seconds == 0:
                raise ValueError(
                    f"a window must be longer than zero; got {window} for column {self.column!r}"
                )
        if self.include_current and self.delay.seconds:
            raise ValueError(f"include_current needs windows that end at t; got a delay of {self.delay}")
        return self

    @property
    def reach(self) -> Duration:
        """How long before t the longest window begins."""
        return Duration(self.delay.seconds + max(window.seconds for window in self.windows))

    def stream(self, events: SourceSpec, labels: SourceSpec | None) -> Stream:
        """Where its column comes from: one that both have is the events'."""
        of_labels = labels is not None and self.column in set(labels.columns) - set(events.columns)
        return "labels" if of_labels else "events"

    def check(self, events: SourceSpec, labels: SourceSpec | None, *, owner: str) -> None:
        """Raise DeclarationError for labels that are read before they are final, or a `where` that is no predicate."""
        if labels is not None and self.stream(events, labels) == "labels" and self.delay < labels.maturity:
            raise DeclarationError(
                f"{owner}.delay must be at least {labels.maturity}, the maturity of {labels.name!r}; got {self.delay}. "
                f"A shorter delay would count labels that are not final"
            )
        if self.where is not None:
            check_predicate(self.where, columns=list(events.columns), owner=f"{owner}.where")

    def aggregates(self, events: SourceSpec, labels: SourceSpec | None, *, owner: str) -> Iterator[Aggregate]:
        """One aggregate for each window, in their order; DeclarationError where the column or its type has none."""
        columns = {**(labels.columns if labels is not None else {}), **events.columns}
        declared = columns.get(self.column)
        if declared is None:
            raise DeclarationError(
                f"{owner}.column {self.column!r} is not among {sorted(columns)}; "
                f"take one of them, or declare it in the source"
            )
        kind = declared.type
        if (self.function in _NUMERIC and kind in ("string", "timestamp", "boolean")) or (
            self.function not in _COUNTS and kind == "timestamp"
        ):
            raise DeclarationError(
                f"{owner}: {self.function} needs a column of {'numbers' if self.function in _NUMERIC else 'values'}; "
                f"{self.column!r} is a {kind}; declare count or count_distinct, or another column"
            )
        stem = self.named or f"{self.column}_{self.function}"
        for window in self.windows:
            yield Aggregate(
                name=f"{stem}_{window}",
                column=self.column,
                function=self.function,
                window=window,
                delay=self.delay,
                stream=self.stream(events, labels),
                where=self.where,
                closed=self.include_current,
                kind=kind,
                bits=value_bits(declared),
            )


def value_bits(declared: SourceColumn) -> Literal[7, 15, 31, 63]:
    """Fewest bits of a machine's integers that a column's values fit into, by its type and declared bounds."""
    if declared.type == "int32":
        return 31
    if declared.type != "int64" or declared.minimum is None or declared.maximum is None:
        return 63
    largest = max(abs(declared.minimum), abs(declared.maximum))
    for bits in _BITS:
        if largest < 2**bits:
            return bits
    return 63


class Ratio(Spec):
    """One feature over another: null where the denominator is null or zero."""

    named: Name = Field(description="Name of the feature.")
    numerator: Name = Field(
        description="A numeric aggregate of the view by its full name, such as `spent_1d`."
    )
    denominator: Name = Field(description="The aggregate to divide by.")

    def feature(self, aggregates: Mapping[str, Aggregate], *, owner: str) -> Feature:
        """What readers see of it; DeclarationError when it names something that is no number."""
        parts = [aggregates.get(name) for name in (self.numerator, self.denominator)]
        known = [name for name, found in aggregates.items() if found.type in ("int64", "double", "float")]
        for name, part in zip((self.numerator, self.denominator), parts, strict=True):
            if part is None or part.name not in known:
                raise DeclarationError(
                    f"{owner}: ratio {self.named!r} needs two numeric aggregates of the view: {', '.join(known)}; "
                    f"got {name!r}"
                )
        reads: dict[tuple[Stream, str], None] = {(p.stream, p.column): None for p in parts if p is not None}
        return Feature(self.named, "double", f"{self.numerator} over {self.denominator}", tuple(reads))
