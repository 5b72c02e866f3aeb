"""What rows of a partition must fulfil, as declared: one expectation, one sentence."""

from typing import Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from ml_platform.kernel.spec import Spec


class Expectation(Spec):
    """One expectation on the rows of a partition; exactly one condition is declared."""

    column: str | None = Field(default=None, description="Column that the condition is about.")
    not_null: Literal[True] | None = Field(default=None, description="The column has a value in every row.")
    unique: Literal[True] | None = Field(
        default=None, description="No value of the column occurs twice in a partition."
    )
    between: tuple[FiniteFloat | None, FiniteFloat | None] | None = Field(
        default=None,
        description="Lowest and highest allowed value, both included; null is unbounded. Nulls pass.",
    )
    one_of: tuple[str | int | float | bool, ...] | None = Field(
        default=None, min_length=1, description="The allowed values. Nulls pass."
    )
    rows_at_least: int | None = Field(
        default=None, ge=0, description="The partition has at least this many rows."
    )
    sql: str | None = Field(
        default=None, description="A SQL predicate over a row that is true for every row."
    )

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        conditions = {"not_null", "unique", "between", "one_of", "rows_at_least", "sql"}
        given = sorted(name for name in conditions if getattr(self, name) is not None)
        if len(given) != 1:
            raise ValueError(f"exactly one of {sorted(conditions)} is required; got {given or 'none'}")
        if (self.column is None) != (given[0] in ("rows_at_least", "sql")):
            raise ValueError(f"`column` goes with not_null, unique, between and one_of; got {given[0]}")
        return self

    def sentence(self) -> str:
        """What must hold, in words: the bound that a refusal shows."""
        if self.rows_at_least is not None:
            return f"at least {self.rows_at_least} rows"
        if self.sql is not None:
            return self.sql
        if self.between is not None:
            low, high = (("…" if bound is None else f"{bound:g}") for bound in self.between)
            return f"{self.column} between {low} and {high}"
        if self.one_of is not None:
            return f"{self.column} one of {list(self.one_of)}"
        return f"{self.column} {'not null' if self.not_null else 'unique'}"
