"""Builds the SQL that answers, for each entity row at its time, each feature view's newest usable row.

One `ASOF LEFT JOIN` per view does the work. It takes the last row at or before a time, which is exact on rows
that `row_order` has made: each of them is the answer from one moment on, until the next one's.
"""

from collections.abc import Mapping, Sequence

from ml_platform.features.row_order import RowOrder, first_of_tied, newest_first, ordered_rows
from ml_platform.features.view_reads import Times, ViewRead, feature_sql
from ml_platform.lake.dialect import quoted

ENTITY_ROWS = "entity_rows"
"""The entity relation: row number `r` from 0, time `t` in microseconds, join keys, and what is carried."""

RANGE_TIME = "event_timestamp"
"""The time column of entity rows that are made from a range."""


def join_sql(
    views: Sequence[tuple[ViewRead, RowOrder]],
    *,
    times: Times,
    key_columns: Mapping[str, str],
    carried: Sequence[str] = (),
) -> str:
    """SQL of the point-in-time join of the entity rows with the views, in the entity rows' order.

    `key_columns` names the column of the entity rows that holds each join key. The answer has the row number
    `r`, the carried columns of the entity rows, then `f0`, `f1`, … for the features of all views in order.
    """
    named = [(f"v{i}", view, order) for i, (view, order) in enumerate(views)]
    parts = [part for name, view, order in named for part in ordered_rows(name, view, order, times)]
    answers = [answer for name, view, order in named for answer in _answers(name, view, order)]
    numbered = [f"{answer} AS f{n}" for n, answer in enumerate(answers)]
    selected = ", ".join(["e.r", *(f"e.{column}" for column in carried), *numbered])
    joins = [f"\nASOF LEFT JOIN {name} ON {_condition(name, view, key_columns)}" for name, view, _ in named]
    head = "WITH " + ",\n".join(parts) + "\n" if parts else ""
    return f"{head}SELECT {selected}\nFROM {ENTITY_ROWS} e{''.join(joins)}\nORDER BY e.r"


def answers_sql(view: ViewRead, order: RowOrder, times: Times) -> str:
    """SQL of the rows that the join looks among: `answer_columns`."""
    parts = ", ".join(ordered_rows("answers", view, order, times))
    return f"WITH {parts} SELECT {answer_columns(view)} FROM answers"


def winners_sql(view: ViewRead, order: RowOrder, tied: str, times: Times) -> str:
    """SQL of the rows that go first among rows that tie: `answer_columns`; `tied` is a relation of their columns."""
    return f"SELECT {answer_columns(view)} FROM ({first_of_tied(view, order, tied, times)})"


def answer_columns(view: ViewRead) -> str:
    """Keys `k0`…, event time `ts`, the moment `known_from`, and the features `f0`…."""
    return ", ".join([*view.key_names, "ts", "known_from", *view.feature_names])


def range_sql(views: Sequence[ViewRead], times: Times) -> str:
    """SQL of one entity row per key and event time that any view has within the times, both ends included.

    A row of a view without some key has null there.
    """
    selects = []
    for view in views:
        keys = [f"{quoted(column)} AS {quoted(name)}" for column, name in view.keys]
        columns = ", ".join([f"make_timestamptz({view.event_micros}) AS {RANGE_TIME}", *keys])
        where = " AND ".join([*view.keyed(), *view.within(times)]) or "true"
        selects.append(f"SELECT DISTINCT {columns} FROM ({view.relation}) WHERE {where}")
    return "SELECT * FROM (" + " UNION BY NAME ".join(selects) + ") ORDER BY ALL"


def rows_sql(view: ViewRead, times: Times, *, latest: bool) -> str:
    """SQL of a view's rows within the times, both ends included; `latest` keeps the newest row of each key.

    Columns are the features, under their names, in order. All rows come oldest first, so that whoever writes
    them in order ends with the newest. Newest is by event time, then as in `newest_first`.
    """
    columns = ", ".join(f"{feature_sql(feature)} AS {quoted(feature.name)}" for feature in view.features)
    where = " AND ".join(view.within(times)) or "true"
    rows = f"SELECT * FROM ({view.relation}) WHERE {where}"
    if not latest:
        return (
            f"SELECT {columns} FROM ({rows} ORDER BY {view.event_micros}, {view.created_micros} NULLS FIRST)"
        )
    partition = "PARTITION BY " + ", ".join(quoted(column) for column, _ in view.keys) if view.keys else ""
    ranked = ", ".join([f"{view.event_micros} DESC", *newest_first(view)])
    return f"SELECT {columns} FROM ({rows} QUALIFY row_number() OVER ({partition} ORDER BY {ranked}) = 1)"


def _answers(name: str, view: ViewRead, order: RowOrder) -> list[str]:
    """One expression per feature: its value, or null where the newest row is older than the ttl."""
    values = [f"{name}.{feature}" for feature in view.feature_names]
    if not view.ttl:
        return values
    fresh = f"{name}.ts >= e.t - {view.ttl}"
    if not order.late:  # the same condition on a column that the join has anyway
        fresh = f"{name}.known_from >= e.t - {view.ttl - order.delay}"
    return [f"CASE WHEN {fresh} THEN {value} END" for value in values]


def _condition(name: str, view: ViewRead, key_columns: Mapping[str, str]) -> str:
    keys = [f"e.{key_columns[column]} = {name}.k{i}" for i, (_, column) in enumerate(view.keys)]
    return " AND ".join([*keys, f"e.t >= {name}.known_from"])
