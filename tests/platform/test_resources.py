"""What steps are given: all of it belongs to the environment of their definitions."""

from pathlib import Path

import dagster as dg
import pytest

from ml_platform.defs.resources import resources
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry.connection import prepare


def test_mlflow_is_that_of_the_given_environment_not_of_the_process(home: Settings, tmp_path: Path) -> None:
    other = Settings(home=tmp_path / "other").prepare()

    @dg.asset(required_resource_keys={"mlflow"})
    def logged(context: dg.AssetExecutionContext) -> str:
        return context.resources.mlflow.get_tracking_uri()

    declared = resources().resources or {}
    given = {**declared, "environment": dg.ResourceDefinition.hardcoded_resource(other)}
    assert dg.materialize([logged], resources=given).output_for_node("logged") == other.tracking_uri
    assert (other.root / "mlflow" / "mlflow.db").exists()
    assert not (home.root / "mlflow" / "mlflow.db").exists()


@pytest.mark.parametrize("wanted", [None, "true"])
def test_the_daily_chain_runs_by_itself_where_that_is_set(
    wanted: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ml_platform.definitions import defs

    if wanted is not None:
        monkeypatch.setenv("ML_PLATFORM_AUTOMATION", wanted)
    found = [s for s in defs().sensors or [] if isinstance(s, dg.AutomationConditionSensorDefinition)]
    expected = dg.DefaultSensorStatus.RUNNING if wanted else dg.DefaultSensorStatus.STOPPED
    assert [sensor.default_status for sensor in found] == [expected]


def test_nothing_is_printed_when_mlflow_makes_its_tables(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare(Settings(home=tmp_path / "new").prepare())
    assert (tmp_path / "new" / "mlflow" / "mlflow.db").exists()
    assert capfd.readouterr() == ("", "")
