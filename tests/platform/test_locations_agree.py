"""One code location, told four times: to dg, to the webserver, to Dagster+ and to Kubernetes."""

from pathlib import Path
from typing import Any

import yaml
from dagster_cloud_cli.config.models import Location, load_dagster_cloud_yaml
from dagster_dg_core.context import DgContext
from dagster_k8s.container_context import K8sContainerContext

from ml_platform.kernel.settings import PROJECT_ROOT, Settings


def dg_location() -> DgContext:
    return DgContext.for_project_environment(PROJECT_ROOT, {})


def cloud_location() -> Location:
    (location,) = load_dagster_cloud_yaml((PROJECT_ROOT / "dagster_cloud.yaml").read_text()).locations
    return location


def workspace_location() -> dict[str, Any]:
    (entry,) = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())["load_from"]
    return entry["python_module"]


def test_workspace_and_dg_name_one_location_and_module() -> None:
    dg = dg_location()
    wanted = {"module_name": dg.code_location_target_module_name, "location_name": dg.code_location_name}
    assert workspace_location() == wanted


def test_dagster_plus_and_dg_name_one_location_and_module() -> None:
    dg, cloud = dg_location(), cloud_location()
    assert cloud.code_source is not None
    assert (cloud.location_name, cloud.code_source.module_name) == (
        dg.code_location_name,
        dg.code_location_target_module_name,
    )


def test_the_build_folder_of_dagster_plus_exists() -> None:
    build = cloud_location().build
    assert build is not None
    assert Path(PROJECT_ROOT, str(build.directory)).is_dir()


def test_dagster_takes_the_kubernetes_settings_and_no_run_may_gain_rights() -> None:
    context = K8sContainerContext.create_from_config(cloud_location().container_context)
    for pods in (context.server_k8s_config, context.run_k8s_config):
        assert pods.container_config["security_context"]["allow_privilege_escalation"] is False
        assert pods.pod_spec_config["security_context"]["run_as_non_root"] is True


def test_the_variables_that_dagster_plus_sets_are_settings_of_the_platform() -> None:
    context = K8sContainerContext.create_from_config(cloud_location().container_context)
    names = {variable["name"] for variable in context.run_k8s_config.container_config["env"]}
    known = {f"ML_PLATFORM_{name}".upper() for name in Settings.model_fields}
    assert {name for name in names if name.startswith("ML_PLATFORM_")} <= known
    assert "ML_PLATFORM_HOME" in names
