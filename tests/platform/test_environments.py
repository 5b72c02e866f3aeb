"""Environments that share their stores: each has a lake, a Feast project and models of its own, from one setting."""

from pathlib import Path

import mlflow
import pytest
from pydantic import ValidationError

from ml_platform.features.store import store_config
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.connection import prepare

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


def of(shared: dict[str, str], environment: str | None) -> Settings:
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
    found = [of(shared, name) for name in (None, "production", "branch_42")]
    assert [here.lake_uri for here in found] == ["s3://lake/", "s3://lake/production", "s3://lake/branch_42"]
    assert [store_config(here)["project"] for here in found] == [
        "ml_platform",
        "ml_platform_production",
        "ml_platform_branch_42",
    ]


def test_a_project_that_is_named_stays(shared: dict[str, str]) -> None:
    assert of({**shared, "feast_project": "payments"}, "production").project == "payments"


def test_an_embedded_home_needs_no_prefix(tmp_path: Path) -> None:
    here = Settings(home=tmp_path, environment="staging")
    assert here.lake_uri == str(tmp_path / "lake")


def test_a_branch_moves_no_alias_of_another(shared: dict[str, str]) -> None:
    production, branch, alone = (of(shared, name) for name in ("production", "branch_42", None))
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
