"""What a point-in-time read calls things, and their types, through a real FeatureStore."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from feast import FeatureService, FeatureView, Field, FileSource, RequestSource
from feast.errors import (
    FeastEntityDFMissingColumnsError,
    FeatureNameCollisionError,
)
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Float64, Int64, String, UnixTimestamp

from ml_platform.kernel.errors import InputError
from tests.features.offline_repo import (
    CARD,
    CARD_KEY,
    COUNT,
    SHOP,
    SHOP_KEY,
    SPENT,
    OfflineRepo,
    answers,
    asked,
    at,
    card_store,
    card_view,
)


@pytest.fixture
def repo(tmp_path: Path) -> OfflineRepo:
    return OfflineRepo(tmp_path)


def test_names_are_mapped_first_and_absent_ones_are_ignored(repo: OfflineRepo) -> None:
    rows = {
        "id": [1, 1],
        "time": [at(1), at(2)],
        "made": [at(1), at(9)],
        "amount": [1.0, 2.0],
        "count": [1, 2],
    }
    mapping = {"id": "card_id", "time": "ts", "made": "created", "amount": "spent", "not_there": "nothing"}
    source = FileSource(
        name="mapped",
        path=repo.write("mapped.parquet", rows),
        timestamp_field="ts",
        created_timestamp_column="created",
        field_mapping=mapping,
    )
    store = repo.store(known_at=True)
    store.apply([CARD, card_view("spending", source)])
    assert answers(store, (1, at(3)), (1, at(9)), (2, at(3))) == [1.0, 2.0, None]


def test_a_key_that_only_the_mapping_names_still_joins_on_the_key(repo: OfflineRepo) -> None:
    rows = {"id": [1, 2], "ts": [at(1), at(2)], "spent": [1.0, 2.0], "count": [1, 2]}
    source = repo.source("mapped", rows, field_mapping={"id": "card_id"})
    store = repo.store()
    store.apply([CARD, card_view("spending", source, schema=[SPENT, COUNT])])
    assert answers(store, (1, at(3)), (3, at(3))) == [1.0, None]


def test_one_view_under_two_aliases_answers_for_two_columns(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1), (2, at(1), at(1), 2.0, 2)])
    view = store.get_feature_view("spending")
    service = FeatureService(
        name="transfer",
        features=[
            view.with_name("sender").with_join_key_map({"card_id": "from_card"})[["spent"]],
            view.with_name("receiver").with_join_key_map({"card_id": "to_card"})[["spent", "count"]],
        ],
    )
    store.apply([service])
    frame = pd.DataFrame({"to_card": [1, 2], "from_card": [2, 3], "event_timestamp": [at(2), at(2)]})
    got = store.get_historical_features(frame, service, full_feature_names=True).to_df()
    assert list(got.columns)[3:] == ["sender__spent", "receiver__spent", "receiver__count"]
    assert got["sender__spent"].tolist()[0] == 2.0
    assert np.isnan(got["sender__spent"].tolist()[1])
    assert got["receiver__spent"].tolist() == [1.0, 2.0]


def test_two_versions_of_a_view_are_told_apart_only_where_they_must_be(repo: OfflineRepo) -> None:
    rows = {"card_id": [1], "ts": [at(1)], "spent": [1.0], "count": [3], "extra": [2.0]}
    source = repo.source("spending", rows)
    extra = Field(name="extra", dtype=Float64)
    store = repo.store(versions=True)
    store.apply([CARD, card_view("spending", source)])
    store.apply([card_view("spending", source, schema=[CARD_KEY, SPENT, COUNT, extra])])
    refs = ["spending@v0:spent", "spending@v1:spent", "spending@v1:extra"]
    got = store.get_historical_features(asked((1, at(2))), refs, full_feature_names=True).to_df()
    assert list(got.columns)[2:] == ["spending@v0__spent", "spending@v1__spent", "spending__extra"]


def test_views_on_two_entities_and_on_none(repo: OfflineRepo) -> None:
    pairs = {
        "card_id": [1, 1, 2],
        "shop_id": ["a", "b", "a"],
        "ts": [at(1), at(1), at(1)],
        "visits": [11, 12, 21],
    }
    weather = {"ts": [at(1), at(3)], "rain": [0.1, 0.3]}
    visits, rain = Field(name="visits", dtype=Int64), Field(name="rain", dtype=Float64)
    store = repo.store()
    store.apply(
        [
            CARD,
            SHOP,
            FeatureView(
                name="visits",
                entities=[CARD, SHOP],
                schema=[CARD_KEY, SHOP_KEY, visits],
                source=repo.source("pairs", pairs),
            ),
            FeatureView(name="weather", schema=[rain], source=repo.source("weather", weather)),
        ]
    )
    frame = asked((1, at(2)), (2, at(3)), (1, at(0)), shop_id=["b", "b", "a"])
    got = store.get_historical_features(frame, ["weather:rain", "visits:visits"]).to_arrow()
    assert got.column("visits").to_pylist() == [12, None, None]
    assert got.column("rain").to_pylist() == [0.1, 0.3, None]


@pytest.mark.filterwarnings("ignore:On demand feature view is an experimental feature:RuntimeWarning")
def test_on_demand_views_get_inputs_that_were_not_asked_for_and_return_only_what_was(
    repo: OfflineRepo,
) -> None:
    store = card_store(repo, [(1, at(1), at(1), 10.0, 4)])
    request = RequestSource(name="request", schema=[Field(name="amount", dtype=Float64)])

    @on_demand_feature_view(
        sources=[store.get_feature_view("spending"), request],
        schema=[Field(name="ratio", dtype=Float64), Field(name="twice", dtype=Float64)],
        mode="python",
    )
    def spending_now(inputs: dict[str, Any]) -> dict[str, Any]:
        ratio = [a / s for a, s in zip(inputs["amount"], inputs["spent"])]  # noqa: B905
        return {"ratio": ratio, "twice": [2 * a for a in inputs["amount"]]}

    store.apply([spending_now])
    frame = asked((1, at(2)), amount=[5.0])
    job = store.get_historical_features(frame, ["spending_now:ratio"])
    got = job.to_df()
    assert got["ratio"].tolist() == [0.5]
    assert got["amount"].tolist() == [5.0]
    assert "twice" not in got.columns
    assert "ratio" not in job.to_arrow_reader().schema.names


def test_features_come_view_by_view_in_the_order_asked(repo: OfflineRepo) -> None:
    rows = {"card_id": [1], "ts": [at(1)], "spent": [1.0], "count": [1]}
    store = repo.store()
    store.apply([CARD, *(card_view(name, repo.source(name, rows)) for name in ("one", "two"))])
    refs = ["two:count", "one:spent", "two:spent", "one:count"]
    names = (
        store.get_historical_features(asked((1, at(2))), refs, full_feature_names=True)
        .to_arrow()
        .column_names
    )
    assert names[2:] == ["two__count", "two__spent", "one__spent", "one__count"]


def test_no_name_in_a_source_or_frame_can_break_a_read(repo: OfflineRepo) -> None:
    awkward = ["rn", "entity_row_id", "k0", "f0", "ts_y", "value_x", 'quo"te', "select", "entity_rows", "r"]
    rows = {"card_id": [1], "ts": [at(1)], **{name: [float(i)] for i, name in enumerate(awkward)}}
    schema = [CARD_KEY, *(Field(name=name, dtype=Float64) for name in awkward)]
    store = repo.store()
    store.apply([CARD, card_view("awkward", repo.source("awkward", rows), schema=schema)])
    columns = {name: ["mine"] for name in ("e.r", "t", "j0", "v0", "c0", "Spent Ünits", "created_y")}
    frame = asked((1, at(2)), **columns)
    got = store.get_historical_features(frame, [f"awkward:{name}" for name in awkward]).to_df()
    assert list(got.columns) == [*frame.columns, *awkward]
    assert got[awkward].to_numpy().tolist() == [[float(i) for i in range(len(awkward))]]
    assert got[list(columns)].to_numpy().tolist() == [["mine"] * len(columns)]


def test_a_feature_named_like_an_entity_column_is_refused(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)])
    with pytest.raises(InputError, match="full_feature_names"):
        store.get_historical_features(asked((1, at(2)), spent=[7.0]), ["spending:spent"])
    frame = asked((1, at(2)), spent=[7.0])
    full = store.get_historical_features(frame, ["spending:spent"], full_feature_names=True).to_df()
    assert full["spending__spent"].tolist() == [1.0]


def test_two_features_of_one_name_are_refused(repo: OfflineRepo) -> None:
    rows = {"card_id": [1], "ts": [at(1)], "spent": [1.0], "count": [1]}
    store = repo.store()
    store.apply([CARD, *(card_view(name, repo.source(name, rows)) for name in ("one", "two"))])
    with pytest.raises(FeatureNameCollisionError):
        store.get_historical_features(asked((1, at(2))), ["one:spent", "two:spent"])


def test_a_missing_join_key_is_feasts_error(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)])
    frame = pd.DataFrame({"card": [1], "event_timestamp": [at(2)]})
    with pytest.raises(FeastEntityDFMissingColumnsError, match="card_id"):
        store.get_historical_features(frame, ["spending:spent"])


def test_a_key_of_another_type_is_refused_with_both_types(repo: OfflineRepo) -> None:
    store = card_store(repo, [(1, at(1), at(1), 1.0, 1)])
    frame = pd.DataFrame({"card_id": ["1"], "event_timestamp": [at(2)]})
    with pytest.raises(InputError, match=r"VARCHAR.*BIGINT"):
        store.get_historical_features(frame, ["spending:spent"]).to_df()


def test_types_are_those_declared_and_missing_values_do_not_change_them(repo: OfflineRepo) -> None:
    rows = {
        "card_id": [1],
        "ts": [at(1)],
        "spent": [1.5],
        "count": [3.0],  # pandas makes integers with gaps floats
        "shops": [["a", None]],
        "days": [[1, 2]],
        "seen": pd.Series([at(1)]).dt.tz_localize(None),
        "name": ["x"],
    }
    schema = [
        CARD_KEY,
        SPENT,
        COUNT,
        Field(name="shops", dtype=Array(String)),
        Field(name="days", dtype=Array(Int64)),
        Field(name="seen", dtype=UnixTimestamp),
        Field(name="name", dtype=String),
    ]
    store = repo.store()
    store.apply([CARD, card_view("all", repo.source("all", rows), schema=schema)])
    refs = [f"all:{field.name}" for field in schema[1:]]
    got = store.get_historical_features(asked((1, at(2)), (2, at(2))), refs).to_arrow()
    types = {
        "spent": pa.float64(),
        "count": pa.int64(),
        "shops": pa.list_(pa.field("l", pa.string())),
        "days": pa.list_(pa.field("l", pa.int64())),
        "seen": pa.timestamp("us", "UTC"),
        "name": pa.string(),
    }
    assert {name: got.schema.field(name).type for name in types} == types
    first = dict(zip(got.column_names, (column[0].as_py() for column in got.columns), strict=True))
    assert (first["count"], first["shops"], first["seen"]) == (3, ["a", None], at(1))
    assert [got.column(name)[1].as_py() for name in types] == [None] * len(types)
