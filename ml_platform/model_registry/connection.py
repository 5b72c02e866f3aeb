"""Prepares MLflow's stores, says soon when they are not there, and makes sure that no run is left running."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from ml_platform.kernel.addresses import without_password
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.process import asking_mlflow
from ml_platform.kernel.settings import Settings

_DATABASE_SECONDS = 10.0
"""How long a database that refuses is asked again before it is not there; MLflow's own patience is 100 seconds."""


def prepare(settings: Settings) -> None:
    """Make the experiment with this environment's artifact root, before anything logs to it.

    Raises StoreError when the registry does not answer.
    """
    for name in ("alembic", "mlflow.store.db.utils"):  # they tell of every table that they make
        logging.getLogger(name).setLevel(logging.WARNING)
    with quiet_imports():
        import mlflow

    mlflow.set_tracking_uri(settings.tracking_uri)
    with asked(settings):
        known = client(settings)
        if known.get_experiment_by_name(settings.project) is None:
            known.create_experiment(settings.project, artifact_location=settings.artifact_root)


def client(settings: Settings) -> Any:
    """An MLflow client of this environment's registry."""
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=settings.tracking_uri, registry_uri=settings.tracking_uri)


@contextmanager
def asked(settings: Settings) -> Iterator[None]:
    """Whatever the registry answers instead of what it was asked becomes a StoreError, within 20 seconds."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        if settings.tracking_uri.startswith("postgresql"):
            _reached(settings.tracking_uri)
        with asking_mlflow():
            yield
    except (MlflowException, SQLAlchemyError, OSError, ValueError) as err:
        raise StoreError(
            f"{without_password(settings.tracking_uri)}: the model registry is required and does not answer as it "
            f"should: {err}"
        ) from err


@lru_cache
def _reached(database: str) -> None:
    """A database was reached by this process; one that was not is asked again each time."""
    import sqlalchemy as sa
    from sqlalchemy.exc import OperationalError

    engine = sa.create_engine(database, poolclass=sa.NullPool, connect_args={"connect_timeout": 5})
    for attempt in Retrying(
        retry=retry_if_exception_type(OperationalError),
        stop=stop_after_delay(_DATABASE_SECONDS),
        wait=wait_random_exponential(multiplier=0.2, max=2),
        reraise=True,
    ):
        with attempt:
            engine.connect().close()


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
