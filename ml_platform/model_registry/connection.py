"""Prepares MLflow's stores, and makes sure that no run is left running."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ml_platform.kernel.settings import Settings


def prepare(settings: Settings) -> None:
    """Make the experiment with this environment's artifact root, before anything logs to it."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations of libraries that MLflow itself imports
        import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    client = mlflow.MlflowClient()
    if client.get_experiment_by_name(settings.feast_project) is None:
        client.create_experiment(settings.feast_project, artifact_location=settings.artifact_root)


@contextmanager
def ended(connection: Any) -> Iterator[None]:
    """End every active MLflow run at the end of the block: FAILED when it raised, else FINISHED."""
    status = "FINISHED"
    try:
        yield
    except BaseException:
        status = "FAILED"
        raise
    finally:
        while connection.active_run() is not None:
            connection.end_run(status=status)
