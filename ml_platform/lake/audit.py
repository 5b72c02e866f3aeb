"""Judges staged rows against declared expectations: one scan for all of them, per partition."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
from sqlglot import expressions as exp

from ml_platform.kernel.expectations import Expectation
from ml_platform.kernel.partitions import PARTITION_COLUMN


@dataclass(frozen=True)
class Finding:
    """What one expectation found in one partition: how many rows (or too few) break it."""

    partition: str
    expectation: str
    rows: int
    failing: int
    of_the_count: bool = False

    @property
    def passed(self) -> bool:
        return self.failing == 0

    def in_words(self) -> str:
        """What was seen, as a refusal shows it."""
        return (
            f"{self.rows:,} rows" if self.of_the_count else f"{self.failing:,} of {self.rows:,} rows break it"
        )


def audit(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    expectations: Sequence[Expectation],
    *,
    partitions: Sequence[str] = (),
) -> dict[str, list[Finding]]:
    """Findings by partition for the relation named `rows`, which has a partition_date column.

    Returns one list of findings, in the order of the expectations, for each partition with rows and for each
    of `partitions`: one without rows can still have too few of them.
    """
    counts = [f"coalesce({_failing(expectation)}, 0) AS e{i}" for i, expectation in enumerate(expectations)]
    columns = ", ".join([f"CAST({PARTITION_COLUMN} AS VARCHAR)", "count(*)", *counts])
    query = f"SELECT {columns} FROM {rows} GROUP BY {PARTITION_COLUMN} ORDER BY {PARTITION_COLUMN}"
    empty = [expectation.rows_at_least or 0 for expectation in expectations]
    counted: dict[str, Sequence[int]] = dict.fromkeys(partitions, (0, *empty))
    counted |= {partition: counts for partition, *counts in connection.execute(query).fetchall()}
    return {
        partition: [
            Finding(partition, e.sentence(), total, int(count), of_the_count=e.rows_at_least is not None)
            for e, count in zip(expectations, failing, strict=True)
        ]
        for partition, (total, *failing) in counted.items()
    }


def _failing(expectation: Expectation) -> str:
    """SQL that counts the rows of a group that break the expectation."""
    column = exp.column(expectation.column, quoted=True).sql("duckdb") if expectation.column else ""
    if expectation.rows_at_least is not None:
        return f"greatest({expectation.rows_at_least} - count(*), 0)"
    if expectation.sql is not None:
        return f"count_if(NOT coalesce(({expectation.sql}), false))"
    if expectation.unique is not None:
        return f"count({column}) - count(DISTINCT {column})"
    if expectation.not_null is not None:
        return f"count_if({column} IS NULL)"
    if expectation.one_of is not None:
        allowed = ", ".join(_literal(value) for value in expectation.one_of)
        return f"count_if({column} NOT IN ({allowed}))"
    low, high = expectation.between or (None, None)
    outside = [f"{column} < {low!r}"] if low is not None else []
    outside += [f"{column} > {high!r}"] if high is not None else []
    return f"count_if({' OR '.join(outside) or 'false'})"


def _literal(value: Any) -> str:
    return exp.convert(value).sql("duckdb")
