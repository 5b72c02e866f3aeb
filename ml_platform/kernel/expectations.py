"""What rows of a partition must fulfil, as declared: one expectation, one condition, one sentence."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from pydantic import Field, FiniteFloat, ValidationInfo, model_validator

from ml_platform.kernel.durations import DAY_SECONDS
from ml_platform.kernel.spec import DurationField, Name, Spec

Severity = Literal["error", "warn"]
ColumnKind = Literal["not_null", "unique", "between", "one_of", "matches", "references", "null_share_at_most"]
RowsKind = Literal["rows_at_least", "rows_within", "fresh_within", "schema", "sql"]
Kind = ColumnKind | RowsKind

_ABOUT_A_COLUMN: tuple[ColumnKind, ...] = get_args(ColumnKind)
_ABOUT_ROWS: tuple[RowsKind, ...] = get_args(RowsKind)
_FIELDS = {"schema": "declared_schema"}  # pydantic has a `schema` of its own
_LONGEST_LIST = 100_000
_VALUES_SHOWN = 10


class Reference(Spec):
    """Where the values of a column must exist: in another source or view, or in a list beside the declaration."""

    source: Name | None = Field(
        default=None, description="A source: what it has published up to the partition's day."
    )
    view: Name | None = Field(
        default=None, description="A feature view: what it has published up to the partition's day."
    )
    file: str | None = Field(
        default=None, description="A `.csv` file with a header, beside this declaration; read as text."
    )
    column: str = Field(min_length=1, description="Its column that has the values.")
    values: tuple[str, ...] | None = Field(
        default=None, description="Not to be declared: the file's values, once the declaration is loaded."
    )

    @model_validator(mode="before")
    @classmethod
    def _with_the_files_values(cls, data: Any, info: ValidationInfo) -> Any:
        context: Mapping[str, Path] = info.context or {}
        folder = context.get("folder")
        if folder is None or not isinstance(data, dict):
            return data
        given = cast(dict[str, Any], data)
        name, column = given.get("file"), given.get("column")
        if not isinstance(name, str) or not isinstance(column, str):
            return given
        return {**given, "values": _listed(folder / name, column)}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        given = [name for name in ("source", "view", "file") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of source, view and file is required; got {given or 'none'}")
        if self.values is not None and self.file is None:
            raise ValueError("`values` are those of a `file`; a list without one is declared with one_of")
        return self

    @property
    def asset(self) -> str | None:
        """The asset that has the values; None for a file."""
        if self.file is not None:
            return None
        return f"sources/{self.source}" if self.source is not None else f"features/{self.view}"

    @property
    def place(self) -> str:
        """Where the values are, for people, and as the name of the relation that holds them."""
        return f"{self.asset or self.file}.{self.column}"


def _listed(path: Path, column: str) -> tuple[str, ...]:
    """The distinct values of a CSV file's column; ValueError when there are none, or too many."""
    if path.suffix != ".csv" or not path.is_file():
        raise ValueError(f"a .csv file beside the declaration is required; {path} is none")
    with path.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if column not in (rows.fieldnames or ()):
            raise ValueError(f"column {column!r} is required in {path}; it has {list(rows.fieldnames or ())}")
        found = dict.fromkeys(value for row in rows if (value := row[column]))
    if not 0 < len(found) <= _LONGEST_LIST:
        raise ValueError(
            f"1 to {_LONGEST_LIST:,} values are required in column {column!r} of {path}; it has {len(found):,}. "
            f"Longer lists are sources"
        )
    return tuple(found)


class RowsWithin(Spec):
    """How far a partition's row count may be from that of the accepted days before it."""

    of_mean: float = Field(
        gt=0,
        lt=1,
        description="Allowed distance from their mean, as a share of it: 0.5 is half to one and a half.",
    )
    days: int = Field(
        default=28,
        ge=1,
        description="How many accepted days make the mean, of an hour those days' same hour; until there are as many, "
        "none judge.",
    )


class Expectation(Spec):
    """One expectation on the rows of a partition; exactly one condition is declared."""

    column: str | None = Field(default=None, description="Column that the condition is about.")
    not_null: Literal[True] | None = Field(default=None, description="The column has a value in every row.")
    unique: Literal[True] | None = Field(
        default=None, description="No value of the column occurs twice in a partition. Nulls pass."
    )
    between: tuple[FiniteFloat | None, FiniteFloat | None] | None = Field(
        default=None,
        description="Lowest and highest allowed value, both included; null is unbounded. Nulls pass.",
    )
    one_of: tuple[str | int | float | bool, ...] | None = Field(
        default=None, min_length=1, description="The allowed values. Nulls pass."
    )
    matches: str | None = Field(
        default=None,
        min_length=1,
        description="A regular expression (RE2) that the whole text matches, not a part of it. Nulls pass.",
    )
    references: Reference | None = Field(default=None, description="Every value exists there. Nulls pass.")
    null_share_at_most: float | None = Field(
        default=None, ge=0, lt=1, description="At most this share of the rows has no value."
    )
    rows_at_least: int | None = Field(
        default=None, ge=0, description="The partition has at least this many rows."
    )
    rows_within: RowsWithin | None = Field(
        default=None,
        description="The partition has about as many rows, or events of a source, as the accepted days before it.",
    )
    fresh_within: DurationField | None = Field(
        default=None,
        description="The newest event is at most this long before the partition's end, by event time. "
        "The clock is never asked.",
    )
    declared_schema: Literal[True] | None = Field(
        default=None,
        alias="schema",
        description="The rows have exactly the declared columns, in their types.",
    )
    sql: str | None = Field(
        default=None, description="A SQL predicate over a row that is true for every row."
    )
    severity: Severity = Field(
        default="error",
        description="How bad it is where it does not hold; a `warn` is shown and never blocks.",
    )
    blocking: bool | None = Field(
        default=None,
        description="Is the partition refused where it does not hold? Default: for an `error`. An error that does "
        "not block is shown as failed, and the partition is published.",
    )

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        conditions = (*_ABOUT_A_COLUMN, *_ABOUT_ROWS)
        given = [kind for kind in conditions if self._declares(kind)]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of {sorted(conditions)} is required; got {sorted(given) or 'none'}"
            )
        if (self.column is None) != (given[0] in _ABOUT_ROWS):
            raise ValueError(f"`column` goes with {', '.join(_ABOUT_A_COLUMN)}; got {given[0]}")
        if self.severity == "warn" and self.blocking:
            raise ValueError("a warning never blocks; declare `severity: error`, or leave `blocking` out")
        return self

    @model_validator(mode="after")
    def _can_fail_and_pass(self) -> Self:
        if self.between is not None:
            low, high = self.between
            if (low is None and high is None) or (low is not None and high is not None and low > high):
                raise ValueError(
                    f"between is [lowest, highest], at least one of them given; got [{low}, {high}]"
                )
        if self.fresh_within is not None and not 0 < self.fresh_within.seconds < DAY_SECONDS:
            raise ValueError(
                f"fresh_within must be longer than nothing and shorter than a day, since a partition has the events "
                f"of one day; got {self.fresh_within}"
            )
        return self

    @property
    def kind(self) -> Kind:
        """The name of its condition, as it is declared."""
        return next(kind for kind in (*_ABOUT_A_COLUMN, *_ABOUT_ROWS) if self._declares(kind))

    @property
    def blocks(self) -> bool:
        """Whether a partition in which it does not hold is refused."""
        return self.severity == "error" if self.blocking is None else self.blocking

    @property
    def title(self) -> str:
        """What is judged, in a word or two: the column and the condition."""
        return self.kind if self.column is None else f"{self.column} {self.kind}"

    def sentence(self) -> str:
        """What must hold, in words: the bound that a refusal shows."""
        return self._of_the_column() if self.column is not None else self._of_the_rows()

    def _declares(self, kind: Kind) -> bool:
        return getattr(self, _FIELDS.get(kind, kind)) is not None

    def _of_the_rows(self) -> str:
        if self.rows_at_least is not None:
            return f"at least {self.rows_at_least} rows"
        if self.rows_within is not None:
            share = f"{100 * self.rows_within.of_mean:g}%"
            return f"rows within {share} of the mean of the {self.rows_within.days} accepted days before"
        if self.fresh_within is not None:
            return f"the newest event at most {self.fresh_within} before the partition's end"
        return self.sql or "the declared columns in their types"

    def _of_the_column(self) -> str:
        if self.between is not None:
            low, high = (("…" if bound is None else f"{bound:g}") for bound in self.between)
            return f"{self.column} between {low} and {high}"
        if self.one_of is not None:
            return f"{self.column} one of {_shortened(self.one_of)}"
        if self.matches is not None:
            return f"{self.column} matches {self.matches}"
        if self.references is not None:
            return f"{self.column} exists in {self.references.place}"
        if self.null_share_at_most is not None:
            return f"{self.column} null in at most {100 * self.null_share_at_most:g}% of the rows"
        return f"{self.column} {'not null' if self.not_null else 'unique'}"


def _shortened(values: Sequence[object]) -> str:
    """The values as a list, without those that nobody would read."""
    more = len(values) - _VALUES_SHOWN
    return f"{list(values)}" if more <= 0 else f"{list(values[:_VALUES_SHOWN])} and {more} more"
