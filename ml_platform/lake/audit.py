"""Judges staged rows against declared expectations: one scan for all of them, over all partitions."""

import datetime as dt
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb
from sqlglot import exp

from ml_platform.kernel.durations import EPOCH, Duration
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.expectations import Expectation, RowsWithin, Severity
from ml_platform.kernel.partitions import (
    DAILY,
    EVENT_TIME,
    ONE_DAY,
    Cadence,
    cadence_of,
    complete_at,
    start_of,
    time_of_day,
)
from ml_platform.lake import dialect
from ml_platform.lake.broken_rows import JUDGED, breaks, failing_rows, from_rows
from ml_platform.lake.dialect import column
from ml_platform.lake.ledger import published, published_since
from ml_platform.lake.tables import Lake

NOT_JUDGED = "not judged: no reference yet"


@dataclass(frozen=True)
class Finding:
    """What one expectation found in one partition.

    `failing` counts the rows that break it; what is about the number of rows, or their columns, has none.
    `passed` is None where there was nothing to judge by, which lets the partition through.
    """

    expectation: str
    required: str
    rows: int
    failing: int
    observed: str
    passed: bool | None
    severity: Severity = "error"
    blocks: bool = True

    @classmethod
    def of_rows(cls, expectation: str, required: str, *, rows: int, failing: int) -> "Finding":
        """The finding on something that every row must fulfil."""
        observed = f"{failing:,} of {rows:,} rows break it"
        return cls(expectation, required, rows, failing, observed, passed=failing == 0)

    @property
    def refuses(self) -> bool:
        """Whether the partition is refused because of it."""
        return self.passed is False and self.blocks

    @property
    def verdict(self) -> str:
        """The outcome in a word or two."""
        if self.passed is None:
            return NOT_JUDGED
        if self.passed:
            return "passed"
        return "warning" if self.severity == "warn" else "failed" if self.blocks else "failed, does not block"


@dataclass(frozen=True)
class Beside:
    """What rows are judged by that is not among them.

    `published` has the size of each published partition of the asset, `schema` in what the staged columns differ
    from the declared ones, `findings` what else was found in each partition. Where rows are versions of events,
    `events` has their number by partition: the size of a partition that no correction changes.
    """

    published: Mapping[str, int] = field(default_factory=dict[str, int])
    events: Mapping[str, int] | None = None
    schema: Sequence[str] = ()
    findings: Mapping[str, Sequence[Finding]] = field(default_factory=dict[str, Sequence[Finding]])


def published_sizes(
    lake: Lake, asset: str, expectations: Iterable[Expectation], partitions: Collection[str]
) -> dict[str, int]:
    """Events, or else rows, of the published partitions that expectations on some partitions compare with.

    Nothing is read where no expectation asks for any, and days long past only where there were no later ones.
    """
    wanted = max((e.rows_within.days for e in expectations if e.rows_within), default=0)
    if not wanted or not partitions:
        return {}
    first = min(partitions)
    found = published_since(lake, asset, cadence_of(first).key(start_of(first) - 2 * wanted * ONE_DAY))
    before = Counter(time_of_day(partition) for partition in found if partition < first)
    if any(before[time_of_day(partition)] < wanted for partition in partitions):
        found = published(lake, asset)
    return {
        partition: publication.rows if publication.events is None else publication.events
        for partition, publication in found.items()
    }


def audit(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    expectations: Sequence[Expectation],
    *,
    partitions: Sequence[str] = (),
    beside: Beside | None = None,
    cadence: Cadence = DAILY,
) -> dict[str, list[Finding]]:
    """Findings by partition for the relation named `rows`, which has the partition column of a cadence.

    Returns one list of findings, those that are given first and then one for each expectation in their order, for
    each partition with rows and for each of `partitions`: one without rows can still have too few of them. What is
    referenced has been staged on the connection. Partitions are judged in their order, and one that is not refused
    is an accepted one for those after it: each gets the verdict that it would get alone, after those before it.
    """
    beside = beside or Beside()
    measured: dict[str, list[int | None]] = {key: [0, *(None for _ in expectations)] for key in partitions}
    measured |= _measures(connection, rows, expectations, cadence)
    accepted = dict(beside.published)
    alike: dict[str, list[str]] = {}
    for key in sorted(accepted):
        alike.setdefault(time_of_day(key), []).append(key)
    findings: dict[str, list[Finding]] = {}
    for partition in sorted(measured):
        count, *measures = measured[partition]
        size = (count or 0) if beside.events is None else beside.events.get(partition, 0)
        same = alike.setdefault(time_of_day(partition), [])
        before = [accepted[key] for key in same[: bisect_left(same, partition)]]
        found = [
            _judged(expectation, _Seen(partition, count or 0, size, measure, before, beside))
            for expectation, measure in zip(expectations, measures, strict=True)
        ]
        findings[partition] = [*beside.findings.get(partition, ()), *found]
        if not any(finding.refuses for finding in findings[partition]):
            if partition not in accepted:
                insort(same, partition)
            accepted[partition] = size
    return findings


def _measures(
    connection: duckdb.DuckDBPyConnection, rows: str, expectations: Sequence[Expectation], cadence: Cadence
) -> dict[str, list[int | None]]:
    """By partition its number of rows, and of each expectation a number: mostly that of the rows that break it."""
    numbered, partition_column = dict(enumerate(expectations)), cadence.column
    inner = from_rows(rows, numbered).select(column(partition_column, JUDGED))
    outer = exp.select(dialect.cast(column(partition_column), "VARCHAR"), exp.Count(this=exp.Star()))
    for number, expectation in numbered.items():
        value, measure = _measure(expectation, number, cadence)
        if value is not None:
            inner = inner.select(value.as_(f"__e{number}"))
        outer = outer.select(measure)
    query = outer.from_(inner.subquery("rows")).group_by(column(partition_column))
    try:
        answer = connection.execute(dialect.printed(query)).fetchall()
    except duckdb.Error as err:
        raise InputError(
            f"values that the declared expectations can be asked of are required; {str(err).splitlines()[0]}. Nothing "
            f"was published; write the predicate so that it is false for such values, with TRY_CAST for example"
        ) from err
    measures: dict[str, list[int | None]] = {partition: counts for partition, *counts in answer}
    for number, expectation in numbered.items():
        if expectation.unique and any(counts[number + 1] for counts in measures.values()):
            for partition, count in _repeated(connection, rows, expectation, cadence).items():
                measures[partition][number + 1] = count
    return measures


def _measure(expectation: Expectation, number: int, cadence: Cadence) -> tuple[exp.Expr | None, exp.Expr]:
    """What is taken of every row for an expectation, and the aggregate of that which tells of a partition.

    For a unique column it tells only whether any value is repeated, which is cheaper to know than in which rows;
    for a share of nulls, how many there are.
    """
    name = column(f"__e{number}")
    if expectation.fresh_within is not None:
        return column(EVENT_TIME, JUDGED), dialect.micros(exp.Max(this=name))
    if expectation.unique is not None:
        distinct = exp.Count(this=exp.Distinct(expressions=[name.copy()]))
        return column(str(expectation.column), JUDGED), exp.Count(this=name) - distinct
    if expectation.null_share_at_most is not None:
        missing = exp.Is(this=column(str(expectation.column), JUDGED), expression=exp.null())
        return missing, dialect.call("count_if", name)
    broken = breaks(expectation, number, cadence)
    return broken, exp.null() if broken is None else dialect.call("count_if", name)


def _repeated(
    connection: duckdb.DuckDBPyConnection, rows: str, expectation: Expectation, cadence: Cadence
) -> dict[str, int]:
    """By partition, the rows whose value is that of another row."""
    failing = failing_rows(connection, rows, expectation, cadence)
    counts = (
        failing.aggregate(f"CAST({cadence.column} AS VARCHAR), count(*)") if failing is not None else None
    )
    return dict(counts.fetchall()) if counts is not None else {}


@dataclass(frozen=True)
class _Seen:
    """What is known of one partition when an expectation is judged; `before` has the sizes of accepted ones.

    Of an hour these are those of the same hour of the days before.
    """

    partition: str
    rows: int
    size: int
    measure: int | None
    before: Sequence[int]
    beside: Beside


def _judged(expectation: Expectation, seen: _Seen) -> Finding:
    passed, observed, failing = _verdict(expectation, seen)
    return Finding(
        expectation.title,
        expectation.sentence(),
        seen.rows,
        failing,
        observed,
        passed,
        expectation.severity,
        expectation.blocks,
    )


def _verdict(expectation: Expectation, seen: _Seen) -> tuple[bool | None, str, int]:
    """Whether an expectation holds, what was seen, and how many rows break it."""
    if expectation.rows_at_least is not None:
        return seen.rows >= expectation.rows_at_least, f"{seen.rows:,} rows", 0
    if expectation.rows_within is not None:
        return (*_among_days(expectation.rows_within, seen), 0)
    if expectation.fresh_within is not None:
        return (*_fresh(expectation.fresh_within, seen), 0)
    if expectation.declared_schema is not None:
        return not seen.beside.schema, "; ".join(seen.beside.schema) or "as declared", 0
    failing = seen.measure or 0
    if expectation.null_share_at_most is not None:
        passed = not seen.rows or failing / seen.rows <= expectation.null_share_at_most
        return passed, f"{failing:,} of {seen.rows:,} rows are null", 0 if passed else failing
    return failing == 0, f"{failing:,} of {seen.rows:,} rows break it", failing


def _among_days(declared: RowsWithin, seen: _Seen) -> tuple[bool | None, str]:
    """Whether a partition is about as large as the newest accepted days; None until there are enough of them."""
    recent = seen.before[-declared.days :]
    observed = f"{seen.size:,} {'rows' if seen.beside.events is None else 'events'}"
    if len(recent) < declared.days:
        return None, f"{observed}; {len(recent)} of {declared.days} accepted days before"
    total = sum(recent)
    off = abs(seen.size * len(recent) - total)
    passed = off / total <= declared.of_mean if total else off == 0
    mean = f"{total / len(recent):,.1f}"
    return passed, f"{observed}; {mean} on average on the {len(recent)} accepted days before"


def _fresh(bound: Duration, seen: _Seen) -> tuple[bool, str]:
    """Whether the newest event of a partition is near enough to its end; no event is near."""
    if seen.measure is None:
        return False, "no event"
    newest = EPOCH + dt.timedelta(microseconds=seen.measure)
    before_end = complete_at(seen.partition) - newest
    return before_end <= bound.timedelta(), f"the newest event at {newest:%Y-%m-%d %H:%M:%S}"
