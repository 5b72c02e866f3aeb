"""A view's windowed aggregates as one query, exact under both times.

If a look at the sources says that all that any row counts was known in time, `compute` has the whole query; if
events came late or were corrected, `known_at` finds the rows that this concerns and counts them one by one.
"""

from sqlglot import exp

from ml_platform.features.compute import WindowQuery, prompt_rows
from ml_platform.features.known_at import all_rows
from ml_platform.kernel.partitions import DAILY
from ml_platform.lake import dialect
from ml_platform.lake.dialect import column, greatest, number, table


def view_sql(query: WindowQuery) -> str:
    """SQL of the view's rows by partition and keys: keys, event id if rows are events, both times, features, partition.

    Counts are BIGINT and zero when idle; sums, means, deviations and ratios are DOUBLE, other values of their
    column's type, and all of these null when there is nothing. `event_timestamp` is the row's time, and
    `created_timestamp` too, but for an event that was known later.
    """
    found = prompt_rows(query) if query.prompt else all_rows(query)
    select = _features(query)
    for name, step in found:
        select.with_(name, as_=step, copy=False)
    return dialect.printed(select)


def _in_order(query: WindowQuery) -> exp.Expr:
    """`answers` by partition, keys, id: ordered while its rows are narrow; what is selected of it keeps the order."""
    partition = dialect.whole(column("us"), query.period) if query.by_event else column("us")
    order = [partition, *map(column, query.key), *([column("id")] if query.by_event else [])]
    rows = exp.select(exp.Star()).from_(table("answers"))
    return rows.order_by(*(dialect.ascending(value) for value in order)).subquery("ordered")


def _features(query: WindowQuery) -> exp.Select:
    """The view's columns from `answers`, in their order."""
    own = [column(key).as_(name) for key, name in zip(query.key, query.entity_keys, strict=True)]
    own += [column("id").as_(query.event_id)] if query.by_event else []
    created = greatest(column("us"), column("known")) if query.known_later else column("us")
    times = [
        dialect.time_of(column("us")).as_("event_timestamp"),
        dialect.time_of(created).as_("created_timestamp"),
    ]
    values = [query.measures.value(aggregate).as_(aggregate.name) for aggregate in query.aggregates]
    time = column("us") if query.by_event else column("us") - number(query.period)
    partition = dialect.date_of(time) if query.cadence == DAILY else dialect.hour_of(time)
    numbers: exp.Expr = _in_order(query)
    if unpacked := query.measures.unpacked():
        numbers = exp.select(exp.Star(), *unpacked).from_(numbers).subquery("numbers")
    select = exp.select(*own, *times, *values, partition.as_(query.cadence.column)).from_(numbers)
    if not query.ratios:
        return select
    ratios = [dialect.ratio(column(r.numerator), column(r.denominator)).as_(r.named) for r in query.ratios]
    names = [found.alias for found in (*own, *times, *values)]
    outer = exp.select(*(column(name) for name in names), *ratios, column(query.cadence.column))
    return outer.from_(select.subquery("valued"))
