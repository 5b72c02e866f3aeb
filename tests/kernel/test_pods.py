"""What an asset needs of a pod: declared once, told to Kubernetes, and no part of what its rows are."""

import json

import dagster as dg
import pytest
from pydantic import ValidationError

from ml_platform.compiler import compile_asset, component_of
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.pods import Compute
from tests.lifecycle.worlds import payments, spending


def test_a_pod_is_given_what_is_declared_and_its_engine_spills_before_it_is_killed() -> None:
    wanted = {"cpu": "0.5", "memory": "4Gi", "nvidia.com/gpu": "1"}
    assert Compute(cpu=0.5, memory="4Gi", gpu=1).container() == {
        "resources": {"requests": wanted, "limits": wanted},
        "env": [{"name": "ML_PLATFORM_MEMORY_LIMIT", "value": "2457MiB"}],
    }


def test_what_is_left_out_is_left_to_the_deployment() -> None:
    assert Compute(cpu=2).container() == {"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}}


@pytest.mark.parametrize("memory", ["4G", "4", "0Gi", "1.5Gi", "4gi", "-1Gi", ""])
def test_memory_is_written_as_kubernetes_writes_it(memory: str) -> None:
    with pytest.raises(ValidationError, match="such as 512Mi or 4Gi"):
        Compute(memory=memory)


@pytest.mark.parametrize("wrong", [{"cpu": 0}, {"gpu": 0}, {"ram": "4Gi"}])
def test_what_no_pod_can_have_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Compute.model_validate(wrong)


def test_other_resources_are_no_other_declaration() -> None:
    before = payments()
    after = before.model_copy(update={"compute": Compute(memory="8Gi")})
    assert after.digest() == before.digest()
    assert before.model_copy(update={"owners": ("team:other",)}).digest() != before.digest()


def test_the_step_of_an_asset_carries_its_resources() -> None:
    source, view = payments(), spending(0).model_copy(update={"compute": Compute(cpu=2, memory="1Gi")})
    catalog = Catalog({(type(spec), spec.name): spec for spec in (source, view)})
    tags = {
        plan.node.key: dict(compile_asset(plan, catalog).op.tags)
        for spec in (source, view)
        for plan in component_of(spec).plans(catalog)
    }
    given = json.loads(tags["features/spending"]["dagster-k8s/config"])
    assert given == {"container_config": Compute(cpu=2, memory="1Gi").container()}
    assert tags["sources/payments"] == {}


@pytest.mark.parametrize("executor", ["in_process", "multiprocess", "k8s"])
def test_one_setting_says_where_steps_are_executed(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from ml_platform.defs.resources import resources

    monkeypatch.setenv("ML_PLATFORM_EXECUTOR", executor)
    found = resources().executor
    assert isinstance(found, dg.ExecutorDefinition)
    assert found.name == executor
