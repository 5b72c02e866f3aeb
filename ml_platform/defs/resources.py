"""What steps are given at run time; the environment enters through `kernel.settings` alone."""

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg

from ml_platform.kernel.settings import Settings, settings


@dg.definitions
def resources() -> dg.Definitions:
    """The settings of this environment, the executor of its runs, and the connection to MLflow of dagster-mlflow."""
    return dg.Definitions(
        executor=executor_of(settings()),
        resources={
            "environment": dg.ResourceDefinition(
                resource_fn=lambda _: settings().prepare(),
                description="Where the lake, the registries and the online store are.",
            ),
            "mlflow": dg.ResourceDefinition(
                resource_fn=mlflow_connection,
                required_resource_keys={"environment"},
                description="MLflow, with one parent run per Dagster run that is always ended.",
            ),
        },
    )


def executor_of(here: Settings) -> dg.ExecutorDefinition:
    """Where this environment executes the steps of a run."""
    if here.executor == "k8s":
        from dagster_k8s import k8s_job_executor

        return k8s_job_executor
    return {"in_process": dg.in_process_executor, "multiprocess": dg.multiprocess_executor}[here.executor]


def mlflow_connection(context: dg.InitResourceContext) -> Iterator[Any]:
    """MLflow of the step's environment, in one parent run for this Dagster run; connects only when a step needs it.

    dagster-mlflow leaves the run of an asset RUNNING, so it is ended here, whatever happened.
    """
    from ml_platform.model_registry.connection import ended, prepare

    here: Settings = context.resources.environment
    prepare(here)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # dagster-mlflow as a whole is beta
        from dagster_mlflow.resources import MlFlow

    run = context.run
    wanted = SimpleNamespace(
        log=context.log,
        dagster_run=run,
        run_id=run.run_id if run else "none",
        resource_config={
            "mlflow_tracking_uri": here.tracking_uri,
            "experiment_name": here.project,
            "env": {},
            "extra_tags": {},
        },
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        connection = MlFlow(wanted)
    with ended(connection):
        yield connection
