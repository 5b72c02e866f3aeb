"""What every online store must do: newest wins, corrections take effect, reads say what there is and of when."""

import multiprocessing
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ml_platform.features.feast_import import load_feast
from ml_platform.features.online_reads import Key, OnlineReads, OnlineRow, ViewKeys
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.features.store import store_config
from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.tables import Lake
from ml_platform.models.contract import Contract, KeyContract, ViewContract
from ml_platform.online.store import ONLINE_PUBLICATIONS, publish_snapshot
from ml_platform.serving.store import OnlineFeatures
from tests.online.small_world import (
    CATALOG,
    OF_PAIRS,
    VIEW,
    SmallWorld,
    Values,
    publish_in_this_process,
    time_of_snapshot,
)
from tests.redis_server import RedisServer, redis, running_redis

__all__ = ["redis"]

OLD, NEW, LATER = "2018-06-09", "2018-06-10", "2018-06-11"
ROWS: Mapping[str, Values] = {"ann": (3, 12.5), "böb": (0, None), "": (1, 7.0)}


@pytest.fixture(params=["sqlite", "redis"])
def world(
    request: pytest.FixtureRequest, home: Settings, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> SmallWorld:
    """The small view, applied to an empty online store of either kind."""
    if request.param == "redis":
        redis.flush()
        monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
    return SmallWorld(settings().prepare()).prepare()


@pytest.fixture
def redis_world(home: Settings, redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> SmallWorld:
    """The small view, applied to an empty Redis."""
    redis.flush()
    monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
    return SmallWorld(settings().prepare()).prepare()


def wallets(*names: str) -> ViewKeys:
    return asked(VIEW, [(name,) for name in names])


def asked(spec: FeatureViewSpec, keys: Sequence[Key]) -> ViewKeys:
    from ml_platform.features.feast_objects import entities, feature_view

    view = feature_view(spec, CATALOG, Lake("nowhere"), entities(spec, CATALOG))
    return ViewKeys(view, spec.entity_keys, keys, ("payments", "mean_amount"))


values = st.integers(-(2**63), 2**63 - 1) | st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(st.sampled_from(["wallet_id", "region_id", "kind", "a"]), values, min_size=1))
def test_redis_is_asked_where_feast_keeps_an_entity(key: dict[str, int | str]) -> None:
    load_feast()
    from feast.infra.online_stores.helpers import _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    from ml_platform.features.online_store import _entity

    given = [Value(int64_val=v) if isinstance(v, int) else Value(string_val=v) for v in key.values()]
    feasts = _redis_key("", EntityKey(join_keys=list(key), entity_values=given), 3)
    assert _entity(tuple(key), tuple(key.values())) == feasts


def online(world: SmallWorld, *names: str) -> list[OnlineRow]:
    """What the online store has for some wallets."""
    return OnlineReads(world.settings).read([wallets(*names)])[0]


def lake_of(world: SmallWorld) -> Lake:
    return Lake(world.settings.lake_uri)


def features_of(world: SmallWorld, *specs: FeatureViewSpec) -> OnlineFeatures:
    """The same, as a model's version reads it."""
    views = tuple(map(contract_of, specs or (VIEW,)))
    return OnlineFeatures(world.settings, Contract.model_construct(views=views))


def contract_of(spec: FeatureViewSpec) -> ViewContract:
    kinds = {"wallet_id": "string", "region_id": "int64", "kind": "string"}
    return ViewContract(
        name=spec.name,
        keys=tuple(
            KeyContract.model_validate({"entity": entity, "name": key, "type": kinds[key]})
            for entity, key in spec.key_of.items()
        ),
        features=("payments", "mean_amount"),
        types=("int64", "double"),
        ttl_seconds=3 * 86_400,
        available_after_seconds=3_600,
        declaration=spec.digest(),
    )


def in_a_process(day: str) -> None:
    """Bring a snapshot online in a process of its own, as a step does."""
    publisher = multiprocessing.get_context("spawn").Process(target=publish_in_this_process, args=(day,))
    publisher.start()
    publisher.join(timeout=300)
    assert publisher.exitcode == 0


def rows_of(partition: str, rows: Mapping[str, Values] = ROWS) -> list[OnlineRow]:
    """What it has to have of a snapshot."""
    return [(time_of_snapshot(partition), list(values)) for values in rows.values()]


def test_a_snapshot_is_answered_whole_with_its_time_nulls_and_every_key(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    said = world.publish(NEW)
    assert said == {"online": f"published {NEW}", "read_back_keys": 3, "read_back_mismatches": 0}
    assert online(world, *ROWS) == rows_of(NEW)


def test_keys_that_nobody_published_have_no_row_beside_those_that_have(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    assert online(world, "nobody", "ann", "ANN") == [None, rows_of(NEW)[0], None]


def test_a_view_of_two_entities_has_a_row_for_each_combination_that_was_published(world: SmallWorld) -> None:
    pairs: dict[Key, Values] = {(7, "mall"): (3, 12.5), (7, "corner"): (0, None), (-8, "mall"): (1, 7.0)}
    world.write_of(OF_PAIRS, NEW, pairs)
    world.write(NEW, ROWS)
    said = world.publish(NEW, view=OF_PAIRS)
    assert said == {"online": f"published {NEW}", "read_back_keys": 3, "read_back_mismatches": 0}
    world.publish(NEW)
    wanted = asked(OF_PAIRS, [*pairs, (-8, "corner"), (7, "")])
    both = OnlineReads(world.settings).read([wanted, wallets("ann")])
    at = time_of_snapshot(NEW)
    assert both == [[*((at, list(row)) for row in pairs.values()), None, None], [(at, [3, 12.5])]]
    rows = [
        {"kind": kind, "wallet_id": "ann", "region_id": 7} for kind in ("mall", "other", "mall", "corner")
    ]
    of_pairs, of_wallets = features_of(world, OF_PAIRS, VIEW).read(rows)
    assert of_pairs.times == [at, None, at, at]
    assert of_pairs.values == {"payments": [3, None, 3, 0], "mean_amount": [12.5, None, 12.5, None]}
    assert of_wallets.values == {"payments": [3] * 4, "mean_amount": [12.5] * 4}


def test_a_newer_snapshot_takes_the_place_of_the_one_before(world: SmallWorld) -> None:
    world.write(OLD, ROWS)
    world.publish(OLD)
    newer = {"ann": (4, None), "böb": (1, 5.0), "": (1, 7.0)}
    world.write(NEW, newer)
    world.publish(NEW)
    assert online(world, *newer) == rows_of(NEW, newer)


def test_an_older_snapshot_has_no_effect(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    world.write(OLD, dict.fromkeys(ROWS, (99, 99.0)))
    world.publish(NEW)
    assert world.publish(OLD) == {"online": f"the online store has the newer {NEW}"}
    assert online(world, *ROWS) == rows_of(NEW)


def test_a_correction_of_the_snapshot_that_is_online_takes_effect(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    corrected = {**ROWS, "ann": (4, 11.0), "böb": (1, 5.0)}
    world.write(NEW, corrected)
    assert world.publish(NEW)["online"] == f"published {NEW}"
    assert online(world, *corrected) == rows_of(NEW, corrected)
    world.write(NEW, ROWS)
    world.publish(NEW)
    assert online(world, *ROWS) == rows_of(NEW)


def test_snapshots_of_hours_are_published_as_those_of_days_are(world: SmallWorld) -> None:
    earlier, hour = f"{NEW}-09:00", f"{NEW}-13:00"
    world.write(earlier, dict.fromkeys(ROWS, (99, 99.0)))
    world.write(hour, ROWS)
    said = world.publish(earlier, hour)
    assert said == {"online": f"published {hour}", "read_back_keys": 3, "read_back_mismatches": 0}
    assert world.publish(earlier) == {"online": f"the online store has the newer {hour}"}
    assert online(world, *ROWS) == rows_of(hour)


def test_the_same_snapshot_is_not_written_twice(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    assert world.publish(NEW)["online"] == f"the online store already has {NEW}"
    assert len(ONLINE_PUBLICATIONS.entries(lake_of(world))) == 1


def test_what_the_store_lost_is_published_again(world: SmallWorld, redis: RedisServer) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    kept = OnlineReads(world.settings)
    assert kept.read([wallets(*ROWS)]) == [rows_of(NEW)]
    if world.settings.redis_url:
        redis.kill()
        redis.start()
    else:
        world.settings.online_store_path.unlink()
        world.prepare()
    assert kept.read([wallets("ann")]) == [[None]]
    assert world.publish(NEW)["online"] == f"published {NEW}"
    assert kept.read([wallets(*ROWS)]) == [rows_of(NEW)]


def test_publishers_at_the_same_time_leave_the_newest_whole(world: SmallWorld) -> None:
    days = {
        day: {f"wallet {i}": (number, float(number)) for i in range(500)}
        for number, day in enumerate((OLD, LATER))
    }
    for day, rows in days.items():
        world.write(day, rows)
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Barrier(len(days))
    publishers = [spawn.Process(target=publish_in_this_process, args=(day, ready)) for day in days]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join(timeout=300)
    assert [publisher.exitcode for publisher in publishers] == [0, 0]
    assert online(world, *days[LATER]) == rows_of(LATER, days[LATER])
    recorded = [entry["partition"] for entry in ONLINE_PUBLICATIONS.entries(lake_of(world))]
    assert recorded == sorted(set(recorded)) and recorded[-1] == LATER


def test_redis_itself_keeps_the_later_row_whoever_writes(redis_world: SmallWorld) -> None:
    redis_world.write(NEW, ROWS)
    redis_world.write(OLD, {**dict.fromkeys(ROWS, (99, 99.0)), "only then": (5, 5.0)})
    for day in (NEW, OLD):  # as if two homes published at once, and the older one came last
        publish_snapshot(redis_world.settings, VIEW, day, content_hash="any", run_id="a test")
    assert online(redis_world, *ROWS) == rows_of(NEW)
    assert online(redis_world, "only then") == [(time_of_snapshot(OLD), [5, 5.0])]


def test_a_row_is_of_one_snapshot_while_another_is_being_published(
    world: SmallWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_SERVING__ONLINE_TIMEOUT_SECONDS", "30")  # a test's machine may be busy
    names = [f"wallet {i}" for i in range(50)]
    for number, day in enumerate((OLD, NEW, LATER)):
        world.write(day, {name: (number, float(number)) for name in names})
    world.publish(OLD)
    wanted = {time_of_snapshot(day): [number, float(number)] for number, day in enumerate((OLD, NEW, LATER))}
    reads, done = OnlineReads(settings()), threading.Event()

    def read_until_done() -> set[int]:
        seen: set[int] = set()
        while not done.wait(0.002):  # leaves the other process some of the machine
            for row in reads.read([wallets(*names)])[0]:
                assert row is not None and row[1] == wanted[row[0]]
                seen.add(row[0])
        return seen

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read_until_done) for _ in range(2)]
        try:
            world.publish(NEW)
            in_a_process(LATER)
        finally:
            done.set()
        assert time_of_snapshot(OLD) in set().union(*(reader.result() for reader in readers))
    assert (
        reads.read([wallets(*names)])[0] == [(time_of_snapshot(LATER), wanted[time_of_snapshot(LATER)])] * 50
    )


def test_a_store_that_was_never_made_or_does_not_answer_is_an_error_within_the_timeout(
    world: SmallWorld, redis: RedisServer
) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    reads = features_of(world)
    assert reads.read([{"wallet_id": "ann"}])[0].times == [time_of_snapshot(NEW)]
    if world.settings.redis_url:
        for fail, mend in ((redis.freeze, redis.thaw), (redis.stop, redis.start)):
            fail()
            started = time.monotonic()
            with pytest.raises(StoreError, match="online store is required and did not answer"):
                reads.read([{"wallet_id": "ann"}])
            assert time.monotonic() - started < 10  # a second; ten on a machine that others use
            mend()
            assert reads.read([{"wallet_id": "ann"}])[0].times in ([time_of_snapshot(NEW)], [None])
    else:
        world.settings.online_store_path.unlink()
        with pytest.raises(StoreError, match=r"online store at .* is required; there is none"):
            reads.read([{"wallet_id": "ann"}])


def test_a_key_that_is_asked_for_twice_is_answered_twice(world: SmallWorld) -> None:
    world.write(NEW, ROWS)
    world.publish(NEW)
    (found,) = features_of(world).read([{"wallet_id": name} for name in ("ann", "nobody", "ann")])
    assert found.times == [time_of_snapshot(NEW), None, time_of_snapshot(NEW)]
    assert found.values == {"payments": [3, None, 3], "mean_amount": [12.5, None, 12.5]}


def test_publishing_to_a_store_that_does_not_answer_is_refused_and_not_recorded(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis(password="s,e=cret/@ 1") as server:
        monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", server.url)
        world = SmallWorld(settings().prepare()).prepare()
        world.write(NEW, ROWS)
        server.stop()
        with pytest.raises(StoreError, match="materialize again") as refused:
            world.publish(NEW)
        assert "cret" not in str(refused.value)
        assert ONLINE_PUBLICATIONS.entries(lake_of(world)) == []
        server.start()
        assert world.publish(NEW)["online"] == f"published {NEW}"
        assert online(world, *ROWS) == rows_of(NEW)


def test_a_connection_that_died_is_opened_again_for_the_same_request(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_redis() as server:
        monkeypatch.setenv("ML_PLATFORM_ONLINE_STORE", server.url)
        reads = features_of(SmallWorld(settings().prepare()).prepare())
        for _ in range(3):
            assert reads.read([{"wallet_id": "ann"}])[0].times == [None]
            server.kill()
            server.start()
        assert reads.read([{"wallet_id": "ann"}])[0].times == [None]


def test_all_views_are_read_in_one_round_trip(redis_world: SmallWorld, redis: RedisServer) -> None:
    reads = OnlineReads(redis_world.settings)
    reads.read([wallets("ann")])
    with redis.client() as client:
        before = client.info("stats")["total_reads_processed"]
        reads.read([wallets("ann"), wallets("ann", "nobody")])
        after = client.info("stats")["total_reads_processed"]
    assert after - before == 2  # the one that asked, and the one that asks how many there were


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("localhost:6379", "the scheme is 'localhost'"),
        ("http://redis:6379", "the scheme is 'http'"),
        ("redis://", "the host is missing"),
        ("redis://redis:port", "host or port cannot be read"),
        ("redis://redis:70000", "host or port cannot be read"),
        ("redis://redis:6379/first", "the database is no number"),
        ("redis://:secret@redis:6379?socket_timeout=60", "other options than ssl_"),
    ],
)
def test_what_is_no_address_of_a_redis_is_refused_without_being_repeated(url: str, said: str) -> None:
    with pytest.raises(InputError, match=f"ML_PLATFORM_ONLINE_STORE: .*{said}") as refused:
        Settings(online_store=SecretStr(url)).prepare()
    assert "secret" not in str(refused.value)


def test_encrypted_connections_and_names_of_users_are_taken(home: Settings) -> None:
    from feast import RepoConfig
    from feast.infra.online_stores.helpers import get_online_store_from_config
    from redis import SSLConnection

    url = "rediss://reader:p%40ss@redis.example.com:6380/2?ssl_ca_certs=/etc/ca.pem"
    given = Settings(home=home.root, online_store=SecretStr(url)).prepare()
    assert "p%40ss" not in repr(given) and "p%40ss" not in repr(store_config(given))
    config = RepoConfig(**store_config(given))
    pool = get_online_store_from_config(config.online_store)._get_client(config.online_store).connection_pool
    assert pool.connection_class is SSLConnection
    wanted = {"host": "redis.example.com", "port": 6380, "db": 2, "username": "reader", "password": "p@ss"}
    assert wanted.items() <= pool.connection_kwargs.items()
    assert pool.connection_kwargs["socket_timeout"] == given.serving.online_timeout_seconds
