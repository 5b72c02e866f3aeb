"""Published snapshots hold what a recount finds, and one on-demand function answers alike wherever it is asked."""

import datetime as dt
import json
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ml_platform.cli.story import corrupted
from ml_platform.features.spec import FeatureServiceSpec
from ml_platform.features.store import feature_store, quiet_feast, service_rows, store_config
from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from tests.built import CUSTOMERS, NEXT_DAY, TERMINALS, Platform, day_of_transactions
from tests.support import FIRST_DAY, LAST_DAY, all_assets, land_simulated, made, run_asset

MIDNIGHT = pd.Timestamp(NEXT_DAY)
WINDOWS = (1, 7, 30)
ON_DEMAND = ["is_night", "is_weekend", "amount_over_mean_30d"]


def snapshot(platform: Platform, asset: str, key: str) -> pd.DataFrame:
    return platform.rows(asset, LAST_DAY).to_pandas().set_index(key)


def sampled(rows: pd.DataFrame) -> list[int]:
    """Twenty entities spread over all, and one that was idle for a week."""
    counts = rows.filter(regex="_transactions_7d$").iloc[:, 0]
    return [*rows.index[:: max(1, len(rows) // 20)], counts.index[counts == 0][0]]


def test_customer_snapshots_are_what_a_recount_of_the_delivered_rows_gives(shared: Platform) -> None:
    events, found = shared.delivered().to_pandas(), snapshot(shared, CUSTOMERS, "customer_id")
    assert set(found.index) == set(events.customer_id)
    for customer in sampled(found):
        for days in WINDOWS:
            since = MIDNIGHT - pd.Timedelta(days=days)
            mine = events[(events.customer_id == customer) & (events.tx_datetime >= since)]
            row = found.loc[customer]
            assert row[f"customer_transactions_{days}d"] == len(mine)
            assert row[f"customer_mean_amount_{days}d"] == pytest.approx(mine.tx_amount.mean(), nan_ok=True)


def test_terminal_snapshots_count_only_what_is_older_than_the_labels_maturity(shared: Platform) -> None:
    events, found = shared.delivered().to_pandas(), snapshot(shared, TERMINALS, "terminal_id")
    end = MIDNIGHT - pd.Timedelta(days=7)
    assert set(found.index) == set(events.terminal_id)
    assert found.terminal_fraud_rate_30d.max() > 0
    for terminal in [*sampled(found), found.terminal_fraud_rate_30d.idxmax()]:
        for days in WINDOWS:
            inside = (events.tx_datetime >= end - pd.Timedelta(days=days)) & (events.tx_datetime < end)
            mine = events[(events.terminal_id == terminal) & inside]
            row = found.loc[terminal]
            assert row[f"terminal_transactions_{days}d"] == len(mine)
            assert row[f"terminal_fraud_rate_{days}d"] == pytest.approx(mine.tx_fraud.mean(), nan_ok=True)


def test_a_snapshot_is_stamped_with_the_midnight_that_ends_its_day(shared: Platform) -> None:
    rows = shared.rows(CUSTOMERS, LAST_DAY)
    midnight = dt.datetime.combine(dt.date.fromisoformat(NEXT_DAY), dt.time(), tzinfo=dt.UTC)
    assert rows.column("event_timestamp").unique().to_pylist() == [midnight]
    assert rows.column("created_timestamp").unique().to_pylist() == [midnight]


@pytest.mark.parametrize("asset", [CUSTOMERS, TERMINALS])
def test_the_columns_that_the_ui_shows_are_those_of_the_table(shared: Platform, asset: str) -> None:
    shown = _definition_metadata(asset)["dagster/column_schema"].columns
    rows = shared.rows(asset, LAST_DAY)
    assert [column.name for column in shown] == [n for n in rows.column_names if n != "partition_date"]
    for column in shown:
        assert str(rows.schema.field(column.name).type).startswith(column.type), column


def test_a_feature_of_labels_leads_back_to_the_label_source() -> None:
    deps = _definition_metadata(TERMINALS)["dagster/column_lineage"].deps_by_column
    origins = {(d.asset_key.to_user_string(), d.column_name) for d in deps["terminal_fraud_rate_7d"]}
    assert ("sources/fraud_labels", "is_fraud") in origins
    origins = {(d.asset_key.to_user_string(), d.column_name) for d in deps["terminal_transactions_7d"]}
    assert origins == {
        ("sources/transactions", c) for c in ("transaction_id", "event_timestamp", "terminal_id")
    }


def _definition_metadata(asset: str) -> Mapping[str, Any]:
    return all_assets().asset_layer.asset_graph.get(dg.AssetKey(asset.split("/"))).metadata


@pytest.mark.parametrize("delivery", ["never delivered", "refused"])
def test_a_source_day_without_published_rows_is_refused_by_name_and_nothing_is_written(
    platform: Platform, delivery: str
) -> None:
    if delivery == "refused":
        platform.deliver("transactions", corrupted(day_of_transactions(NEXT_DAY), "terminal_id"))
        platform.refused("sources/transactions", NEXT_DAY)
    before = platform.lake.table(CUSTOMERS).version(), platform.hashes(CUSTOMERS)
    said = platform.refused(CUSTOMERS, LAST_DAY, NEXT_DAY)
    assert "features/customer_spending" in said and "sources/transactions" in said
    assert f" {NEXT_DAY} have none" in said, "the day, and no other"
    assert "materialize sources/transactions" in said
    assert (platform.lake.table(CUSTOMERS).version(), platform.hashes(CUSTOMERS)) == before
    assert NEXT_DAY not in platform.materialized(CUSTOMERS)


def test_labels_are_required_up_to_the_delay_before_the_snapshot_and_not_beyond(
    home: Settings, instance: dg.DagsterInstance
) -> None:
    land_simulated(home, FIRST_DAY, "2018-04-10", scale=0.05)
    made(instance, "sources/transactions", FIRST_DAY, "2018-04-10")
    made(instance, "sources/fraud_labels", FIRST_DAY, "2018-04-02")
    assert run_asset(instance, TERMINALS, "2018-04-09").success
    said = run_asset(instance, TERMINALS, "2018-04-10").error
    assert "sources/fraud_labels are required; 2018-04-03 have none" in said
    assert set(published(Lake(home.lake_uri), TERMINALS)) == {"2018-04-09"}


def test_a_range_is_one_commit_and_a_day_made_again_alone_has_the_same_content(platform: Platform) -> None:
    first, day, last = "2018-06-20", "2018-06-23", LAST_DAY
    before = platform.hashes(TERMINALS)
    table = platform.lake.table(TERMINALS)
    assert (table.version(), len(before)) == (1, 87), "87 days were committed at once"
    platform.make(TERMINALS, day)
    assert (table.version(), platform.hashes(TERMINALS)) == (2, before)
    platform.make(TERMINALS, first, last)
    assert (table.version(), platform.hashes(TERMINALS)) == (3, before)


def asked(platform: Platform) -> tuple[FeatureServiceSpec, pd.DataFrame]:
    """Thirty events of the last day, asked about two hours after its snapshot, in Feast's own terms."""
    service = platform.catalog.get(FeatureServiceSpec, "fraud_scoring", wanted_by="a test")
    events = platform.delivered().to_pandas()
    events = events[events.tx_datetime >= pd.Timestamp(LAST_DAY)].iloc[::5][:30]
    rows = pd.DataFrame(
        {
            "customer_id": events.customer_id.to_numpy(),
            "terminal_id": events.terminal_id.to_numpy(),
            "event_timestamp": (MIDNIGHT + pd.Timedelta(hours=2)).tz_localize("UTC"),
            "amount": events.tx_amount.to_numpy(),
            "transaction_time": events.tx_datetime.astype("int64").to_numpy() // 1_000_000,
        }
    )
    rows["event_timestamp"] = rows.event_timestamp.dt.as_unit("us")
    return service, rows


def test_on_demand_features_are_the_same_through_feast_through_the_platform_and_online(
    shared: Platform,
) -> None:
    service, rows = asked(shared)
    store = feature_store(shared.settings)
    by_feast = store.get_historical_features(
        entity_df=rows, features=store.get_feature_service(service.name)
    ).to_arrow()
    by_us = pa.Table.from_batches(
        service_rows(shared.settings, shared.catalog, service, _as_sql(rows), versions={})
    )
    requests = rows.drop(columns="event_timestamp").to_dict("records")
    with quiet_feast():
        online = store.get_online_features(
            features=store.get_feature_service(service.name), entity_rows=requests
        ).to_dict()
    names = service.feature_names(shared.catalog)
    assert set(ON_DEMAND) < set(names)
    for name in names:
        ours = by_us.column(name).to_numpy()
        np.testing.assert_array_equal(by_feast.column(name).to_numpy().astype(np.float32), ours, name)
        if name in online:
            answered = np.array([np.nan if v is None else v for v in online[name]], np.float32)
            np.testing.assert_array_equal(answered, ours, name)
    assert set(online) >= {*ON_DEMAND, "customer_mean_amount_30d", "terminal_fraud_rate_30d"}
    assert 0 < by_us.column("amount_over_mean_30d").to_numpy().mean() < 100


def test_without_entity_rows_the_features_still_have_their_columns_and_types(shared: Platform) -> None:
    service, rows = asked(shared)
    nothing = f"SELECT * FROM ({_as_sql(rows)}) WHERE customer_id < 0"
    (batch,) = service_rows(shared.settings, shared.catalog, service, nothing, versions={})
    names = service.feature_names(shared.catalog)
    assert (batch.num_rows, batch.schema.names[-len(names) :]) == (0, names)
    assert {str(batch.schema.field(name).type) for name in names} == {"float"}


def _as_sql(rows: pd.DataFrame) -> str:
    """The rows as SQL, in their order."""
    listed = ", ".join(
        f"({i}, {r.customer_id}, {r.terminal_id}, TIMESTAMPTZ '{r.event_timestamp.isoformat()}', "
        f"{r.amount!r}::DOUBLE, {r.transaction_time}::BIGINT)"
        for i, r in enumerate(rows.itertuples())
    )
    names = "i, customer_id, terminal_id, event_timestamp, amount, transaction_time"
    return f"SELECT * EXCLUDE (i) FROM (VALUES {listed}) AS asked({names}) ORDER BY i"


def test_a_process_that_has_only_the_registry_computes_the_on_demand_features_too(shared: Platform) -> None:
    program = """
        import json, sys
        sys.modules["ml_platform.defs"] = None  # whoever imports the declared content fails
        from feast import FeatureStore, RepoConfig
        config, request = json.loads(sys.argv[1]), json.loads(sys.argv[2])
        store = FeatureStore(config=RepoConfig(**config))
        view = store.get_on_demand_feature_view("transaction_context")
        names = [f"transaction_context:{feature.name}" for feature in view.features]
        print(json.dumps(store.get_online_features(features=names, entity_rows=request).to_dict()))
    """
    _, rows = asked(shared)
    request = rows.drop(columns="event_timestamp").head(5).to_dict("records")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(program),
            json.dumps(store_config(shared.settings)),
            json.dumps(request),
        ],
        cwd=shared.settings.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answered = json.loads(done.stdout.splitlines()[-1])
    means = snapshot(shared, CUSTOMERS, "customer_id").customer_mean_amount_30d
    expected = [row["amount"] / means[row["customer_id"]] for row in request]
    assert answered["amount_over_mean_30d"] == pytest.approx(expected)
    assert set(answered["is_night"]) <= {0.0, 1.0}
    assert answered["is_weekend"] == [float(dt.date.fromisoformat(LAST_DAY).weekday() >= 5)] * 5
