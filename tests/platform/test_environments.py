"""Environments that share their stores: each has a lake, a Feast project and models of its own, from one setting."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import mlflow
import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from ml_platform.cli.instance import open_instance, prepare_home
from ml_platform.cli.systems import systems
from ml_platform.features.store import store_config
from ml_platform.gates.run_storage import PostgresStorage, url_of
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import PROJECT_ROOT, Settings, settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.connection import prepare
from ml_platform.serving import copies
from tests.postgres_server import running_postgres

MODEL = "fraud"


@pytest.fixture
def shared(tmp_path: Path) -> dict[str, str]:
    """Stores that several environments are given."""
    return {
        "home": str(tmp_path / "home"),
        "lake": "s3://lake/",
        "mlflow_tracking_uri": f"sqlite:///{tmp_path}/mlflow.db",
        "mlflow_artifacts": str(tmp_path / "artifacts"),
    }


def of(shared: dict[str, str], environment: str) -> Settings:
    return Settings.model_validate({**shared, "environment": environment})


def registered(here: Settings) -> registry.Registered:
    """A version of the model, registered in an environment."""
    prepare(here)
    client = registry.client(here)
    name = here.registered_name(MODEL)
    registry._ensure_registered_model(client, name)
    with mlflow.start_run() as run:
        version = client.create_model_version(name, "/nowhere", run_id=run.info.run_id)
    found = registry.version(here, MODEL, int(version.version))
    assert found is not None
    return found


def test_lake_and_project_are_apart(shared: dict[str, str]) -> None:
    found = [of(shared, name) for name in ("development", "production", "branch_42")]
    assert [here.lake_uri for here in found] == [
        "s3://lake/development",
        "s3://lake/production",
        "s3://lake/branch_42",
    ]
    assert [store_config(here)["project"] for here in found] == [
        "ml_platform",
        "ml_platform_production",
        "ml_platform_branch_42",
    ]


def test_only_a_laptop_may_name_its_project_and_not_as_another_environment_does(
    shared: dict[str, str],
) -> None:
    shared["lake"] = f"{shared['home']}/lakes"
    own, other = ({**shared, "feast_project": name} for name in ("experiments", "ml_platform_production"))
    assert of(own, "development").prepare().project == "experiments"
    assert of(other, "production").prepare().project == "ml_platform_production"
    with pytest.raises(InputError, match="ml_platform_branch_42 is required in the environment branch_42"):
        of(other, "branch_42").prepare()
    left = of({**other, "home": f"{shared['home']}_left"}, "development")
    with pytest.raises(
        InputError, match=r"is required in the environment development.*ml_platform_production"
    ):
        left.prepare()
    assert not left.root.exists(), "nothing is made"


def test_environments_in_one_home_have_lakes_beside_each_other(tmp_path: Path) -> None:
    lakes = [Settings(home=tmp_path, environment=name).lake_uri for name in ("development", "staging")]
    assert lakes == [str(tmp_path / "lake"), str(tmp_path / "lake_staging")]


def test_the_copy_of_a_champion_is_that_of_its_environment(tmp_path: Path) -> None:
    production, branch = (Settings(home=tmp_path, environment=name) for name in ("production", "branch_42"))
    copies.keep(production, copies.Files(MODEL, 7, "run", "2018-06-26", {"model.onnx": b"theirs"}))
    assert (copies.kept(production), copies.kept(branch)) == ([MODEL], [])
    assert copies.last(branch, MODEL) is None


def test_a_branch_moves_no_alias_of_another(shared: dict[str, str]) -> None:
    production, branch, alone = (of(shared, name) for name in ("production", "branch_42", "development"))
    theirs, mine = registered(production), registered(branch)
    registry.set_champion(production, MODEL, theirs.version)
    registry.set_champion(branch, MODEL, mine.version)
    assert (theirs.name, theirs.registered_name) == (MODEL, "production.fraud")
    champion = registry.champion(production, MODEL)
    assert champion is not None and champion.run_id == theirs.run_id
    assert registry.aliases(branch) == {MODEL: {registry.CHAMPION: mine.version}}
    assert [version.run_id for version in registry.versions(branch, MODEL)] == [mine.run_id]
    assert (registry.aliases(alone), registry.champion(alone, MODEL)) == ({}, None)


@pytest.mark.parametrize("name", ["", "Production", "branch-42", "a.b", "1st", "a" * 33])
def test_a_name_that_no_store_could_take_is_refused(name: str, shared: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="environment"):
        of(shared, name)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_postgres_is_asked_by_the_driver_that_is_installed(scheme: str, shared: dict[str, str]) -> None:
    url = f"{scheme}://user:secret@db/feast?sslmode=require"
    here = Settings.model_validate({**shared, "feast_registry": url, "mlflow_tracking_uri": url})
    expected = "postgresql+psycopg2://user:secret@db/feast?sslmode=require"
    assert (here.registry_url, here.tracking_uri) == (expected, expected)


def test_a_home_that_was_made_for_sqlite_is_not_taken_for_one_in_postgres(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_DAGSTER_STORAGE", "postgresql://dagster@db/dagster")
    with pytest.raises(InputError, match="was written for SQLite"):
        prepare_home(settings())


def test_a_lake_in_an_object_store_needs_a_region(
    shared: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="AWS_REGION: a region is required"):
        of(shared, "development").prepare()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    assert of(shared, "development").prepare().region == "eu-central-1"


@dg.asset
def made() -> None:
    """Something to have runs of."""


def run_ids(here: Settings) -> set[str]:
    with open_instance(here) as instance:
        return {run.run_id for run in instance.get_runs()}


def run_in(here: Settings) -> str:
    """Make the asset on an environment's instance; the run's id."""
    with open_instance(here) as instance:
        return dg.materialize([made], instance=instance).run_id


@pytest.fixture
def database() -> Iterator[str]:
    with running_postgres(["dagster"]) as urls:
        yield urls["dagster"]


@pytest.mark.parametrize("stored", ["SQLite", "Postgres"])
def test_no_environment_has_the_runs_of_another(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")  # as it was is given back
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path))
    if stored == "Postgres":
        monkeypatch.setenv("ML_PLATFORM_DAGSTER_STORAGE", request.getfixturevalue("database"))
    ran: dict[str, set[str]] = {}
    for name in ("development", "staging", "branch_42"):
        monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", name)
        assert run_ids(settings()) == set()
        ran[name] = {run_in(settings())}
    for name, expected in ran.items():
        monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", name)
        assert run_ids(settings()) == expected


def test_an_address_that_says_where_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", "staging")
    plain = "postgresql://dagster:a%2Fb@db/dagster"
    assert url_of({"postgres_url": plain}) == f"{plain}?options=-csearch_path%3Ddagster_staging"
    own = f"{plain}?options=-csearch_path%3Down"
    assert url_of({"postgres_url": own}) == own
    monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", "development")
    assert url_of({"postgres_url": plain}) == plain


def test_of_many_who_open_a_storage_first_one_makes_its_schema(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", "staging")
    config = {"postgres_url": database, "should_autocreate_tables": False}
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda _: PostgresStorage.from_config_value(None, config), range(6)))
    engine = sa.create_engine(database, poolclass=sa.NullPool)
    assert sa.inspect(engine).has_schema("dagster_staging")


def test_the_doctor_asks_the_storage_of_its_environment(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "")
    for name, value in {"HOME": str(tmp_path), "ENVIRONMENT": "staging", "DAGSTER_STORAGE": database}.items():
        monkeypatch.setenv(f"ML_PLATFORM_{name}", value)
    prepare_home(settings())
    (storage,) = [system for system in systems(settings()) if system.name == "Dagster storage"]
    assert storage.ask(storage.where(), 5) == "0 tables"
    run_in(settings())
    assert storage.ask(storage.where(), 5) != "0 tables"


def test_a_pod_finds_the_instance_that_is_mounted(tmp_path: Path) -> None:
    settings_of_pods = (PROJECT_ROOT / "k8s" / "base" / "ml-platform.env").read_text().splitlines()
    told = dict(line.split("=", 1) for line in settings_of_pods)
    assert told["ML_PLATFORM_DAGSTER_FOLDER"] == told["DAGSTER_HOME"]
    here = Settings(environment="production", dagster_folder=Path(told["ML_PLATFORM_DAGSTER_FOLDER"]))
    assert str(here.dagster_home) == told["DAGSTER_HOME"]
