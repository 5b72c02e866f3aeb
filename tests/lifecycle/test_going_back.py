"""Databases that a later release has moved forward: what refuses them, what does not, and what brings them back."""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from ml_platform.cli.instance import open_instance, prepare_home
from ml_platform.gates.run_storage import url_of
from ml_platform.kernel.settings import DEVELOPMENT, settings
from tests.lifecycle.earlier_release import LATER, make_later, revision
from tests.lifecycle.operations import run_documented, tried
from tests.postgres_server import running_postgres
from tests.redis_server import free_port

ASSET = dg.AssetKey("made_before")
SINCE = dg.AssetKey("made_since")
MOVED = ("dagster", "mlflow")


@dataclass(frozen=True)
class MovedForward:
    """Databases of a later release, and a folder with a backup of before."""

    urls: Mapping[str, str]
    before: Mapping[str, str]
    folder: Path

    def revisions(self) -> dict[str, str]:
        return {name: revision(self.urls[name]) for name in MOVED}


@contextmanager
def databases(folder: Path, environment: str, schema: str) -> Iterator[dict[str, str]]:
    """Empty databases, and what the documented commands are told of them and of an environment; the URL of each."""
    with running_postgres((*MOVED, "feast")) as urls, pytest.MonkeyPatch.context() as patch:
        variables = {
            **{name.upper(): url for name, url in urls.items()},
            "SCHEMA": schema,
            "ML_PLATFORM_ENVIRONMENT": environment,
            "ML_PLATFORM_HOME": str(folder / "home"),
            "ML_PLATFORM_DAGSTER_STORAGE": urls["dagster"],
            "DAGSTER_HOME": "",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        prepare_home(settings())
        yield urls


@contextmanager
def instance_of(environment: str) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of any environment of these databases."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ML_PLATFORM_ENVIRONMENT", environment)
        patch.setenv("DAGSTER_HOME", "")
        with open_instance(settings()) as instance:
            yield instance


def make(environment: str, asset: dg.AssetKey) -> None:
    with instance_of(environment) as instance:
        instance.report_runless_asset_event(dg.AssetMaterialization(asset))


def is_made(environment: str, asset: dg.AssetKey) -> bool:
    with instance_of(environment) as instance:
        return instance.get_latest_materialization_event(asset) is not None


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MovedForward]:
    """Databases of production that know an asset, of which an earlier image had kept it in the default schema."""
    folder = tmp_path_factory.mktemp("later")
    with databases(folder, "production", "dagster_production") as urls:
        make(DEVELOPMENT, ASSET)
        run_documented("Runs in the default schema", folder)
        run_documented("Upgrade", folder)
        run_documented("Back up", folder)
        found = {**urls, "dagster": url_of({"postgres_url": urls["dagster"]})}
        before = {name: revision(found[name]) for name in MOVED}
        for name in MOVED:
            make_later(found[name])
        yield MovedForward(found, before, folder)


def test_the_migration_refuses_them_and_changes_nothing(moved: MovedForward) -> None:
    done = tried("Upgrade", moved.folder)
    assert done.returncode != 0
    assert f"Can't locate revision identified by '{LATER}'" in done.stderr, done.stderr
    assert set(moved.revisions().values()) == {LATER}


def test_mlflows_server_does_not_start_on_them(moved: MovedForward) -> None:
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--port", str(free_port())]
    done = subprocess.run(
        [*command, "--backend-store-uri", moved.urls["mlflow"], "--workers", "1"],
        cwd=moved.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode != 0
    assert f"found version {LATER}, but expected {moved.before['mlflow']}" in done.stdout + done.stderr


def test_dagster_is_not_told_so_that_one_has_to_ask_the_migration(moved: MovedForward) -> None:
    assert is_made("production", ASSET)


def test_what_was_backed_up_before_brings_them_back_and_no_other_environment(moved: MovedForward) -> None:
    make("production", SINCE)
    make("staging", SINCE)
    run_documented("Back to the release before", moved.folder)
    assert moved.revisions() == moved.before
    run_documented("Upgrade", moved.folder)
    assert moved.revisions() == moved.before
    assert is_made("production", ASSET) and not is_made("production", SINCE)
    assert is_made("staging", SINCE)


def test_development_is_backed_up_and_restored_in_the_default_schema(tmp_path: Path) -> None:
    with databases(tmp_path, DEVELOPMENT, "public"):
        make(DEVELOPMENT, ASSET)
        run_documented("Back up", tmp_path)
        make(DEVELOPMENT, SINCE)
        run_documented("Restore", tmp_path)
        assert is_made(DEVELOPMENT, ASSET) and not is_made(DEVELOPMENT, SINCE)
