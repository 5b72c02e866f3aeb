"""Dagster+ starts the same pods from the same image as the cluster's own Dagster."""

from dagster_cloud_cli.config.models import load_dagster_cloud_yaml
from dagster_k8s.container_context import K8sContainerContext

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.cluster import config_map, workloads
from tests.k8s.jobs import launcher_config, launcher_settings


def context() -> K8sContainerContext:
    (location,) = load_dagster_cloud_yaml((PROJECT_ROOT / "dagster_cloud.yaml").read_text()).locations
    return K8sContainerContext.create_from_config(location.container_context)


def test_runs_have_the_resources_and_rights_that_they_have_in_the_cluster() -> None:
    own = launcher_config(launcher_settings())["run_k8s_config"]
    plus = context().run_k8s_config
    for part in ("resources", "security_context", "volume_mounts"):
        assert plus.container_config[part] == own["container_config"][part]
    assert plus.pod_spec_config == own["pod_spec_config"]
    assert plus.job_spec_config == own["job_spec_config"]


def test_the_image_is_built_for_the_same_registry() -> None:
    (location,) = load_dagster_cloud_yaml((PROJECT_ROOT / "dagster_cloud.yaml").read_text()).locations
    assert location.build is not None
    images = {container["image"] for pods in workloads("production") for container in pods.containers}
    assert any(image.startswith(f"{location.build.registry}:") for image in images)


def test_the_server_is_as_restricted_as_runs_are() -> None:
    server, run = context().server_k8s_config, context().run_k8s_config
    assert server.pod_spec_config == run.pod_spec_config
    assert server.container_config["security_context"] == run.container_config["security_context"]


def test_settings_that_do_not_differ_between_environments_are_those_of_the_cluster() -> None:
    given = {e["name"]: e["value"] for e in context().run_k8s_config.container_config["env"]}
    own = config_map("production", "ml-platform")
    assert {"ML_PLATFORM_HOME", "ML_PLATFORM_EXECUTOR"} <= set(given)
    assert given == {name: own[name] for name in given}
