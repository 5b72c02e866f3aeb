"""Prepares MLflow's stores, and makes sure that no run is left running."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_platform.kernel.settings import Settings


def prepare(settings: Settings) -> None:
    """Make the experiment with this environment's artifact root, before anything logs to it."""
    for name in ("alembic", "mlflow.store.db.utils"):  # they tell of every table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    with quiet_imports():
        import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(settings.project) is None:
        client.create_experiment(settings.project, artifact_location=settings.artifact_root)


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Keep out of a step's log what MLflow and the libraries below it warn of in their own code when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def ended(connection: Any) -> Iterator[None]:
    """End every active MLflow run at the end of the block: FINISHED, or FAILED or KILLED when it raised."""
    status = "FINISHED"
    try:
        yield
    except BaseException as err:
        status = status_of(err)
        raise
    finally:
        while connection.active_run() is not None:
            connection.end_run(status=status)


def status_of(error: BaseException) -> str:
    """How MLflow calls the end of a run that raised: what is no Exception is an interrupt, Dagster's own too."""
    return "FAILED" if isinstance(error, Exception) else "KILLED"
