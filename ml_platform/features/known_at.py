"""Windows where events came late or were corrected: each row counts what was known at its time.

Apart from `compute.py`, which this completes, because most views never need it. A row that counts an event is
`affected` if its time lies between the event and the moment since when the event is known as it is today; the
measures of these rows are counted one by one, over the versions that were known then.
"""

from collections.abc import Sequence

from sqlglot import exp

from ml_platform.features.aggregation import Stream
from ml_platform.features.compute import (
    Step,
    WindowQuery,
    answers,
    inside,
    label_value,
    measured,
    parts,
    snapshot_rows,
    source_rows,
    today,
    windowed_rows,
)
from ml_platform.features.measures import Measure
from ml_platform.lake import dialect
from ml_platform.lake.dialect import NEVER, Frame, column, greatest, least, number, table


def all_rows(query: WindowQuery) -> list[Step]:
    """Steps up to `answers`: the measures of every row, over what was known at its time."""
    history = [
        *source_rows(query),
        *_lifetimes("event"),
        *(_lifetimes("label") if "labels" in query.streams else []),
    ]
    names = [column(name) for name in (*query.carried, *query.measure_names)]
    right = exp.select(exp.Star()).from_(answers(query).subquery("w"))
    right = right.join(table("affected"), using=[*query.identity], join_type="anti")
    counted = exp.select(*names).from_(table("one_by_one"))
    windowed = windowed_rows(query)
    rows = [("answered", _answered_events(query))] if query.by_event else snapshot_rows(query)
    mine = {name for name, _ in rows}
    return [
        *history,
        ("today", _today(query)),
        *rows,
        *_affected(query),
        *(step for step in windowed if step[0] not in mine),
        *_one_by_one(query),
        ("answers", exp.union(right, counted, distinct=False)),
    ]


def prompt_sql(query: WindowQuery) -> list[str]:
    """One SQL question for each source: has every id one version, known before any row that counts it?

    Versions of an id differ in how late after the event they are known, so equal lags mean one version each.
    """
    questions: list[str] = []
    for stream, (name, step) in zip(query.streams_read, source_rows(query), strict=True):
        lag = column("known") - column("us")
        even = exp.Min(this=lag).eq(exp.Max(this=lag.copy()))
        late = _first(query, query.reach(stream)) < column("known")
        none_late = exp.not_(exp.LogicalOr(this=late))
        question = exp.select(exp.Coalesce(this=exp.and_(even, none_late), expressions=[exp.true()]))
        questions.append(dialect.printed(question.from_(table(name)).with_(name, as_=step)))
    return questions


def _lifetimes(kind: str) -> list[Step]:
    """When each version is replaced, and since when an id is known as it is today.

    Of an id with several versions at least one is known later after its event than the promptest version of all.
    """
    changed, lag = f"{kind}_changed", column("known") - column("us")
    promptest = exp.select(exp.Min(this=lag.copy())).from_(table(f"{kind}_rows")).subquery()
    later = exp.select(column("id")).from_(table(f"{kind}_rows")).where(lag > promptest)
    several = (
        exp.select(column("id"))
        .from_(table(f"{kind}_rows"))
        .where(exp.In(this=column("id"), query=later.subquery()))
    )
    several = several.group_by(column("id")).having(exp.Count(this=exp.Star()) > number(1))
    once = {
        "replaced": number(NEVER),
        "settled": column("known"),
        "is_first": exp.true(),
        "is_now": exp.true(),
        "several": exp.false(),
    }
    order = [dialect.ascending(column("known"))]
    following = exp.Lead(this=column("known"), offset=number(1), default=number(NEVER))
    replaced = dialect.among(following, "id", order)
    more = {
        "replaced": replaced,
        "settled": dialect.among(exp.Max(this=column("known")), "id"),
        "is_first": dialect.among(exp.RowNumber(), "id", order).eq(1),
        "is_now": replaced.copy().eq(number(NEVER)),
        "several": exp.true(),
    }
    versions = [
        exp.select(exp.Star(), *(value.as_(name) for name, value in columns.items()))
        .from_(table(f"{kind}_rows"))
        .join(table(changed), using=["id"], join_type=join)
        for columns, join in ((once, "anti"), (more, "semi"))
    ]
    return [(changed, several), (f"{kind}_versions", exp.union(*versions, distinct=False))]


def _today(query: WindowQuery) -> exp.Select:
    """Every event and label as they are known today, and since when they are."""
    labels = exp.select(exp.Star()).from_(table("label_versions")).where(column("is_now")).subquery("l")
    select = today(query, events=table("event_versions", "e"), labels=labels).where(column("is_now", "e"))
    select = select.select(column("settled", "e"), column("several", "e"))
    if "labels" in query.streams:
        select = select.select(greatest(column("settled", "e"), column("settled", "l")).as_("label_settled"))
    return select


def _answered_events(query: WindowQuery) -> exp.Query:
    """Every event of the days once: as it was known at its time, or as it was first known if that was later."""
    own = [column(name) for name in query.carried]
    named = [dialect.is_not_null(column(key)) for key in query.key]
    inside = exp.and_(column("us") >= number(query.first), *named)
    once = exp.select(*own).from_(table("event_versions")).where(inside, exp.not_(column("several")))
    in_time = exp.case().when(column("known") <= column("us"), column("known"))
    order = [dialect.descending(in_time), dialect.ascending(column("known"))]
    more = exp.select(*(c.copy() for c in own)).from_(table("event_versions"))
    more = more.where(column("us") >= number(query.first), column("several"))
    chosen = dialect.among(exp.RowNumber(), "id", order).eq(1)
    return exp.union(once, more.qualify(exp.and_(chosen, *(found.copy() for found in named))), distinct=False)


def _affected(query: WindowQuery) -> list[Step]:
    """The rows that windows over today's history may get wrong."""
    late: exp.Query = _late(query, "event_versions", "settled", query.reach())
    if "labels" in query.streams:
        late = exp.union(late, _late(query, "today", "label_settled", query.reach("labels")), distinct=False)
    on = exp.and_(
        dialect.same(query.key, "r", "l"),
        column("us", "r") >= column("since", "l"),
        column("us", "r") < column("until", "l"),
    )
    if query.by_event:  # an event is always known to itself
        on = on.and_(column("id", "r").neq(column("id", "l")).or_(column("several", "l")))
    rows = exp.select(*(column(name, "r") for name in query.carried)).from_(table("answered", "r"))
    return [("late", late), ("affected", rows.join(table("late", "l"), on=on, join_type="semi"))]


def _late(query: WindowQuery, relation: str, settled: str, reach: Frame) -> exp.Select:
    """Times, per key, at which windows count something that was not known then, or not as it is today."""
    since = column("us") + number(reach.nearest)
    until = least(column(settled), column("us") + number(reach.far + 1))
    first = _first(query, reach)
    own = [column(name) for name in ("id", *query.key, "several")]
    select = exp.select(*own, since.as_("since"), until.as_("until"))
    return select.from_(table(relation)).where(first < until.copy())


def _first(query: WindowQuery, reach: Frame) -> exp.Expr:
    """The first time at which a row can count an event."""
    since = column("us") + number(reach.nearest)
    return since if query.by_event else dialect.next_end(since, query.period)


def _one_by_one(query: WindowQuery) -> list[Step]:
    """The measures of affected rows, over the versions that were known at their time."""
    steps: list[Step] = []
    if "events" in query.streams:
        steps.append(("counted_events", _counted(query, "events", "event_versions")))
    if "labels" in query.streams:
        steps += [("labelled", _labelled(query)), ("counted_labels", _counted(query, "labels", "labelled"))]
    first, *others = [name for name, _ in steps if name.startswith("counted")]
    values = [_both(measure, query.streams).as_(measure.name) for measure in query.measures.all]
    select = exp.select(*(column(name, first) for name in query.carried), *values).from_(table(first))
    for name in others:
        select = select.join(table(name), using=[*query.identity])
    return [*steps, ("one_by_one", select)]


def _both(measure: Measure, streams: Sequence[Stream]) -> exp.Expr:
    """A measure from what each stream that it has a part of was counted to."""
    found = [column(measure.name, f"counted_{s}") for s in streams if s in measure.part.streams()]
    return found[0] if len(found) == 1 else dialect.added([dialect.or_zero(one) for one in found])


def _counted(query: WindowQuery, stream: Stream, versions: str) -> exp.Select:
    """Each affected row with what one stream adds to each measure."""
    reach, time = query.reach(stream), column("us", "r")
    known = exp.and_(column("known", "e") <= time, column("replaced", "e") > time.copy())
    if not reach.open:  # an event is in its own window, however late it was known
        itself = exp.and_(column("id", "e").eq(column("id", "r")), column("is_first", "e"))
        known = known.or_(itself.and_(column("known", "e") > time.copy()))
    on = exp.and_(dialect.same(query.key, "e", "r"), inside(reach, column("us", "e"), time), known)
    added = {part.alias: part.this for part in parts(query, label=_of_event, stream=stream)}
    own = [column(name, "r") for name in query.carried]
    select = exp.select(*own, *measured(query, added, time, "e")).from_(table("affected", "r"))
    return select.join(table(versions, "e"), on=on, join_type="left").group_by(*(c.copy() for c in own))


def _of_event(name: str) -> exp.Expr:
    return column(name, "e")


def _labelled(query: WindowQuery) -> exp.Select:
    """Versions of the labelled events of affected keys: known when both are, replaced when either is."""
    known = greatest(column("known", "e"), column("known", "l"))
    replaced = least(column("replaced", "e"), column("replaced", "l"))
    arguments = query.measures.arguments("labels")
    taken = dict.fromkeys(label_value(a.column).as_(a.column) for a in arguments)
    taken |= dict.fromkeys(column(a.condition, "e") for a in arguments if a.where)
    own = [column(name, "e") for name in ("id", *query.key, "us")]
    select = exp.select(*own, known.as_("known"), replaced.as_("replaced"), *taken)
    select = select.from_(table("event_versions", "e")).join(table("label_versions", "l"), using=["id"])
    select = select.join(table("affected", "r"), on=dialect.same(query.key, "e", "r"), join_type="semi")
    return select.where(known.copy() < replaced.copy())
