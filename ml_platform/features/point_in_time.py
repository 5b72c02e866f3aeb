"""Builds the SQL that answers, for each entity row at its time, each feature view's newest usable row.

One `ASOF LEFT JOIN` per view does the work. It takes the last row at or before a time, so it is exact only if
every row of a view has one moment from which it is the answer. `known_from` is that moment: the event time,
later by what the view needs to become available, and never before the row was created when the read is as
known at the entity's time. A row whose moment comes when a row of a later event time is already there can
never be an answer and is taken out before the join. Only rows that tie with another one or were created late
need that work; `delays_sql` and `ties_sql` find out whether there are any.

Everything is integer microseconds since 1970 in UTC: source times are rounded up and entity times down, so
that no later row is ever seen.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

ENTITY_ROWS = "entity_rows"
"""The entity relation: `r` the row number, `t` its time in microseconds, its join keys, and what is carried."""

RANGE_TIME = "event_timestamp"
"""The time column of entity rows that are made from a range."""


@dataclass(frozen=True)
class Feature:
    """One column of a view, under the name and in the type it has in the answer (None: as it is)."""

    column: str
    name: str
    type: str | None = None


@dataclass(frozen=True)
class ViewRead:
    """What to read of one feature view; lengths of time in microseconds.

    `relation` is a SELECT text, `columns` its columns with their DuckDB types, and `keys` pairs a column of the
    relation with a column of the entity rows. With `known_at`, a row created after the entity row's time, or
    without a created time, does not exist for it. A `ttl` of 0 is unlimited.
    """

    relation: str
    columns: Mapping[str, str]
    keys: tuple[tuple[str, str], ...]
    features: tuple[Feature, ...]
    event_time: str
    created_time: str | None = None
    ttl: int = 0
    available_after: int = 0
    known_at: bool = False

    @property
    def cuts_created(self) -> bool:
        """Whether created times decide which rows may be seen."""
        return self.known_at and self.created_time is not None


@dataclass(frozen=True)
class Times:
    """First and last time in question, in microseconds (None: open); source rows outside are not read."""

    first: int | None
    last: int | None


@dataclass(frozen=True)
class RowOrder:
    """What a scan found in a view's rows.

    Every row is known `delay` microseconds after its event, unless `late` says that this differs between rows;
    `ties` says that some rows share keys, event time and the moment they are known.
    """

    delay: int
    late: bool
    ties: bool


def delays_sql(view: ViewRead, times: Times) -> str:
    """SQL for one row: least and greatest time from event to creation, null if no row has a created time."""
    rows = _rows(view, RowOrder(delay=0, late=False, ties=False), times)
    return f"SELECT min(created - ts), max(created - ts) FROM ({rows})"


def ties_sql(view: ViewRead, order: RowOrder, times: Times) -> str:
    """SQL for one row: whether some rows may share keys, event time and the moment they are known.

    Counts distinct hashes, which is cheaper than grouping; equal hashes of different rows only cost time.
    """
    hashed = ", ".join([*_keys(view), "ts", *(["known_from"] if order.late else [])])
    rows = f"WITH rows AS NOT MATERIALIZED ({_rows(view, order, times)})"
    return f"{rows} SELECT (SELECT count(*) FROM (SELECT DISTINCT hash({hashed}) FROM rows)) < count(*) FROM rows"


def row_order(view: ViewRead, least: int | None, greatest: int | None) -> RowOrder:
    """How the view's rows are ordered if none tie, from the row that `delays_sql` gave."""
    if not view.cuts_created or least is None or greatest is None or greatest <= view.available_after:
        return RowOrder(delay=view.available_after, late=False, ties=False)
    if least == greatest:
        return RowOrder(delay=greatest, late=False, ties=False)
    return RowOrder(delay=view.available_after, late=True, ties=False)


def join_sql(
    views: Sequence[tuple[ViewRead, RowOrder]],
    *,
    times: Times,
    key_columns: Mapping[str, str],
    carried: Sequence[str] = (),
    ordered: bool = True,
) -> str:
    """SQL of the point-in-time join of the entity rows with the views, by default in the entity rows' order.

    `key_columns` names the column of the entity rows that holds each join key. The answer has the row number
    `r`, the carried columns of the entity rows, then `f0`, `f1`, … for the features of all views in order.
    """
    parts = [
        part for i, (view, order) in enumerate(views) for part in _view_parts(f"v{i}", view, order, times)
    ]
    answers = [answer for i, (view, _) in enumerate(views) for answer in _answers(f"v{i}", view)]
    named = [f"{answer} AS f{n}" for n, answer in enumerate(answers)]
    selected = ", ".join(["e.r", *(f"e.{name}" for name in carried), *named])
    joins = "".join(
        f"\nASOF LEFT JOIN v{i} ON {_condition(f'v{i}', view, key_columns)}"
        for i, (view, _) in enumerate(views)
    )
    head = "WITH " + ",\n".join(parts) + "\n" if parts else ""
    tail = "\nORDER BY e.r" if ordered else ""
    return f"{head}SELECT {selected}\nFROM {ENTITY_ROWS} e{joins}{tail}"


def range_sql(views: Sequence[ViewRead], times: Times) -> str:
    """SQL of one entity row per key and event time that any of the views has within the times, both ends included.

    A row of a view without some key has null there.
    """
    selects = []
    for view in views:
        keys = [f"{quoted(column)} AS {quoted(name)}" for column, name in view.keys]
        present = [f"{quoted(column)} IS NOT NULL" for column, _ in view.keys]
        columns = ", ".join([f"make_timestamptz({_event_time(view)}) AS {RANGE_TIME}", *keys])
        where = " AND ".join([*present, *_within(view, times)]) or "true"
        selects.append(f"SELECT DISTINCT {columns} FROM ({view.relation}) WHERE {where}")
    return "SELECT * FROM (" + " UNION BY NAME ".join(selects) + ") ORDER BY ALL"


def rows_sql(view: ViewRead, times: Times, *, latest: bool) -> str:
    """SQL of a view's rows within the times, both ends included; `latest` keeps the newest row of each key.

    Columns are the features, under their names, in order. Newest is by event time, then as in `newest_first`.
    """
    columns = ", ".join(f"{_typed(feature)} AS {quoted(feature.name)}" for feature in view.features)
    where = " AND ".join(_within(view, times)) or "true"
    query = f"SELECT {columns} FROM ({view.relation}) WHERE {where}"
    if not latest:
        return query
    partition = "PARTITION BY " + ", ".join(quoted(column) for column, _ in view.keys) if view.keys else ""
    ranked = ", ".join([f"{_event_time(view)} DESC", *newest_first(view)])
    return f"{query} QUALIFY row_number() OVER ({partition} ORDER BY {ranked}) = 1"


def newest_first(view: ViewRead) -> list[str]:
    """How rows of one key and event time are ranked: greatest created time first, a missing one last.

    A full tie goes to the greater row, compared column by column in the order of the column names, nulls last:
    it depends on the rows alone, not on files, threads or the features asked for.
    """
    whole_row = [f"{quoted(column)} DESC NULLS LAST" for column in sorted(view.columns)]
    return [f"{_created_time(view)} DESC NULLS LAST", *whole_row]


def microseconds(column: str, kind: str, *, up: bool) -> str:
    """SQL for a time as microseconds since 1970 in UTC; a finer time is rounded up, or else down.

    Times without a zone, dates, and text without an offset are read as UTC.
    """
    if kind in ("TIMESTAMP_NS", "TIMESTAMPTZ_NS"):
        nanos = f"epoch_ns({column})"
        step = f"+ CAST({nanos} % 1000 > 0 AS BIGINT)" if up else f"- CAST({nanos} % 1000 < 0 AS BIGINT)"
        return f"({nanos} // 1000 {step})"
    if kind in ("TIMESTAMP", "TIMESTAMP WITH TIME ZONE"):
        return f"epoch_us({column})"
    return f"epoch_us(CAST({column} AS TIMESTAMPTZ))"


def quoted(name: str) -> str:
    """A name as a SQL identifier, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def _view_parts(name: str, view: ViewRead, order: RowOrder, times: Times) -> Iterable[str]:
    """Common table expressions that end in one called `name`: rows of which each is the answer at `known_from`."""
    all_rows = _rows(view, order, times, whole=order.ties)
    if order.ties:
        yield f"{name}_rows AS NOT MATERIALIZED ({all_rows})"
        yield from _without_ties(name, view)
        all_rows = f"FROM {name}_untied"
    if not order.late:
        yield f"{name} AS NOT MATERIALIZED ({all_rows})"
        return
    yield f"{name}_all AS NOT MATERIALIZED ({all_rows})"
    yield from _without_overtaken(name, view)


def _without_ties(name: str, view: ViewRead) -> Iterable[str]:
    """Of rows with the same keys, event time and moment known, keep the one that ranks first."""
    columns = ", ".join(_columns(view))
    same = ", ".join([*_keys(view), "ts", "known_from"])
    yield f"{name}_ties AS (SELECT {same} FROM {name}_rows GROUP BY {same} HAVING count(*) > 1)"
    ranked = ", ".join(
        ["created DESC NULLS LAST", *(f"o{i} DESC NULLS LAST" for i in range(len(view.columns)))]
    )
    first = f"QUALIFY row_number() OVER (PARTITION BY {same} ORDER BY {ranked}) = 1"
    yield (
        f"{name}_untied AS NOT MATERIALIZED ("
        f"SELECT {columns} FROM {name}_rows ANTI JOIN {name}_ties USING ({same}) UNION ALL "
        f"SELECT {columns} FROM {name}_rows SEMI JOIN {name}_ties USING ({same}) {first})"
    )


def _without_overtaken(name: str, view: ViewRead) -> Iterable[str]:
    """Take out late rows that become known when a row of a later event time already is.

    A row in time is never overtaken: whatever has a later event time is known later. So only late rows are
    compared, with each other in a window and with the rows in time in an ASOF join.
    """
    keys = _keys(view)
    late = f"known_from > ts + {view.available_after}"
    newest = f"max(ts) OVER (PARTITION BY {', '.join(keys)} ORDER BY known_from RANGE UNBOUNDED PRECEDING)"
    yield f"{name}_late AS (FROM {name}_all WHERE {late} QUALIFY ts = {newest})"
    yield f"{name}_in_time AS NOT MATERIALIZED (FROM {name}_all WHERE NOT {late})"
    same_key = " AND ".join(f"l.{key} = s.{key}" for key in keys)
    columns = ", ".join(_columns(view))
    yield (
        f"{name} AS NOT MATERIALIZED (SELECT {columns} FROM {name}_in_time UNION ALL "
        f"SELECT {', '.join(f'l.{column}' for column in _columns(view))} FROM {name}_late l "
        f"ASOF LEFT JOIN {name}_in_time s ON {same_key} AND l.known_from >= s.known_from "
        f"WHERE s.ts IS NULL OR s.ts <= l.ts)"
    )


def _rows(view: ViewRead, order: RowOrder, times: Times, *, whole: bool = False) -> str:
    """SELECT of the rows that could be an answer: keys, times, features, and all columns if `whole`."""
    keys = [f"{quoted(column)} AS k{i}" for i, (column, _) in enumerate(view.keys)] or ["0 AS k0"]
    event, created = _event_time(view), _created_time(view)
    known = f"greatest({event} + {order.delay}, {created})" if order.late else f"{event} + {order.delay}"
    moments = [f"{event} AS ts", f"{created} AS created", f"{known} AS known_from"]
    features = [f"{_typed(feature)} AS f{i}" for i, feature in enumerate(view.features)]
    ranking = [f"{quoted(column)} AS o{i}" for i, column in enumerate(sorted(view.columns))] if whole else []
    present = [f"{quoted(column)} IS NOT NULL" for column, _ in view.keys] + [
        f"{quoted(view.event_time)} IS NOT NULL"
    ]
    where = " AND ".join([*present, *_usable(view, times)])
    return f"SELECT {', '.join([*keys, *moments, *features, *ranking])} FROM ({view.relation}) WHERE {where}"


def _usable(view: ViewRead, times: Times) -> list[str]:
    """Conditions that every row must pass to be an answer at any time in question."""
    first = times.first - view.ttl if view.ttl and times.first is not None else None
    last = times.last - view.available_after if times.last is not None else None
    conditions = _within(view, Times(first, last))
    if view.cuts_created:
        created = _created_time(view)
        conditions.append(f"{created} IS NOT NULL" if times.last is None else f"{created} <= {times.last}")
    return conditions


def _within(view: ViewRead, times: Times) -> list[str]:
    """Conditions on the event time; on the bare column where that lets whole files be skipped."""
    bare = {"TIMESTAMP": "make_timestamp", "TIMESTAMP WITH TIME ZONE": "make_timestamptz"}
    make = bare.get(view.columns[view.event_time])
    column = quoted(view.event_time) if make else _event_time(view)
    bounds = [(">=", times.first), ("<=", times.last)]
    return [f"{column} {sign} {make or ''}({bound})" for sign, bound in bounds if bound is not None]


def _answers(name: str, view: ViewRead) -> list[str]:
    """One expression per feature: its value, or null where the newest row is older than the ttl."""
    values = [f"{name}.f{i}" for i in range(len(view.features))]
    if not view.ttl:
        return values
    return [f"CASE WHEN {name}.ts >= e.t - {view.ttl} THEN {value} END" for value in values]


def _condition(name: str, view: ViewRead, key_columns: Mapping[str, str]) -> str:
    keys = [f"e.{key_columns[column]} = {name}.k{i}" for i, (_, column) in enumerate(view.keys)]
    return " AND ".join([*keys, f"e.t >= {name}.known_from"])


def _columns(view: ViewRead) -> list[str]:
    return [*_keys(view), "ts", "created", "known_from", *(f"f{i}" for i in range(len(view.features)))]


def _keys(view: ViewRead) -> list[str]:
    return [f"k{i}" for i in range(len(view.keys) or 1)]


def _event_time(view: ViewRead) -> str:
    return microseconds(quoted(view.event_time), view.columns[view.event_time], up=True)


def _created_time(view: ViewRead) -> str:
    if view.created_time is None:
        return "CAST(NULL AS BIGINT)"
    return microseconds(quoted(view.created_time), view.columns[view.created_time], up=True)


def _typed(feature: Feature) -> str:
    column = quoted(feature.column)
    return column if feature.type is None else f"CAST({column} AS {feature.type})"
