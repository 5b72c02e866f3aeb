"""The measures of every row of a view, over history as it is known today.

Windows run over days, or hours, that were added up before, where all windows are whole ones; else event by event.
That is right for rows at whose time all that they count was known as it is today; `known_at` has what else is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from sqlglot import exp

from ml_platform.features.aggregation import Aggregate, Ratio, Stream
from ml_platform.features.measures import Argument, Measures, bucketable, windows
from ml_platform.kernel.partitions import DAILY, Cadence
from ml_platform.lake import dialect
from ml_platform.lake.dialect import Frame, column, greatest, is_not_null, number, table
from ml_platform.lake.predicates import predicate

Step = tuple[str, exp.Query]
OTHER_TIME = "a label with its event's time is required; another time has the label of"


@dataclass(frozen=True)
class WindowQuery:
    """One view over a range of partitions: which aggregates, from which relations, for which rows.

    `events`, `labels` and `keys` name relations of versions: of events (entity keys, event id, both times, the
    columns that are aggregated), of their labels (event id, both times, columns), and of all history (entity keys,
    both times). `first` and `last` are the times, in microseconds, between which the partitions lie. With accuracy
    `snapshot` there is a row for every end of a partition and all keys that were seen together by then; with `event`
    one for every event. An event that lacks a key is nobody's. `prompt` says that every event and label has one
    version, known before any row that counts it; `at_once` that moreover every event was known when it happened.
    """

    entity_keys: tuple[str, ...]
    event_id: str
    accuracy: Literal["snapshot", "event"]
    aggregates: tuple[Aggregate, ...]
    ratios: tuple[Ratio, ...]
    events: str
    labels: str | None
    keys: str
    first: int
    last: int
    prompt: bool = False
    at_once: bool = False
    cadence: Cadence = DAILY

    @cached_property
    def measures(self) -> Measures:
        return Measures(self.aggregates)

    @property
    def by_event(self) -> bool:
        return self.accuracy == "event"

    @property
    def period(self) -> int:
        """Microseconds from one snapshot to the next."""
        return self.cadence.microseconds

    @property
    def one_snapshot(self) -> bool:
        """Whether all rows are of one time."""
        return not self.by_event and self.last - self.first == self.period

    @property
    def by_period(self) -> bool:
        """Whether days, or hours, are added up before windows are."""
        return not self.by_event and bucketable(self.aggregates, self.period)

    @property
    def streams(self) -> list[Stream]:
        return [s for s in ("events", "labels") if any(a.stream == s for a in self.aggregates)]

    @property
    def streams_read(self) -> list[Stream | None]:
        """What each relation of versions is read for: events for all windows (labels belong to them), and labels."""
        return [None, "labels"] if "labels" in self.streams else [None]

    @property
    def key(self) -> list[str]:
        """What the entity keys are called within the query, in their order."""
        return [f"key{i}" for i in range(len(self.entity_keys))]

    @property
    def named_keys(self) -> list[exp.Expr]:
        """The entity keys of a relation of versions, as they are called within the query."""
        return [column(name).as_(key) for name, key in zip(self.entity_keys, self.key, strict=True)]

    @property
    def carried(self) -> list[str]:
        """What is known of a row of the answer, beside its measures."""
        if not self.by_event:
            return [*self.key, "us"]
        return ["id", *self.key, "us", *(["known"] if self.known_later else [])]

    @property
    def known_later(self) -> bool:
        """Whether a row may be of an event that was known only after it happened."""
        never = self.at_once or (self.prompt and any(a.closed for a in self.aggregates))
        return self.by_event and not never

    @property
    def identity(self) -> list[str]:
        """The columns that tell the rows of the answer apart."""
        return ["id"] if self.by_event else [*self.key, "us"]

    @property
    def part_names(self) -> list[str]:
        return [part.name for part in self.measures.parts]

    @property
    def measure_names(self) -> list[str]:
        return [measure.name for measure in self.measures.all]

    def reach(self, stream: Stream | None = None) -> Frame:
        """The window that covers all windows of a stream, or of both."""
        mine = [a for a in self.aggregates if stream in (None, a.stream)]
        return Frame(
            max(a.far for a in mine), min(a.near for a in mine), open=not any(a.closed for a in mine)
        )


def prompt_rows(query: WindowQuery) -> list[Step]:
    """Steps up to `answers`: the measures of every row, over history as it is known today."""
    rows = source_rows(query)
    now = today(query, events=table("event_rows", "e"), labels=table("label_rows", "l"))
    return [*rows, ("today", now), *windowed_rows(query), ("answers", answers(query))]


def source_rows(query: WindowQuery) -> list[Step]:
    """Versions of events, and of labels if some are aggregated, with what arguments need."""
    own = [column(a.column).as_(a.column) for a in query.measures.arguments("events")]
    own += [predicate(a.where).as_(a.condition) for a in query.measures.arguments() if a.where]
    events = _versions(query.events, query.event_id).select(*query.named_keys, *dict.fromkeys(own))
    steps: list[Step] = [("event_rows", events)]
    if "labels" in query.streams:
        taken = dict.fromkeys(column(a.column).as_(a.column) for a in query.measures.arguments("labels"))
        steps.append(("label_rows", _versions(str(query.labels), query.event_id).select(*taken)))
    return steps


def _versions(relation: str, event_id: str) -> exp.Select:
    event, created = dialect.micros(column("event_timestamp")), dialect.micros(column("created_timestamp"))
    return exp.select(column(event_id).as_("id"), event.as_("us"), created.as_("known")).from_(
        table(relation)
    )


def today(query: WindowQuery, *, events: exp.Expr, labels: exp.Expr) -> exp.Select:
    """Every event with its label, aliased e and l, and what it adds to each part."""
    own = [column(name, "e") for name in ("id", *query.key, "us", "known")]
    select = (
        exp.select(*own, *parts(query, label=label_value))
        .from_(events)
        .where(*(is_not_null(column(key, "e")) for key in query.key))
    )
    return select.join(labels, using=["id"], join_type="left") if "labels" in query.streams else select


def parts(
    query: WindowQuery, *, label: Callable[[str], exp.Expr], stream: Stream | None = None
) -> list[exp.Expr]:
    """What one event e adds to each part, of one stream or of both; a column counts where its condition holds.

    `label` gives a column of the event's label.
    """
    values: dict[Argument, exp.Expr] = {}
    for argument in query.measures.arguments(stream):
        of_label = argument.stream == "labels"
        value = label(argument.column) if of_label else column(argument.column, "e")
        if argument.where:
            value = exp.case().when(column(argument.condition, "e"), value)
        values[argument] = value
    found = [part for part in query.measures.parts if stream is None or stream in part.streams()]
    return [part.of(values).as_(part.name) for part in found]


def label_value(name: str) -> exp.Expr:
    """A column of a label l of an event e: an error where their times differ, since windows go by the event's."""
    refused = dialect.refused(OTHER_TIME, column("id", "e"))
    return exp.case().when(column("us", "l").neq(column("us", "e")), refused).else_(column(name, "l"))


def snapshot_rows(query: WindowQuery) -> list[Step]:
    """`answered`: every combination of keys at every end of a partition from which on it is known."""
    event, created = dialect.micros(column("event_timestamp")), dialect.micros(column("created_timestamp"))
    happened_and_known = greatest(
        event + number(1), created
    )  # an event at an end is of the partition that begins
    since = dialect.next_end(exp.Min(this=happened_and_known), query.period)
    keys = list(map(column, query.entity_keys))
    known = exp.select(*query.named_keys, since.as_("since")).from_(table(query.keys))
    known = known.where(*map(is_not_null, keys)).group_by(*(key.copy() for key in keys))
    ends = exp.select(dialect.times_from_to(query.first + query.period, query.last, query.period).as_("us"))
    rows = exp.select(*map(column, query.key), column("us")).from_(table("known_keys"))
    return [
        ("known_keys", known),
        ("ends", ends),
        ("answered", rows.join(table("ends"), on=column("us") >= column("since"))),
    ]


def windowed_rows(query: WindowQuery) -> list[Step]:
    """`windowed`: all windows of the rows that are answered, and of those that windows run over."""
    if query.one_snapshot:
        return [*snapshot_rows(query), *_added_up(query)]
    shift = query.period if query.by_period else 0
    order: exp.Expr = column("us") if query.by_period else _in_time()
    over = [
        dialect.over(m.part.aggregate(column(m.part.name), order.copy()), m.window).as_(m.name)
        for m in query.measures.all
    ]
    own = [column(name) for name in query.carried if name != "us"]
    time = column("us") + number(shift) if shift else column("us")
    select = exp.select(*own, time.as_("at"), column("answers"), *over).from_(table("in_order"))
    frames = [
        dialect.window(
            name, Frame(f.far - shift, f.near, open=f.open and not shift), by=query.key, order="us"
        )
        for name, f in windows(query.measures.all).items()
    ]
    select.set("windows", frames)
    return [*_in_order(query), ("windowed", select)]


def _added_up(query: WindowQuery) -> list[Step]:
    """All windows of one time: each event is looked at once, and nothing has to be in order."""
    added = {name: column(name) for name in query.part_names}
    time = number(query.last)
    sums = exp.select(*map(column, query.key), *measured(query, added, time)).from_(table("today"))
    values = [column(name) for name in query.measure_names]
    rows = exp.select(*map(column, query.key), column("us").as_("at"), exp.true().as_("answers"), *values)
    return [  # no event is left out before it is looked at: a partition alone refuses what a range with it does
        ("sums", sums.group_by(*map(column, query.key))),
        ("windowed", rows.from_(table("answered")).join(table("sums"), using=[*query.key], join_type="left")),
    ]


def measured(
    query: WindowQuery, added: Mapping[str, exp.Expr], time: exp.Expr, of: str | None = None
) -> list[exp.Expr]:
    """The measures at a time; `added` has what an event adds to parts, and `of` names the relation of events."""
    return [
        dialect.counted(
            inside(m.frame, column("us", of), time), m.part.aggregate(added[m.part.name].copy(), _in_time(of))
        ).as_(m.name)
        for m in query.measures.all
        if m.part.name in added
    ]


def inside(frame: Frame, event: exp.Expr, time: exp.Expr) -> exp.Expr:
    """Whether an event lies in the window of a time."""
    end = time.copy() - number(frame.near) if frame.near else time.copy()
    before = event.copy() < end if frame.open else event.copy() <= end
    return exp.and_(event >= time.copy() - number(frame.far), before)


def _in_order(query: WindowQuery) -> list[Step]:
    """`in_order`: what windows run over, and among it the rows that are answered."""
    values = [column(name) for name in query.part_names]
    if query.by_event:
        in_range = column("us") >= number(query.first)
        own = [column(name) for name in query.carried]
        if query.prompt:
            return [("in_order", exp.select(*own, *values, in_range.as_("answers")).from_(table("today")))]
        answer = exp.not_(column("several")).and_(in_range).as_("answers")
        events = exp.select(*own, *values, answer).from_(table("today"))
        rows = _without_values(query).join(table("event_changed"), using=["id"], join_type="semi")
        return [("in_order", exp.union(events, rows, distinct=False))]
    if query.by_period:
        return [*snapshot_rows(query), *_periods_in_order(query)]
    own = [column(name) for name in (*query.key, "us", "id")]
    events = exp.select(*own, *values, exp.false().as_("answers")).from_(table("today"))
    rows = _without_values(query).select(exp.null().as_("id"))
    rows = exp.select(*(c.copy() for c in own), *(v.copy() for v in values), column("answers")).from_(
        rows.subquery("r")
    )
    return [*snapshot_rows(query), ("in_order", exp.union(events, rows, distinct=False))]


def _without_values(query: WindowQuery) -> exp.Select:
    """The answered rows as rows that add nothing to any window."""
    nothing = [exp.null().as_(name) for name in query.part_names]
    own = [column(name) for name in query.carried]
    return exp.select(*own, *nothing, exp.true().as_("answers")).from_(table("answered"))


def _periods_in_order(query: WindowQuery) -> list[Step]:
    """What the days, or hours, of all keys add up to, and those that end with an answered snapshot."""
    start = dialect.whole(column("us"), query.period) * number(query.period)
    sums = [part.aggregate(column(part.name), _in_time()).as_(part.name) for part in query.measures.parts]
    keys = list(map(column, query.key))
    periods = exp.select(*keys, start.as_("us"), *sums).from_(table("today"))
    before = column("us") - number(query.period)
    ending = exp.select(*map(column, query.key), before.as_("us"), exp.true().as_("answers"))
    values = [column(name) for name in query.part_names]
    answered = dialect.or_false(column("answers")).as_("answers")
    rows = exp.select(*map(column, query.identity), answered, *values)
    rows = rows.from_(ending.from_(table("answered")).subquery("a"))
    return [
        ("periods", periods.group_by(*map(column, query.key), start.copy())),
        ("in_order", rows.join(table("periods"), using=[*query.identity], join_type="full")),
    ]


def answers(query: WindowQuery) -> exp.Select:
    """The measures of the rows that are answered."""
    own = [column("at").as_("us") if name == "us" else column(name) for name in query.carried]
    values = [column(name) for name in query.measure_names]
    return exp.select(*own, *values).from_(table("windowed")).where(column("answers"))


def _in_time(table: str | None = None) -> exp.Expr:
    """The order of events: by time, those at the same time by their ids."""
    return exp.Tuple(expressions=[column("us", table), column("id", table)])
