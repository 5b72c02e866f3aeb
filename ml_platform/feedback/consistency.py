"""Whether predictions saw online what the offline tables say: every logged value, recomputed at its own snapshot.

A prediction names the snapshot of each view that it read. The view's published table has a row for that key and that
time, with the values that a point-in-time read gives; the logged ones have to be equal, bit for bit. What the online
store was late with is another matter, and told apart: the values are those of an older snapshot, and right.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace

import duckdb

from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec
from ml_platform.feedback.findings import Consistency, FeatureConsistency, ViewConsistency
from ml_platform.feedback.on_demand import on_demand_consistency
from ml_platform.feedback.store import LOG
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import EVENT_TIME, PARTITION_COLUMN, Cadence, cadence_of
from ml_platform.lake.known_keys import name_of
from ml_platform.lake.ledger import Publication, history
from ml_platform.lake.tables import Lake

_READ, _WRONG = "read_of_view", "read_otherwise"
_MICROS = 1_000_000


def consistency(
    connection: duckdb.DuckDBPyConnection, lake: Lake, catalog: Catalog, service: FeatureServiceSpec, day: str
) -> Consistency:
    """Compare the logged features of a day's predictions with the published tables.

    The connection has the predictions in `LOG`. Views that are not online were not read by the service, and are
    not compared.
    """
    ((count,),) = connection.execute(
        f"SELECT count(*) FROM {LOG} WHERE {PARTITION_COLUMN} = DATE '{day}'"
    ).fetchall()
    if not count:
        return Consistency(0)
    views: list[ViewConsistency] = []
    features: list[FeatureConsistency] = []
    for view in (found for found in service.view_specs(catalog) if found.online):
        names = [feature.name for feature in view.features(catalog)]
        _stage(connection, view, names, day)
        cadence = view.cadence(catalog)
        corrected, compared = _compare(connection, lake, view, names, cadence)
        views.append(read := _reads(connection, lake, view, cadence, corrected=corrected))
        features += [replace(found, missing=read.missing, stale=read.stale) for found in compared]
    features += on_demand_consistency(connection, catalog, service, day)
    return Consistency(count, tuple(views), tuple(features))


def _stage(
    connection: duckdb.DuckDBPyConnection, view: FeatureViewSpec, names: Sequence[str], day: str
) -> None:
    """What a day's predictions read of one view, in a table: keys, snapshot, state, and the values as columns.

    A view that the version does not read is in no map of states. Of what was too old and not served there are no
    values to compare.
    """
    keys = ", ".join(f"keys['{key}'] AS {name}" for key, name in _keys(view).items())
    values = ", ".join(f"""features['{name}'] AS "{name}\"""" for name in names)
    unserved = " AND ".join(f"features['{name}'] IS NULL" for name in names)
    connection.execute(
        f"""
CREATE OR REPLACE TEMP TABLE {_READ} AS
SELECT prediction_id, epoch_us(as_of) AS asked_at, {keys}, state, snapshot,
    map_keys(features) AS named, snapshot IS NOT NULL AND NOT (state = 'stale' AND {unserved}) AS served, {values}
FROM (
    SELECT *, states['{view.name}'] AS state, snapshots['{view.name}'] AS snapshot
    FROM {LOG} WHERE {PARTITION_COLUMN} = DATE '{day}'
) WHERE state IS NOT NULL"""
    )


def _keys(view: FeatureViewSpec) -> dict[str, str]:
    """What the view's join keys are called here, where each is a text."""
    return {key: f"key{i}" for i, key in enumerate(view.entity_keys)}


def _identity(view: FeatureViewSpec) -> str:
    """The columns that tell the view's rows apart here."""
    return ", ".join([*_keys(view).values(), "snapshot"])


def _texts(view: FeatureViewSpec) -> str:
    """SQL of the keys of the view's rows as the log has them."""
    return ", ".join(f'CAST("{key}" AS VARCHAR) AS {name}' for key, name in _keys(view).items())


def _compare(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    view: FeatureViewSpec,
    names: Sequence[str],
    cadence: Cadence,
) -> tuple[int, list[FeatureConsistency]]:
    """How many predictions read what was corrected since, and each feature's comparison.

    Compared is with what is published now; where that differs, with what was published before, newest first.
    """
    keys = _snapshots(connection, cadence)
    if not keys:
        return 0, [FeatureConsistency(name, view.name, 0, 0, 0.0) for name in names]
    now = _offline(lake, view, names, keys, version=None)
    before = _mark(connection, view, names, now, among=f"SELECT * FROM {_READ} WHERE served")
    wrong = before
    for version in _earlier_versions(lake, view, keys) if wrong else ():
        with contextlib.suppress(
            StoreError, duckdb.IOException
        ):  # vacuumed: what was there is not known any more
            earlier = _offline(lake, view, names, keys, version=version)
            among = f"SELECT * FROM {_READ} SEMI JOIN {_WRONG} USING (prediction_id)"
            wrong = _mark(connection, view, names, earlier, among=among)
        if not wrong:
            break
    return before - wrong, _of_features(connection, view, names, now)


def _snapshots(connection: duckdb.DuckDBPyConnection, cadence: Cadence) -> list[str]:
    """The partitions that the snapshots of the staged reads are of: a snapshot's time is the end of its partition."""
    found = connection.execute(
        f"SELECT DISTINCT snapshot // {cadence.microseconds} FROM {_READ} WHERE served"
    ).fetchall()
    return sorted(name_of(moment - 1, cadence) for (moment,) in found)


def _offline(
    lake: Lake, view: FeatureViewSpec, names: Sequence[str], keys: Sequence[str], *, version: int | None
) -> str:
    """SQL of the published rows of some partitions of a view, by keys and snapshot."""
    values = ", ".join(f"""{_number(f'CAST("{name}" AS DOUBLE)')} AS "{name}\"""" for name in names)
    scan = lake.table(view.key).scan(version=version, where=[(cadence_of(keys[0]).column, "in", list(keys))])
    return f"SELECT {_texts(view)}, epoch_us({EVENT_TIME}) AS snapshot, true AS there, {values} FROM ({scan})"


def _number(value: str) -> str:
    """A float that is not a number says that there is none, as the log does."""
    return f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END"


def _named(name: str) -> str:
    """Whether the version that was logged has a feature: another one may have had others."""
    return f"list_contains(r.named, '{name}')"


def _differs(name: str) -> str:
    return f"""({_named(name)} AND r."{name}" IS DISTINCT FROM o."{name}")"""


def _mark(
    connection: duckdb.DuckDBPyConnection,
    view: FeatureViewSpec,
    names: Sequence[str],
    offline: str,
    *,
    among: str,
) -> int:
    """Keep apart the predictions of which any value is not the offline one, or which name no row of it; how many."""
    differs = " OR ".join(map(_differs, names))
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_WRONG} AS "
        f"SELECT prediction_id FROM ({among}) r LEFT JOIN ({offline}) o USING ({_identity(view)}) "
        f"WHERE there IS NULL OR {differs}"
    )
    ((count,),) = connection.execute(f"SELECT count(*) FROM {_WRONG}").fetchall()
    return count


def _earlier_versions(lake: Lake, view: FeatureViewSpec, keys: Sequence[str]) -> list[int]:
    """Table versions at which something else was published of some partitions than is now, newest first."""
    newest: dict[str, Publication] = {}
    others: set[int] = set()
    for found in sorted(history(lake, [view.key]), key=lambda entry: entry.table_version):
        if found.partition in keys:
            before = newest.get(found.partition)
            if before is not None and before.content_hash != found.content_hash:
                others.add(found.table_version - 1)
            newest[found.partition] = found
    return sorted(others, reverse=True)


def _of_features(
    connection: duckdb.DuckDBPyConnection, view: FeatureViewSpec, names: Sequence[str], offline: str
) -> list[FeatureConsistency]:
    """Each feature's numbers: values of predictions that read what was corrected since count as equal."""
    asked = [
        f"""count_if({_named(n)}), count_if(bad AND {_differs(n)}), max(abs(r."{n}" - o."{n}")) FILTER (bad), """
        f"""min(r.prediction_id) FILTER (bad AND {_differs(n)})"""
        for n in names
    ]
    query = f"""
SELECT {", ".join(asked)}
FROM (SELECT r.*, w.prediction_id IS NOT NULL AS bad FROM {_READ} r LEFT JOIN {_WRONG} w USING (prediction_id)) r
LEFT JOIN ({offline}) o USING ({_identity(view)})
WHERE served"""
    (found,) = connection.execute(query).fetchall()
    of_each = [found[4 * i : 4 * i + 4] for i in range(len(names))]
    return [
        FeatureConsistency(name, view.name, compared, mismatches, largest or 0.0, example=example or "")
        for name, (compared, mismatches, largest, example) in zip(names, of_each, strict=True)
    ]


def _reads(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    view: FeatureViewSpec,
    cadence: Cadence,
    *,
    corrected: int,
) -> ViewConsistency:
    """How fresh the reads of a view were, against an as-of read of what is published."""
    available, ttl = view.available_after.seconds * _MICROS, view.ttl.seconds * _MICROS
    ((oldest,),) = connection.execute(f"SELECT min(asked_at) FROM {_READ}").fetchall()
    first = name_of(((oldest or 0) - ttl) // cadence.microseconds - 1, cadence)
    scan = lake.table(view.key).scan(where=[(cadence.column, ">=", first)])
    known = f"SELECT {_texts(view)}, epoch_us({EVENT_TIME}) AS due FROM ({scan})"
    same = " AND ".join(f"r.{name} = o.{name}" for name in _keys(view).values())
    late = "due IS NOT NULL AND due >= asked_at - $ttl AND (snapshot IS NULL OR snapshot < due)"
    query = f"""
SELECT count(*), count_if(snapshot IS NULL), count_if(snapshot IS NULL AND {late}), count_if(state = 'stale'),
    count_if(snapshot IS NOT NULL AND {late}), max(due - snapshot) FILTER ({late})
FROM (SELECT *, asked_at - $available AS until FROM {_READ}) r
ASOF LEFT JOIN ({known}) o ON {same} AND r.until >= o.due"""
    (row,) = connection.execute(query, {"ttl": ttl, "available": available}).fetchall()
    predictions, missing, known_rows, stale, behind, lag = row
    return ViewConsistency(
        view.name, predictions, missing, known_rows, stale, corrected, behind, (lag or 0) / _MICROS
    )
