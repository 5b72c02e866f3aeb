"""Pure work of sources: rows that have landed become versions of events, and versions what was known at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_platform.kernel.partitions import DAILY, PARTITION_COLUMN
from ml_platform.lake.schemas import ENGINE_TYPES, typed_nulls
from ml_platform.sources.spec import CREATED_TIME, EVENT_TIME, SourceSpec

_CHANGED = "__content IS DISTINCT FROM __before"


def columns_of(spec: SourceSpec) -> list[str]:
    """Lake columns of a source, in declared order, with the created time last if files do not carry it."""
    return list(spec.column_types())


def nothing_sql(spec: SourceSpec) -> str:
    """SQL of no rows of a source, with the columns that its rows have."""
    kinds = {name: ENGINE_TYPES[kind] for name, kind in spec.column_types().items()}
    cadence = spec.cadence
    return f"{typed_nulls({**kinds, cadence.column: ENGINE_TYPES[cadence.column_type]})} WHERE false"


def partition_sql(spec: SourceSpec) -> str:
    """SQL of the partition of an event, as its table's column has it."""
    if spec.cadence == DAILY:
        return f"CAST({EVENT_TIME} AS DATE)"
    return f"strftime({EVENT_TIME}, '%Y-%m-%d-%H:00')"


def day_sql(spec: SourceSpec) -> str:
    """SQL of the day of a published event, whatever the partitions of its source."""
    return PARTITION_COLUMN if spec.cadence == DAILY else f"CAST({EVENT_TIME} AS DATE)"


def arrival_sql(spec: SourceSpec) -> str:
    """SQL of the time at which an event is known as its source declares it: `arrival` after it happened."""
    return f"{EVENT_TIME} + to_microseconds({spec.arrival.microseconds})"


@dataclass(frozen=True)
class _LateData:
    """What a mode of `late_data` makes of several contents of one event, as SQL: all that the modes differ in."""

    is_version: str
    """Which of the `ordered` rows of an event are versions of it."""
    created: str
    """When a version was known."""
    can_contradict: str
    """Whether a second content of one (id, created) is a contradiction."""


def _late_data(spec: SourceSpec) -> _LateData:
    if spec.late_data == "restate":
        return _LateData(is_version="__last", created=arrival_sql(spec), can_contradict="false")
    return _LateData(is_version=_CHANGED, created=CREATED_TIME, can_contradict="true")


def versions_sql(spec: SourceSpec, landed: str) -> str:
    """SQL of the event versions that landed rows make: repeats of the same content are left out.

    `landed` is a relation with the source's columns, the partition, `landing_order` and `position`. Where late
    data restates, an event has one version, its last, known `arrival` after the event.
    """
    late = _late_data(spec)
    event_id = f'"{spec.event_id}"'
    columns = ", ".join(
        f'{late.created} AS "{name}"' if name == CREATED_TIME else f'"{name}"'
        for name in [*columns_of(spec), spec.cadence.column]
    )
    return f"""
{_repeats(spec, landed)}
SELECT {columns} FROM {landed} ANTI JOIN repeated USING ({event_id})
UNION ALL
SELECT {columns} FROM ordered WHERE {late.is_version}
ORDER BY {spec.cadence.column}, {event_id}, {CREATED_TIME}"""


def repeats_sql(spec: SourceSpec, landed: str) -> str:
    """SQL that counts, by partition, the landed rows that repeat what was known, contradict another, or were replaced.

    A contradiction is a second content of one (id, created): ingest refuses it, unless two ran at once. Where late
    data restates there is none; what is not the event's last content was replaced.
    """
    late = _late_data(spec)
    return f"""
{_repeats(spec, landed)}
SELECT CAST({spec.cadence.column} AS VARCHAR),
       count_if(NOT ({_CHANGED})),
       count_if({_CHANGED} AND {CREATED_TIME} = __created_before AND {late.can_contradict}),
       count_if({_CHANGED}) - count_if({late.is_version})
FROM ordered GROUP BY 1"""


def _repeats(spec: SourceSpec, landed: str) -> str:
    """Steps that order the rows of ids which landed more than once, each beside the row before it."""
    columns = ", ".join(f'"{name}"' for name in [*columns_of(spec), spec.cadence.column])
    content = _packed([name for name in columns_of(spec) if name != CREATED_TIME])
    event_id = f'"{spec.event_id}"'
    return f"""WITH repeated AS (
  SELECT {event_id} FROM {landed} GROUP BY {event_id} HAVING count(*) > 1
), ordered AS (
  SELECT {columns}, {content} AS __content,
         lag(__content) OVER versions AS __before, lag({CREATED_TIME}) OVER versions AS __created_before,
         lead(1) OVER versions IS NULL AS __last
  FROM {landed} SEMI JOIN repeated USING ({event_id})
  WINDOW versions AS (PARTITION BY {event_id} ORDER BY {CREATED_TIME}, landing_order, position)
)"""


def _packed(columns: Sequence[str]) -> str:
    """SQL of one value that holds those of all the columns."""
    fields = ", ".join(f'"{name}" := "{name}"' for name in columns)
    return f"struct_pack({fields})"


def conflicts_sql(spec: SourceSpec, landed: str) -> str:
    """SQL that counts delivered rows that contradict landed ones, by kind of contradiction.

    An id's event time never changes, and one (id, created) never has two contents, unless late data restates.
    """
    event_id = f'"{spec.event_id}"'
    others = [c for c in columns_of(spec) if c not in (spec.event_id, CREATED_TIME, EVENT_TIME)]
    differs = " OR ".join(f'd."{c}" IS DISTINCT FROM l."{c}"' for c in others) or "false"
    second_content = (
        f"(d.{CREATED_TIME} = l.{CREATED_TIME} AND ({differs}) AND {_late_data(spec).can_contradict})"
    )
    return f"""
SELECT count_if(d.{EVENT_TIME} <> l.{EVENT_TIME}),
       count_if(d.{EVENT_TIME} = l.{EVENT_TIME} AND {second_content}),
       min(d.{event_id}) FILTER (d.{EVENT_TIME} <> l.{EVENT_TIME} OR {second_content})
FROM delivered d JOIN ({landed}) l USING ({event_id}) WHERE d.reason IS NULL"""


def latest_versions_sql(spec: SourceSpec, relation: str, *, known_by: str | None = None) -> str:
    """SQL of the latest version of each event that was known by a time.

    `known_by` is a UTC time as text; by default each event as known when its own day was over.
    """
    event_id = f'"{spec.event_id}"'
    day_end = f"CAST({day_sql(spec)} AS TIMESTAMPTZ) + INTERVAL 1 DAY"
    known = f"{CREATED_TIME} <= " + (f"TIMESTAMPTZ '{known_by}'" if known_by else day_end)
    return f"""
WITH known AS (SELECT * FROM ({relation}) WHERE {known}),
repeated AS (SELECT {event_id} FROM known GROUP BY {event_id} HAVING count(*) > 1)
SELECT * FROM known ANTI JOIN repeated USING ({event_id})
UNION ALL
SELECT * FROM known SEMI JOIN repeated USING ({event_id})
QUALIFY row_number() OVER (PARTITION BY {event_id} ORDER BY {CREATED_TIME} DESC) = 1"""
