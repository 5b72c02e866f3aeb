"""What a service depends on fails under load: no answer is wrong, and what is refused is counted and said."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.engine import small_answer
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.online.store import publish_snapshot
from ml_platform.serving.logged import log_table
from ml_platform.serving.versions import load
from tests.redis_server import RedisServer, running_redis
from tests.serving.load import Expected, Load, Row
from tests.serving.mlflow_server import MlflowServer, running_mlflow
from tests.serving.processes import ServiceProcess
from tests.serving.variants import MODEL
from tests.support import LAST_DAY, copied_home, of_fraud

AT = "2018-06-27T00:30:00"
MICROS = 1_530_059_400_000_000
STORE = "503 urn:problem-type:ml-platform:store"
LIVE_WITHIN = 30.0  # two or three seconds on a machine that has nothing else to do


@dataclass(frozen=True)
class World:
    """A service with all that it depends on, each a process of its own."""

    settings: Settings
    redis: RedisServer
    mlflow: MlflowServer
    service: ServiceProcess
    rows: list[Row]
    expected: Expected

    def load(self) -> Load:
        return Load(self.service.port, MODEL, self.rows, self.expected)

    def logged(self) -> list[str]:
        """Ids of all predictions in the lake."""
        scan = Lake(self.settings.lake_uri).table(log_table(MODEL)).scan()
        return [found for (found,) in small_answer(f"SELECT prediction_id FROM ({scan})")]


def until(holds: Callable[[], bool], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def world(released_once: Path, built_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home = copied_home(released_once)
    for folder in ("features", "ledgers"):
        shutil.copytree(built_once / "lake" / folder, home / "lake" / folder)
    with (
        pytest.MonkeyPatch.context() as patch,
        running_redis(folder=tmp_path_factory.mktemp("redis")) as redis,
    ):
        patch.setenv("ML_PLATFORM_HOME", str(home))
        patch.setenv("ML_PLATFORM_ONLINE_STORE", redis.url)
        here = settings().prepare()
        for view in of_fraud(FeatureViewSpec):
            publish_snapshot(here, view, LAST_DAY, content_hash="", run_id="")
        rows, expected = answers(here)
        with running_mlflow(here) as mlflow:
            service = ServiceProcess(
                {
                    "ML_PLATFORM_MLFLOW_TRACKING_URI": mlflow.url,
                    "ML_PLATFORM_SERVING__FOLLOW_SECONDS": "0.5",
                    "ML_PLATFORM_SERVING__LOG_SECONDS": "1",
                    "ML_PLATFORM_SERVING__LOG_QUEUE": "500",
                },
                "--at",
                AT,
            )
            try:
                service.start()
                yield World(here, redis, mlflow, service, rows, expected)
            finally:
                service.stop()
    shutil.rmtree(home)


def answers(here: Settings) -> tuple[list[Row], Expected]:
    """Rows of entities that are online, and their scores by each version, as this process works them out."""
    expected: dict[int, list[float]] = {}
    rows = [
        {"customer_id": i, "terminal_id": 2 * i, "amount": 10.0 * i, "transaction_time": MICROS // 1_000_000}
        for i in range(1, 25)
    ]
    for number in (1, 2):
        version = registry.version(here, MODEL, number)
        assert version is not None
        found = load(here, version)
        online = found.features.read(rows)
        assert all(time is not None for view in online for time in view.times)
        scores = found.scorer.score(rows, online, at=MICROS).scores
        expected[number] = [score for score in scores if score is not None]
    assert len({*expected[1], *expected[2]}) > len(rows)
    return rows, expected


def test_a_redis_that_is_killed_is_said_and_counted_until_it_is_back(world: World) -> None:
    counted = world.service.metric("refused_total", reason="store")
    with world.load() as load:
        load.more(100)
        world.redis.kill()
        load.until_refused()
        assert world.service.answers("/healthz")
        world.redis.start()
        load.more(100)
    assert load.answered.wrong == []
    assert set(load.answered.refused) == {STORE}
    assert world.service.metric("refused_total", reason="store") - counted == load.answered.refused.total()


def test_a_redis_that_hangs_is_said_in_time_and_health_is_answered_meanwhile(world: World) -> None:
    with world.load() as load:
        load.more(100)
        world.redis.freeze()
        try:
            load.until_refused()
            assert world.service.answers("/healthz")
        finally:
            world.redis.thaw()
        load.more(100)
    assert load.answered.wrong == []
    assert set(load.answered.refused) <= {STORE, "503 urn:problem-type:ml-platform:too_slow"}


def test_a_promotion_and_a_rollback_under_load_refuse_nothing(world: World) -> None:
    with world.load() as load:
        load.more(50, version=1)
        for number in (2, 1):
            registry.set_champion(world.settings, MODEL, number)
            load.more(50, version=number, within=LIVE_WITHIN + 5)
    assert load.answered.wrong == []
    assert not load.answered.refused
    assert world.service.model()["version"] == 1


def test_a_full_disk_loses_log_and_says_how_much_and_no_answer(world: World) -> None:
    lost, failures = world.service.metric("log_lost_total"), world.service.metric("log_write_failures_total")
    with world.load() as load:
        load.more(50)
        with world.service.full_disk():
            until(lambda: world.service.metric("log_write_failures_total") > failures)
            until(lambda: world.service.metric("log_lost_total") > lost)
            load.more(50)
        load.more(50)
    until(lambda: world.service.metric("log_queue_depth") == 0)
    assert load.answered.wrong == []
    assert not load.answered.refused
    logged = world.logged()
    assert len(logged) == len(set(logged))
    missing = {name for _, name in load.answered.ids} - set(logged)
    assert len(missing) == world.service.metric("log_lost_total") - lost > 0
    assert any("could not be written" in said for said in world.service.said)


def test_a_worker_that_is_killed_loses_what_waited_for_the_log_and_comes_back(world: World) -> None:
    until(lambda: world.service.metric("log_queue_depth") == 0)
    with world.load() as load:
        load.more(200)
        until(lambda: world.service.metric("log_queue_depth") > 0)
        began = time.monotonic()
        waiting = world.service.metric("log_queue_depth")
        world.service.kill()
        killed = time.monotonic()
        load.until_refused()
        world.service.start()
        load.more(100)
    until(lambda: world.service.metric("log_queue_depth") == 0)
    assert load.answered.wrong == []
    assert set(load.answered.refused) <= {
        "ConnectionRefusedError",
        "ConnectionResetError",
        "RemoteDisconnected",
    } | {"503 urn:problem-type:ml-platform:not_ready"}
    logged = world.logged()
    assert len(logged) == len(set(logged))
    missing = {name for _, name in load.answered.ids} - set(logged)
    meanwhile = [name for at, name in load.answered.ids if began <= at <= killed]
    assert len(missing) <= waiting + len(meanwhile)


def test_without_mlflow_it_goes_on_also_after_a_restart(world: World) -> None:
    # the last test of this module: MLflow stays away; that it is followed again is tested in test_following.py
    with world.load() as load:
        load.more(100)
        world.mlflow.kill()
        until(lambda: not world.service.model()["registry"])
        load.more(100)
        assert not load.answered.refused
        world.service.kill()
        world.service.start()
        load.more(100)
        found = world.service.model()
        assert (found["version"], found["origin"], found["registry"]) == (1, "copy", False)
        assert "not answer" in found["problems"][0]  # it refuses, or it is waited for in vain
        assert '"origin":"copy"' in world.service.get("/readyz")
    assert load.answered.wrong == []
