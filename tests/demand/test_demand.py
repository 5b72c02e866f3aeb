"""A use case unlike the other one: numbers are forecast, hour by hour, from texts, categories and missing values."""

import datetime as dt
import json
from collections.abc import Iterator
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_platform import declarations
from ml_platform.cli.instance import open_instance, prepare_home
from ml_platform.defs.demand.sources.slots.simulator import KINDS, simulate
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.partitions import ONE_DAY
from ml_platform.kernel.settings import settings
from ml_platform.model_registry import registry
from ml_platform.models.compute import predict_onnx
from ml_platform.models.contract import read_contract
from ml_platform.models.errors import errors
from ml_platform.models.spec import ModelSpec
from ml_platform.sdk.features import Features
from ml_platform.serving.instances import Instances
from ml_platform.serving.versions import load, warm
from ml_platform.sources.feed import write_delivery
from ml_platform.sources.landing import ingest
from ml_platform.sources.spec import SourceSpec
from ml_platform.training_sets import store
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.built import Platform, changed_column

HOUR, MICRO = dt.timedelta(hours=1), dt.timedelta(microseconds=1)
FIRST, LAST = "2018-04-01", "2018-06-06"
PROFILED = "2018-05-01"
VIEWS = ("place_demand", "region_demand", "region_kind_demand")
MADE_BY_DAY = ("sources/slots", "sources/demand", *(f"features/{view}" for view in VIEWS))


@pytest.fixture(scope="module")
def demand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A home with the use case made up to a release and its forecasts."""
    root = tmp_path_factory.mktemp("demand") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_HOME", str(root))
        here = settings().prepare()
        patch.setenv("DAGSTER_HOME", str(here.dagster_home))
        prepare_home(here)
        rows = simulate(first_day=dt.date.fromisoformat(FIRST), last_day=dt.date.fromisoformat(LAST))
        path = write_delivery(rows, root / "delivered.parquet")
        with open_instance(here) as instance:
            platform = Platform(here, instance)
            for name in ("slots", "demand"):
                ingest(here, platform.catalog.get(SourceSpec, name, wanted_by="a test"), path)
            build(platform)
            yield platform


def build(platform: Platform) -> None:
    for key in MADE_BY_DAY:
        platform.make(key, FIRST, LAST)
    platform.make("online/feature_registry")
    for view in ("place_demand", "region_kind_demand"):
        platform.make(f"online/{view}", FIRST, LAST)
    platform.make("drift_profiles/demand", PROFILED, LAST)
    for key in ("training_sets/demand", "models/demand"):
        platform.make(key, LAST)
    platform.make("releases/demand")
    platform.make("predictions/demand", LAST)


def test_a_team_writes_less_than_200_lines_for_it() -> None:
    lines = [
        line
        for path in (declarations.defs_folder() / "demand").rglob("*.yaml")
        for line in path.read_text().splitlines()
    ]
    assert len(lines) < 200


def test_forecasts_are_measured_as_numbers_are(demand: Platform) -> None:
    shown = demand.newest_metadata("models/demand", LAST)
    rows, scores, version = scored(demand)
    expected = errors(rows.labels, scores)
    assert rows.labels.dtype == np.float64
    assert registry.client(demand.settings).get_run(version.run_id).data.metrics == pytest.approx(expected)
    assert expected["r2"] > 0.8, "it has learnt something"
    assert shown["mape"] == pytest.approx(expected["mape"], abs=1e-6)
    assert {"forecasts", "errors", "model_card"} <= shown.keys()
    assert not {"reliability", "precision_recall", "positives", "calibration_error"} & shown.keys()
    (weekend,) = shown["slices"]
    assert (weekend["name"], weekend["positives"]) == ("weekend", None)
    assert weekend["low"] < weekend["value"] < weekend["high"]
    assert "positives" not in shown["model_card"]


def test_missing_values_and_texts_reach_the_model_as_they_are(demand: Platform) -> None:
    rows, _, _ = scored(demand)
    names = list(rows.names)
    missing = np.isnan(rows.features[:, names.index("temperature")]).mean()
    assert 0.02 < missing < 0.08
    assert set(rows.features[:, names.index("kind_code")].tolist()) == {0, 1, 2}
    assert set(rows.features[:, names.index("is_event")].tolist()) == {0, 1}


def test_forecasts_of_a_day_are_those_of_the_champion_and_alert_nobody(demand: Platform) -> None:
    found = demand.rows("predictions/demand", LAST)
    assert found.num_rows == 24 * 24
    assert set(found.column("alert").to_pylist()) == {None}
    assert set(found.column("region_demand_state").to_pylist()) == {"fresh"}, (
        "a view that is not online is read"
    )
    units = demand.query(
        f"SELECT avg(abs(score - units)) AS off, avg(units) AS mean FROM ({demand.scan('predictions/demand', LAST)}) "
        f"JOIN ({demand.scan('sources/demand', LAST)}) USING (slot_id)"
    ).to_pylist()[0]
    assert units["off"] < 0.35 * units["mean"]


def test_a_view_of_two_entities_has_a_row_for_each_combination_with_its_mean(demand: Platform) -> None:
    found = demand.rows("features/region_kind_demand", LAST).to_pylist()
    expected = means_by_pair(dt.date.fromisoformat(LAST) + ONE_DAY)
    assert {(row["region_id"], row["kind"]): row["region_kind_units_7d"] for row in found} == expected
    assert len(found) == len(expected) == 4 * 3
    assert demand.newest_metadata("features/region_kind_demand", LAST)["entities"] == 12
    said = demand.newest_metadata("online/region_kind_demand", LAST)
    assert (said["read_back_keys"], said["read_back_mismatches"]) == (12, 0)


def test_a_view_of_two_entities_is_read_point_in_time_as_one_by_one_reasoning_would(demand: Platform) -> None:
    view = demand.catalog.get(FeatureViewSpec, "region_kind_demand", wanted_by="a test")
    features, chance = Features(demand.settings, demand.catalog, view), Random(7)
    assert features.asked_with == ["region_id", "kind", "event_timestamp"]
    start = dt.datetime.combine(dt.date.fromisoformat(LAST) - 9 * ONE_DAY, dt.time(), dt.UTC)
    asked = [  # around the moments at which snapshots become available and too old, some of pairs that do not exist
        {
            "region_id": chance.choice([0, 1, 2, 3, 4, None]),
            "kind": chance.choice([*KINDS, "kiosk", None]),
            "event_timestamp": start + chance.randint(0, 14 * 24) * HOUR + chance.choice([-1, 0, 1]) * MICRO,
        }
        for _ in range(400)
    ]
    found = features.at(pa.Table.from_pylist(asked)).arrow().column("region_kind_units_7d").to_pylist()
    expected = [seen_at(row) for row in asked]
    assert found == expected
    assert 50 < sum(value is not None for value in expected) < 350


def test_a_key_that_is_also_asked_for_as_a_value_is_one_field_of_requests(demand: Platform) -> None:
    champion = registry.champion(demand.settings, "demand")
    assert champion is not None
    contract = read_contract(registry.load_document(demand.settings, champion, "contract.json"), of="a test")
    assert contract.keys == {"place_id": "int64", "region_id": "int64", "kind": "string"}
    assert "kind" in contract.request
    one = {"place_id": 0, "region_id": 0, "kind": "mall", "weather": "rain", "notice": "", "temperature": 1.5}
    body = json.dumps({"instance": {**one, "starts_at": 1_528_000_000}}).encode()
    assert Instances(contract, max_batch=1).parse(body) == [{**one, "starts_at": 1_528_000_000}]


def test_intervals_are_drawn_by_the_combinations_that_share_values(demand: Platform) -> None:
    rows, _, _ = scored(demand)
    assert {about: len(np.unique(ids)) for about, ids in rows.entities.items()} == {
        "place": 24,
        "region": 4,
        "region_kind": 12,
    }


@cache
def means_by_pair(midnight: dt.date) -> dict[tuple[int, str], float]:
    """What the view declares, from the simulator alone: units of the seven days that ended a day before a midnight."""
    rows = simulate(first_day=midnight - 8 * ONE_DAY, last_day=midnight - 2 * ONE_DAY).to_pylist()
    units: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        units.setdefault((row["region_id"], row["kind"]), []).append(row["units"])
    return {pair: sum(found) / len(found) for pair, found in units.items()}


def seen_at(asked: dict[str, Any]) -> float | None:
    """The newest published snapshot that was available at a time, an hour after its own, and not three days old."""
    time = asked["event_timestamp"]
    last = dt.date.fromisoformat(LAST) + ONE_DAY
    midnight = min((time - HOUR).date(), last)
    if time - dt.datetime.combine(midnight, dt.time(), dt.UTC) > 3 * ONE_DAY:
        return None
    return means_by_pair(midnight).get((asked["region_id"], asked["kind"]))


def test_a_version_that_reads_what_is_not_online_is_not_served(demand: Platform) -> None:
    found = registry.champion(demand.settings, "demand")
    assert found is not None
    with pytest.raises(StoreError, match=r"region_demand is declared `online: false`. It is not served"):
        warm(load(demand.settings, found))


def test_a_version_with_larger_errors_does_not_take_its_place(demand: Platform) -> None:
    model = demand.catalog.get(ModelSpec, "demand", wanted_by="a test")
    worse = model.model_copy(update={"parameters": {"n_estimators": 1, "max_depth": 1, "random_state": 0}})
    demand.make("models/demand", LAST, changed=[worse])
    said = demand.refused("releases/demand", changed=[worse])
    assert "mape" in said and "worse (95% interval" in said
    assert "mape at most 0.02 above the champion's" in said
    assert registry.champion(demand.settings, "demand").version == 1  # type: ignore[union-attr]


def test_labels_that_doubled_close_the_gate(demand: Platform) -> None:
    rows = simulate(first_day=dt.date.fromisoformat(LAST), last_day=dt.date.fromisoformat(LAST))
    doubled = changed_column(rows, "units", 2 * rows.column("units").to_numpy())
    day = dt.date.fromisoformat(LAST) + dt.timedelta(days=1)
    demand.deliver("demand", doubled, known_at=f"{day} 23:30:00+00")
    moved = simulate(first_day=day, last_day=day)
    for source in ("slots", "demand"):
        demand.deliver(source, moved)
    for key in MADE_BY_DAY:
        demand.make(key, LAST, day.isoformat())
    said = demand.refused("training_sets/demand", day.isoformat())
    assert "mean label" in said and "is 2.22 times the reference's" in said


def scored(demand: Platform) -> tuple[store.Arrays, np.ndarray, registry.Registered]:
    """Test rows of the first version with its scores."""
    spec = demand.catalog.get(TrainingSetSpec, "demand", wanted_by="a test")
    manifest = store.read_manifest(demand.settings, spec, LAST)
    rows = store.read_arrays(demand.settings, spec, manifest)["test"]
    version = registry.versions(demand.settings, "demand")[0]
    return rows, predict_onnx(registry.load_onnx(demand.settings, version), rows.features), version
