"""What steps are given: all of it belongs to the environment of their definitions."""

from pathlib import Path

import dagster as dg

from ml_platform.defs.resources import resources
from ml_platform.kernel.settings import Settings


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
