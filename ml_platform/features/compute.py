"""Windowed aggregates as of midnights, in one query per view, exact under both times.

An event version counts in the snapshot T when it is known at T (and not yet replaced) and its event time lies
in the window. Both are ranges of T, so each version adds to a window at one midnight and leaves it at another;
a running sum over the midnights gives every snapshot. Sums are decimals: order and look-back never change a bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_platform.features.spec import Feature
from ml_platform.kernel.partitions import PARTITION_COLUMN

_DAY_US = 86_400_000_000
_FIXED_POINT = "DECIMAL(38, 6)"
_NEVER = 2_000_000


@dataclass(frozen=True)
class SnapshotQuery:
    """What a view's snapshots are computed from.

    `events`, `labels` and `keys` are relations in SQL: versions of events, versions of their labels (or None),
    and every version's key and created time since the source began. `first` and `last` are partition days.
    """

    entity_key: str
    event_id: str
    features: Sequence[Feature]
    events: str
    labels: str | None
    keys: str
    first: str
    last: str


def snapshot_sql(query: SnapshotQuery) -> str:
    """SQL of all snapshot rows of the partitions first … last: one per key known by then, ordered by both.

    Columns: the key, event_timestamp and created_timestamp (both the snapshot's midnight), the features
    (counts BIGINT, zero when idle; sums and means DOUBLE, null when idle) and the partition day.
    """
    plain = [f for f in query.features if not f.of_label]
    labelled = [f for f in query.features if f.of_label]
    steps = [
        f"bounds AS (SELECT {_day_number(query.first)} AS t_first, {_day_number(query.last)} AS t_last)",
        f"event_versions AS ({_versions(query.events, query.event_id)})",
    ]
    deltas: list[str] = []
    if plain:
        steps.append(f"daily AS ({_daily(query, plain, 'event_versions')})")
        deltas += _deltas(query, plain, "daily")
    if labelled:
        steps += [
            f"label_versions AS ({_versions(str(query.labels), query.event_id)})",
            f"labelled AS ({_labelled(query, labelled)})",
            f"daily_labelled AS ({_daily(query, labelled, 'labelled')})",
        ]
        deltas += _deltas(query, labelled, "daily_labelled")
    key = _q(query.entity_key)
    sums = ", ".join(f"sum({name}) AS {name}" for name in _measures(query.features))
    running = ", ".join(
        f"sum(coalesce({name}, 0)) OVER running AS {name}" for name in _measures(query.features)
    )
    steps += [
        f"deltas AS (SELECT key, t, {sums} FROM ({' UNION ALL '.join(deltas)}) GROUP BY key, t)",
        f"known_keys AS (SELECT {key} AS key, min({_ceil_day('created_timestamp')}) AS t_known "
        f"FROM ({query.keys}) WHERE {key} IS NOT NULL GROUP BY 1)",
        "grid AS (SELECT key, unnest(range(greatest(t_known, t_first), t_last + 1)) AS t "
        "FROM known_keys, bounds WHERE t_known <= t_last)",
        f"totals AS (SELECT key, t, {running} FROM grid LEFT JOIN deltas USING (key, t) "
        "WINDOW running AS (PARTITION BY key ORDER BY t ROWS UNBOUNDED PRECEDING))",
    ]
    return f"WITH {', '.join(steps)}\n{_select(query)}"


def _select(query: SnapshotQuery) -> str:
    midnight = f"make_timestamptz(t * {_DAY_US})"
    columns = [
        f"key AS {_q(query.entity_key)}",
        f"{midnight} AS event_timestamp",
        f"{midnight} AS created_timestamp",
    ]
    columns += [f"{_value(feature)} AS {_q(feature.name)}" for feature in query.features]
    columns.append(f"(DATE '1970-01-01' + CAST(t - 1 AS INTEGER)) AS {PARTITION_COLUMN}")
    return f"SELECT {', '.join(columns)} FROM totals ORDER BY t, key"


def _value(feature: Feature) -> str:
    count, total = _count(feature), _sum(feature)
    if feature.function == "count":
        return f"CAST({count} AS BIGINT)"
    value = f"CAST({total} AS DOUBLE)"
    return f"CASE WHEN {count} > 0 THEN {value if feature.function == 'sum' else f'{value} / {count}'} END"


def _versions(relation: str, event_id: str) -> str:
    """Versions with the midnights from which they are known and from which the next one replaces them."""
    known = f"{_ceil_day('created_timestamp')} AS t_known"
    key = _q(event_id)
    following = f"lead({_ceil_day('created_timestamp')}, 1, {_NEVER}) OVER (PARTITION BY {key} ORDER BY created_timestamp)"
    repeated = f"SELECT {key} FROM ({relation}) GROUP BY {key} HAVING count(*) > 1"
    return (
        f"SELECT *, {known}, {_NEVER} AS t_gone FROM ({relation}) ANTI JOIN ({repeated}) USING ({key}) "
        f"UNION ALL SELECT *, {known}, {following} AS t_gone FROM ({relation}) SEMI JOIN ({repeated}) USING ({key})"
    )


def _labelled(query: SnapshotQuery, features: Sequence[Feature]) -> str:
    columns = ", ".join(f"l.{_q(column)}" for column in _columns(features))
    return (
        f"SELECT e.{_q(query.entity_key)}, e.event_timestamp, {columns}, "
        "greatest(e.t_known, l.t_known) AS t_known, least(e.t_gone, l.t_gone) AS t_gone "
        f"FROM event_versions e JOIN label_versions l USING ({_q(query.event_id)})"
    )


def _daily(query: SnapshotQuery, features: Sequence[Feature], relation: str) -> str:
    """Counts and fixed-point sums per key, event day and known range: what one day adds to any window."""
    summed = {f.column for f in features if f.function != "count"}
    measures = [f"count({_q(c)}) AS {_q('n_' + c)}" for c in _columns(features)]
    measures += [
        f"sum(CAST({_q(c)} AS {_FIXED_POINT})) AS {_q('s_' + c)}" for c in _columns(features) if c in summed
    ]
    return (
        f"SELECT {_q(query.entity_key)} AS key, epoch_us(event_timestamp) // {_DAY_US} AS day, "
        f"t_known, t_gone, {', '.join(measures)} FROM {relation} "
        f"WHERE {_q(query.entity_key)} IS NOT NULL AND t_known < t_gone GROUP BY 1, 2, 3, 4"
    )


def _deltas(query: SnapshotQuery, features: Sequence[Feature], relation: str) -> list[str]:
    """For each window, the rows that add a day's totals at one midnight and take them away at another."""
    branches: list[str] = []
    for delay, window in sorted({(f.delay.whole_days, f.window.whole_days) for f in features}):
        mine = [f for f in features if (f.delay.whole_days, f.window.whole_days) == (delay, window)]
        span = (
            f"SELECT *, greatest(day + {1 + delay}, t_known, t_first) AS t_in, "
            f"least(day + {1 + delay + window}, t_gone) AS t_out, t_last "
            f"FROM {relation}, bounds"
        )
        entering, leaving = _signed(query, mine, "+"), _signed(query, mine, "-")
        branches += [
            f"SELECT key, t_in AS t, {entering} FROM ({span}) WHERE t_in < t_out AND t_in <= t_last",
            f"SELECT key, t_out AS t, {leaving} FROM ({span}) WHERE t_in < t_out AND t_out <= t_last",
        ]
    return branches


def _signed(query: SnapshotQuery, mine: Sequence[Feature], sign: str) -> str:
    """All measures of the view, with the given windows' values signed and zero for every other window."""
    values: dict[str, str] = {}
    for feature in mine:
        values[_count(feature)] = f"{sign}{_q('n_' + feature.column)}"
        if feature.function != "count":
            values[_sum(feature)] = f"{sign}coalesce({_q('s_' + feature.column)}, 0)"
    return ", ".join(f"{values.get(name, '0')} AS {name}" for name in _measures(query.features))


def _measures(features: Sequence[Feature]) -> list[str]:
    names = dict.fromkeys(_count(f) for f in features)
    names |= dict.fromkeys(_sum(f) for f in features if f.function != "count")
    return list(names)


def _columns(features: Sequence[Feature]) -> list[str]:
    return list(dict.fromkeys(f.column for f in features))


def _count(feature: Feature) -> str:
    return _q(f"n_{feature.column}_{feature.window}_{feature.delay}")


def _sum(feature: Feature) -> str:
    return _q(f"s_{feature.column}_{feature.window}_{feature.delay}")


def _day_number(partition: str) -> str:
    """SQL of the midnight that ends a partition, in days since 1970."""
    return f"(date_diff('day', DATE '1970-01-01', DATE '{partition}') + 1)"


def _ceil_day(column: str) -> str:
    """SQL of the first midnight at or after a time, in days since 1970."""
    return f"((epoch_us({column}) + {_DAY_US - 1}) // {_DAY_US})"


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
