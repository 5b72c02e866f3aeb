"""Logged features against the published rows of a view of two entities, key by key."""

from pathlib import Path
from typing import Any

import duckdb

from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.feedback.consistency import consistency
from ml_platform.feedback.store import LOG
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from tests.online.small_world import CATALOG, OF_PAIRS, Key, SmallWorld, Values, time_of_snapshot

DAY, ASKED = "2018-06-10", "2018-06-11 09:00:00+00"
SERVICE = FeatureServiceSpec(name="all", source="payments", views=(OF_PAIRS.name,))
ROWS: dict[Key, Values] = {(7, "mall"): (3, 12.5), (7, "corner"): (5, 2.0), (8, "mall"): (1, 7.0)}


def logged(*read: tuple[int, str, Values | None]) -> duckdb.DuckDBPyConnection:
    """Predictions that read a pair's row of the snapshot, or none."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(
        f"CREATE TABLE {LOG} (prediction_id TEXT, as_of TIMESTAMPTZ, keys MAP(TEXT, TEXT), states MAP(TEXT, TEXT), "
        f"snapshots MAP(TEXT, BIGINT), features MAP(TEXT, DOUBLE), partition_date DATE)"
    )
    name, at = OF_PAIRS.name, time_of_snapshot(DAY)
    for i, (region, kind, values) in enumerate(read):
        count, mean = values or (None, None)
        row: list[Any] = [
            f"p{i}",
            ASKED,
            {"kind": kind, "region_id": str(region)},
            {name: "missing" if values is None else "fresh"},
            {} if values is None else {name: at},
            {"payments": count, "mean_amount": mean},
            ASKED[:10],
        ]
        connection.execute(f"INSERT INTO {LOG} VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    return connection


def test_values_are_compared_with_those_of_both_keys(tmp_path: Path) -> None:
    world = SmallWorld(Settings(home=tmp_path))
    world.write_of(OF_PAIRS, DAY, ROWS)
    read = [(region, kind, values) for (region, kind), values in ROWS.items()]
    wrong = (8, "mall", ROWS[7, "mall"])  # the row of another region
    lake = Lake(world.settings.lake_uri)
    with logged(*read, wrong, (8, "corner", None), (7, "corner", None)) as connection:
        found = consistency(connection, lake, CATALOG, SERVICE, ASKED[:10])
    (view,) = found.views
    assert (view.predictions, view.missing) == (6, 2)
    assert view.missing_but_known == 1, (
        "the pair that was published, and not the one that only shares its keys with others"
    )
    by_name = {one.feature: one for one in found.features}
    for name, largest in (("payments", 2.0), ("mean_amount", 5.5)):
        assert (by_name[name].compared, by_name[name].mismatches, by_name[name].largest_difference) == (
            4,
            1,
            largest,
        )
        assert by_name[name].example == "p3"
