"""Windowed aggregates as of midnights, in one query per view, exact under both times.

Nearly every event is known before the first snapshot that counts it, and is never replaced. Those add up in
running totals per key and day, of which a window is the difference of two. The others, late or corrected,
count in a range of snapshots: each adds to a window at one midnight and leaves it at another. Sums are
decimals, so order and look-back never change a bit.
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

    def inputs(self) -> list[tuple[str, list[Feature]]]:
        """The relations that are aggregated, each with its features: events, and events with their labels."""
        plain = [f for f in self.features if not f.of_label]
        labelled = [f for f in self.features if f.of_label]
        return [(name, mine) for name, mine in (("event_versions", plain), ("labelled", labelled)) if mine]

    @property
    def reach(self) -> int:
        """Days before a snapshot that the longest window and its delay reach."""
        return max(f.delay.whole_days + f.window.whole_days for f in self.features)


def snapshot_sql(query: SnapshotQuery) -> str:
    """SQL of all snapshot rows of the partitions first … last: one per key known by then, ordered by both.

    Columns: the key, event_timestamp and created_timestamp (both the snapshot's midnight), the features
    (counts BIGINT, zero when idle; sums and means DOUBLE, null when idle) and the partition day.
    """
    key = _q(query.entity_key)
    steps = [
        f"bounds AS (SELECT {_day_number(query.first)} AS t_first, {_day_number(query.last)} AS t_last)",
        *_sources(query),
        (
            f"known_keys AS (SELECT {key} AS key, min({_ceil_day('created_timestamp')}) AS t_known "
            f"FROM ({query.keys}) WHERE {key} IS NOT NULL GROUP BY 1)"
        ),
        *(f"daily_{name} AS ({_daily(query, name, mine)})" for name, mine in query.inputs()),
        f"running AS ({_running(query)})",
        f"regular AS ({_differences(query)})",
        *_irregular_steps(query),
    ]
    return f"WITH {', '.join(steps)}\n{_select(query)}"


def _sources(query: SnapshotQuery) -> list[str]:
    """Versions of events, and of events with their labels, with the midnights between which each is known."""
    steps = [f"event_versions AS ({_versions(query.events, query.event_id)})"]
    labelled = [f for f in query.features if f.of_label]
    if labelled:
        steps += [
            f"label_versions AS ({_versions(str(query.labels), query.event_id)})",
            f"labelled AS ({_labelled(query, labelled)})",
        ]
    return steps


def _regular(features: Sequence[Feature]) -> str:
    """SQL that is true for a version known at the first snapshot that counts it, and never replaced."""
    return f"(t_known <= {_DAY} + {1 + min(f.delay.whole_days for f in features)} AND t_gone = {_NEVER})"


def _daily(query: SnapshotQuery, relation: str, features: Sequence[Feature]) -> str:
    """Counts and fixed-point sums per key and event day, of the regular versions."""
    return (
        f"SELECT {_q(query.entity_key)} AS key, {_DAY} AS day, {', '.join(_totals(features))} "
        f"FROM {relation} WHERE {_q(query.entity_key)} IS NOT NULL AND {_regular(features)} GROUP BY 1, 2"
    )


def _totals(features: Sequence[Feature]) -> list[str]:
    summed = {f.column for f in features if f.function != "count"}
    counts = [f"count({_q(c)}) AS {_q('n_' + c)}" for c in _columns(features)]
    return counts + [
        f"sum(CAST({_q(c)} AS {_FIXED_POINT})) AS {_q('s_' + c)}" for c in _columns(features) if c in summed
    ]


def _running(query: SnapshotQuery) -> str:
    """Running totals per key over every day from the look-back to the last partition; day `d` ends at `d + 1`."""
    measures = [name for _, mine in query.inputs() for name in _daily_measures(mine)]
    running = ", ".join(f"sum({name}) OVER days AS {name}" for name in measures)
    joins = " ".join(f"LEFT JOIN daily_{name} USING (key, day)" for name, _ in query.inputs())
    return (
        f"SELECT key, day, t_known, {running} FROM (SELECT key, t_known, "
        f"unnest(range(t_first - {1 + query.reach}, t_last)) AS day FROM known_keys, bounds) {joins} "
        "WINDOW days AS (PARTITION BY key ORDER BY day ROWS UNBOUNDED PRECEDING)"
    )


def _differences(query: SnapshotQuery) -> str:
    """Each window as the difference of two running totals, for the snapshot that ends the day."""
    values: dict[str, str] = {}
    for feature in query.features:
        near, far = feature.delay.whole_days, feature.delay.whole_days + feature.window.whole_days
        pairs = [(_count(feature), _q("n_" + feature.column))]
        if feature.function != "count":
            pairs.append((_sum(feature), _q("s_" + feature.column)))
        for name, column in pairs:
            values[name] = f"{_at(column, near)} - {_at(column, far)} AS {name}"
    return (
        f"SELECT key, day + 1 AS t, t_known, {', '.join(values.values())} FROM running "
        "WINDOW days AS (PARTITION BY key ORDER BY day)"
    )


def _at(column: str, days_before: int) -> str:
    """SQL of a running total so many days before; zero before anything was counted."""
    return f"coalesce(lag({column}, {days_before}) OVER days, 0)"


def _irregular_steps(query: SnapshotQuery) -> list[str]:
    """Steps that add up the versions which count in a range of snapshots of their own."""
    deltas = [
        branch
        for name, mine in query.inputs()
        for branch in _deltas(query, mine, f"({_irregular_daily(query, name, mine)})")
    ]
    names = _measures(query.features)
    sums = ", ".join(f"sum({name}) AS {name}" for name in names)
    running = ", ".join(f"sum(coalesce({name}, 0)) OVER snapshots AS {name}" for name in names)
    return [
        f"deltas AS (SELECT key, t, {sums} FROM ({' UNION ALL '.join(deltas)}) GROUP BY key, t)",
        (
            "changed AS (SELECT key, unnest(range(t_first, t_last + 1)) AS t "
            "FROM (SELECT DISTINCT key FROM deltas), bounds)"
        ),
        (
            f"irregular AS (SELECT key, t, {running} FROM changed LEFT JOIN deltas USING (key, t) "
            "WINDOW snapshots AS (PARTITION BY key ORDER BY t ROWS UNBOUNDED PRECEDING))"
        ),
    ]


def _irregular_daily(query: SnapshotQuery, relation: str, features: Sequence[Feature]) -> str:
    return (
        f"SELECT {_q(query.entity_key)} AS key, {_DAY} AS day, t_known, t_gone, {', '.join(_totals(features))} "
        f"FROM {relation} WHERE {_q(query.entity_key)} IS NOT NULL AND t_known < t_gone "
        f"AND NOT {_regular(features)} GROUP BY 1, 2, 3, 4"
    )


def _select(query: SnapshotQuery) -> str:
    midnight = f"make_timestamptz(t * {_DAY_US})"
    columns = [
        f"key AS {_q(query.entity_key)}",
        f"{midnight} AS event_timestamp",
        f"{midnight} AS created_timestamp",
    ]
    columns += [f"{_value(feature)} AS {_q(feature.name)}" for feature in query.features]
    columns.append(f"(DATE '1970-01-01' + CAST(t - 1 AS INTEGER)) AS {PARTITION_COLUMN}")
    added = ", ".join(f"r.{name} + coalesce(i.{name}, 0) AS {name}" for name in _measures(query.features))
    totals = f"(SELECT key, t, r.t_known, {added} FROM regular r LEFT JOIN irregular i USING (key, t))"
    return (
        f"SELECT {', '.join(columns)} FROM {totals}, bounds "
        "WHERE t_known <= t AND t BETWEEN t_first AND t_last ORDER BY t, key"
    )


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
    replaced = f"lead({_ceil_day('created_timestamp')}, 1, {_NEVER})"
    following = f"{replaced} OVER (PARTITION BY {key} ORDER BY created_timestamp)"
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


def _daily_measures(features: Sequence[Feature]) -> list[str]:
    summed = {f.column for f in features if f.function != "count"}
    columns = _columns(features)
    return [_q("n_" + c) for c in columns] + [_q("s_" + c) for c in columns if c in summed]


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


_DAY = f"(epoch_us(event_timestamp) // {_DAY_US})"


def _ceil_day(column: str) -> str:
    """SQL of the first midnight at or after a time, in days since 1970."""
    return f"((epoch_us({column}) + {_DAY_US - 1}) // {_DAY_US})"


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
