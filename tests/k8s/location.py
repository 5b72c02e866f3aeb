"""The code location of the tests: every declared asset, one of which says what its pod needs.

Steps tell the memory limit that they are given, and wait while a test holds them.
"""

import dataclasses
import time
from collections.abc import Sequence

import dagster as dg

from ml_platform import declarations
from ml_platform.compiler import AssetPlan, Step, compile_asset, component_of
from ml_platform.defs.resources import resources
from ml_platform.gates.outcomes import Outcome
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.pods import Compute
from ml_platform.kernel.settings import settings
from ml_platform.sources.spec import SourceSpec

COMPUTE = Compute(cpu=0.75, memory="3Gi")
"""What `sources/transactions` declares here; `sources/fraud_labels` leaves it to the deployment."""


def defs() -> dg.Definitions:
    """The declared assets, and the executor and resources that settings choose."""
    declared = declarations.load()
    key = (SourceSpec, "transactions")
    changed = declared.specs[key].model_copy(update={"compute": COMPUTE})
    catalog = Catalog({**declared.specs, key: changed}, declared.origins)
    plans = [plan for spec in catalog.specs.values() for plan in component_of(spec).plans(catalog)]
    environment = resources()
    return dg.Definitions(
        assets=[compile_asset(_told_and_held(plan), catalog) for plan in plans],
        # What is refused does not get as far as MLflow, and preparing one is most of a step.
        resources={**(environment.resources or {}), "mlflow": dg.ResourceDefinition.none_resource()},
        executor=environment.executor,
    )


def _told_and_held(plan: AssetPlan) -> AssetPlan:
    def work(step: Step) -> Sequence[Outcome]:
        here = settings()
        step.log.info("memory limit %s", here.memory_limit)
        while (here.root / "hold").exists():
            time.sleep(0.05)
        return plan.work(step)

    return dataclasses.replace(plan, work=work)
