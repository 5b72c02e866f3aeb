"""The whole life of a model on a cluster's stores: Postgres, Redis and an object store, by settings alone.

What comes of it is what the embedded stores give, to the bit; and any other pod finds all of it.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import pyarrow.fs as pa_fs
import pytest

from ml_platform import declarations
from ml_platform.cli.instance import open_instance, prepare_home
from ml_platform.gates.run_storage import url_of
from ml_platform.kernel.durations import since_epoch
from ml_platform.kernel.settings import Settings, settings
from ml_platform.lake.ledger import published
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry
from ml_platform.serving.versions import load
from tests.lifecycle import earlier_release
from tests.lifecycle.operations import run_documented
from tests.object_store import BUCKET, running_store
from tests.postgres_server import running_postgres
from tests.redis_server import running_redis
from tests.support import LAST_DAY, build_platform, copied_home, made

DATABASES = ("dagster", "mlflow", "feast")
AT = since_epoch(dt.datetime(2018, 6, 27, 12, tzinfo=dt.UTC))
ASKED = [
    {
        "customer_id": number,
        "terminal_id": 2 * number,
        "amount": 55.5 * number,
        "transaction_time": 1530000000,
    }
    for number in range(1, 9)
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A platform with everything up to a release, of which nothing but scratch lies in its home."""
    with pytest.MonkeyPatch.context() as patch, _stores(patch):
        here = _pod(tmp_path_factory.mktemp("pod"), patch)
        build_platform(here)
        yield here


@contextmanager
def _stores(patch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Empty stores, and the variables by which a pod finds them; the URL of each database."""
    with ExitStack() as stack:
        variables = stack.enter_context(running_store())
        urls = stack.enter_context(running_postgres(DATABASES))
        redis = stack.enter_context(running_redis(password="tests"))
        variables |= {
            "ML_PLATFORM_ENVIRONMENT": "staging",
            "ML_PLATFORM_LAKE": f"s3://{BUCKET}/lake",
            "ML_PLATFORM_MLFLOW_ARTIFACTS": f"s3://{BUCKET}/mlflow",
            "ML_PLATFORM_MLFLOW_TRACKING_URI": urls["mlflow"],
            "ML_PLATFORM_FEAST_REGISTRY": urls["feast"],
            "ML_PLATFORM_DAGSTER_STORAGE": urls["dagster"],
            "ML_PLATFORM_ONLINE_STORE": redis.url,
            **{name.upper(): url for name, url in urls.items()},
            "SCHEMA": "dagster_staging",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        yield urls


def _pod(home: Path, patch: pytest.MonkeyPatch) -> Settings:
    """Settings of a pod that begins with an empty home."""
    patch.setenv("ML_PLATFORM_HOME", str(home))
    here = settings().prepare()
    patch.setenv("DAGSTER_HOME", str(here.dagster_home))
    return here


def scores(here: Settings) -> list[float | None]:
    """What the champion answers, of the features that are online."""
    champion = registry.champion(here, "fraud")
    assert champion is not None
    served = load(here, champion)
    online = served.features.read(ASKED)
    assert all(time is not None for view in online for time in view.times), "every key is online"
    return list(served.scorer.score(ASKED, online, at=AT).scores)


def test_every_partition_has_the_content_that_embedded_stores_give(
    cluster: Settings, built_once: Path
) -> None:
    here, embedded = Lake(cluster.lake_uri), Lake(str(built_once / "lake"))
    assets = [key for key in declarations.load().lineage.nodes if published(embedded, key)]
    assert {"sources/transactions", "features/terminal_risk", "training_sets/fraud"} <= set(assets)
    for key in assets:
        found, expected = published(here, key), published(embedded, key)
        assert {day: entry.content_hash for day, entry in found.items()} == {
            day: entry.content_hash for day, entry in expected.items()
        }, key


def test_the_champion_answers_what_it_answers_embedded(
    cluster: Settings, built_once: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = scores(cluster)
    for name in (
        "ENVIRONMENT",
        "LAKE",
        "MLFLOW_ARTIFACTS",
        "MLFLOW_TRACKING_URI",
        "FEAST_REGISTRY",
        "ONLINE_STORE",
    ):
        monkeypatch.delenv(f"ML_PLATFORM_{name}")
    assert answered == scores(_pod(copied_home(built_once), monkeypatch))


def test_another_pod_finds_everything(
    cluster: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _pod(tmp_path / "other", monkeypatch)
    assert scores(other) == scores(cluster)
    with open_instance(other) as instance:
        assert LAST_DAY in instance.get_materialized_partitions(dg.AssetKey(["models", "fraud"]))
        assert instance.get_latest_materialization_event(dg.AssetKey(["releases", "fraud"])) is not None
    assert [path.name for path in (other.root / "mlflow").rglob("*")] == []


def backed_up(folder: Path) -> Path:
    """Keep the databases' dumps in a folder, as documented, and what is in the bucket; where that is."""
    bucket = folder / "bucket"
    bucket.mkdir()
    run_documented("Back up", folder)
    pa_fs.copy_files(f"s3://{BUCKET}", str(bucket))
    return bucket


def test_restored_in_an_empty_place_the_champion_answers_the_same(
    cluster: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, bucket = scores(cluster), backed_up(tmp_path)
    with _stores(monkeypatch):
        run_documented("Restore", tmp_path)
        pa_fs.copy_files(str(bucket), f"s3://{BUCKET}")
        restored = _pod(tmp_path / "restored", monkeypatch)
        with open_instance(restored) as instance:
            for view in ("customer_spending", "terminal_risk"):
                made(instance, f"online/{view}", LAST_DAY)
        assert scores(restored) == answered


def test_moved_forward_from_an_earlier_release_the_champion_answers_the_same(
    cluster: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, bucket = scores(cluster), backed_up(tmp_path)
    with _stores(monkeypatch) as urls:
        pa_fs.copy_files(str(bucket), f"s3://{BUCKET}")
        run_documented("Restore", tmp_path)
        moved = {"dagster": url_of({"postgres_url": urls["dagster"]}), "mlflow": urls["mlflow"]}
        newest = {name: earlier_release.revision(url) for name, url in moved.items()}
        earlier_release.make_dagster_earlier(moved["dagster"])
        earlier_release.make_mlflow_earlier(moved["mlflow"], rows_of=cluster.tracking_uri)
        pod = _pod(tmp_path / "pod", monkeypatch)
        prepare_home(pod)
        run_documented("Upgrade", tmp_path)
        assert {name: earlier_release.revision(url) for name, url in moved.items()} == newest
        with open_instance(pod) as instance:
            assert LAST_DAY in instance.get_materialized_partitions(dg.AssetKey(["models", "fraud"]))
            made(instance, "online/feature_registry")
            for view in ("customer_spending", "terminal_risk"):
                made(instance, f"online/{view}", LAST_DAY)
        assert scores(pod) == answered
