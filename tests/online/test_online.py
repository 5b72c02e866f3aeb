"""The online store has the newest audited snapshot and nothing else, and says so."""

import dagster as dg
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Int64

from ml_platform.features.feast_objects import feast_objects
from ml_platform.features.spec import FeatureServiceSpec, FeatureViewSpec, OnDemandFeaturesSpec
from ml_platform.features.store import feature_store, quiet_feast
from ml_platform.kernel.expectations import Expectation
from ml_platform.online.store import ONLINE_PUBLICATIONS
from tests.built import CUSTOMERS, NEXT_DAY, Platform, changed_column, day_of_transactions
from tests.support import FIRST_DAY, LAST_DAY

ONLINE, REGISTRY = "online/customer_spending", "online/feature_registry"
OLDER_DAY = "2018-06-20"


def published_online(platform: Platform) -> list[str]:
    """Partitions in the order in which they were written to the online store."""
    entries = ONLINE_PUBLICATIONS.entries(platform.lake)
    return [entry["partition"] for entry in entries if entry["view"] == "customer_spending"]


def counts_online(platform: Platform, customer: int) -> list[int]:
    """The customer's transactions in 1, 7 and 30 days, as the online store answers."""
    names = [f"customer_transactions_{window}" for window in ("1d", "7d", "30d")]
    with quiet_feast():
        answer = feature_store(platform.settings).get_online_features(
            features=[f"customer_spending:{name}" for name in names], entity_rows=[{"customer_id": customer}]
        )
    return [answer.to_dict()[name][0] for name in names]


def counts_offline(platform: Platform, customer: int, day: str) -> list[int]:
    names = ", ".join(f"customer_transactions_{window}" for window in ("1d", "7d", "30d"))
    query = f"SELECT {names} FROM ({platform.scan(CUSTOMERS, day)}) WHERE customer_id = {customer}"
    return list(platform.query(query).to_pylist()[0].values())


def a_late_payment(platform: Platform) -> int:
    """Deliver one more payment of the last day, known just in time for its snapshot; the customer's key."""
    row = platform.query(
        f"SELECT * FROM ({platform.scan('sources/transactions', LAST_DAY)}) LIMIT 1"
    ).to_pylist()[0]
    late = day_of_transactions(LAST_DAY).slice(0, 1)
    late = changed_column(late, "transaction_id", [999_999_999])
    late = changed_column(late, "customer_id", [row["customer_id"]])
    platform.deliver("transactions", late, known_at=f"{NEXT_DAY}T00:00:00")
    platform.make("sources/transactions", LAST_DAY)
    return row["customer_id"]


def test_a_range_publishes_its_newest_snapshot_once_and_records_every_day(shared: Platform) -> None:
    assert published_online(shared) == [LAST_DAY]
    assert {FIRST_DAY, OLDER_DAY, LAST_DAY} < shared.materialized(ONLINE)
    assert shared.newest_metadata(ONLINE, LAST_DAY)["online"] == f"published {LAST_DAY}"
    assert "not published" in shared.newest_metadata(ONLINE, OLDER_DAY)["online"]


def test_what_was_published_is_read_back_and_reported(shared: Platform) -> None:
    metadata = shared.newest_metadata(ONLINE, LAST_DAY)
    assert (metadata["read_back_keys"], metadata["read_back_mismatches"]) == (100, 0)


def test_an_older_partition_changes_nothing_online_and_is_recorded(platform: Platform) -> None:
    customer = platform.rows(CUSTOMERS, OLDER_DAY).column("customer_id")[0].as_py()
    before = counts_online(platform, customer)
    platform.make(ONLINE, OLDER_DAY)
    assert (
        platform.newest_metadata(ONLINE, OLDER_DAY)["online"] == f"the online store has the newer {LAST_DAY}"
    )
    assert counts_online(platform, customer) == before == counts_offline(platform, customer, LAST_DAY)
    assert published_online(platform) == [LAST_DAY]


def test_the_same_snapshot_again_is_written_again_only_if_the_store_lost_it(platform: Platform) -> None:
    platform.make(ONLINE, FIRST_DAY, LAST_DAY)
    assert platform.newest_metadata(ONLINE, LAST_DAY)["online"] == f"the online store already has {LAST_DAY}"
    assert published_online(platform) == [LAST_DAY]
    platform.settings.online_store_path.unlink()
    platform.make(REGISTRY)
    platform.make(ONLINE, LAST_DAY)
    assert platform.newest_metadata(ONLINE, LAST_DAY)["read_back_mismatches"] == 0
    assert published_online(platform) == [LAST_DAY, LAST_DAY]


def test_a_corrected_snapshot_takes_the_place_of_the_one_that_is_online(platform: Platform) -> None:
    customer = a_late_payment(platform)
    before = counts_online(platform, customer)
    platform.make(CUSTOMERS, LAST_DAY)
    platform.make(ONLINE, LAST_DAY)
    assert counts_online(platform, customer) == [count + 1 for count in before]
    assert platform.newest_metadata(ONLINE, LAST_DAY)["online"] == f"published {LAST_DAY}"
    assert published_online(platform) == [LAST_DAY, LAST_DAY]


def test_a_refused_snapshot_never_gets_online(platform: Platform) -> None:
    declared = platform.catalog.get(FeatureViewSpec, "customer_spending", wanted_by="a test")
    strict = declared.model_copy(update={"expectations": (Expectation(rows_at_least=1_000_000),)})
    customer = a_late_payment(platform)
    before = counts_online(platform, customer)
    assert "at least 1000000 rows" in platform.refused(CUSTOMERS, LAST_DAY, changed=[strict])
    platform.make(ONLINE, LAST_DAY)
    assert counts_online(platform, customer) == before
    assert published_online(platform) == [LAST_DAY]

    platform.deliver("transactions", day_of_transactions(NEXT_DAY))
    platform.make("sources/transactions", NEXT_DAY)
    platform.refused(CUSTOMERS, NEXT_DAY, changed=[strict])
    said = platform.refused(ONLINE, NEXT_DAY)
    assert f"{CUSTOMERS} is required; {NEXT_DAY} have none" in said
    assert counts_online(platform, customer) == before
    assert NEXT_DAY not in platform.materialized(ONLINE)


def test_what_is_no_longer_declared_leaves_the_registry_and_its_online_table(platform: Platform) -> None:
    shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
    source = FileSource(
        name="old_source",
        path=platform.lake.table(CUSTOMERS).uri,
        timestamp_field="event_timestamp",
        field_mapping={"customer_id": "shop_id"},
    )
    fields = [Field(name="customer_transactions_1d", dtype=Int64)]
    # A view is told from an entity of the same name: `customer` is declared, as an entity only.
    old = FeatureView(name="customer", entities=[shop], schema=fields, source=source)
    with quiet_feast():
        feature_store(platform.settings).apply(
            [shop, old, FeatureService(name="old_service", features=[old])]
        )
    platform.make(REGISTRY)
    store = feature_store(platform.settings)
    declared = {found.name for found in feast_objects(platform.catalog, platform.lake)}
    registered = [*store.list_all_feature_views(), *store.list_entities(), *store.list_feature_services()]
    assert {found.name for found in registered} == declared
    assert "customer" not in {view.name for view in store.list_feature_views()}
    assert "old_source" not in {found.name for found in store.list_data_sources()}


def test_online_assets_follow_the_snapshot_and_the_applied_registry(shared: Platform) -> None:
    upstream = {found.key for found in shared.catalog.node(ONLINE).upstream}
    assert upstream == {CUSTOMERS, REGISTRY}
    events = shared.instance.fetch_materializations(dg.AssetKey(REGISTRY.split("/")), limit=1).records
    made = events[0].asset_materialization
    assert made is not None
    kinds = {
        "FeatureView": FeatureViewSpec,
        "OnDemandFeatureView": OnDemandFeaturesSpec,
        "FeatureService": FeatureServiceSpec,
    }
    told = {name: value.value for name, value in made.metadata.items()}
    assert told.keys() == {"Entity", *kinds}
    assert {name: told[name] for name in kinds} == {
        name: len(shared.catalog.all(kind)) for name, kind in kinds.items()
    }
