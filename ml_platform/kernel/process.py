"""The environment that this process gives to libraries: no phoning home, no spinning threads."""

import os
from collections.abc import Generator
from contextlib import contextmanager

_DEFAULTS = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "FEAST_USAGE": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "WHYLOGS_NO_ANALYTICS": "True",
    "GIT_PYTHON_REFRESH": "quiet",
    # OpenMP threads that wait by spinning make training fifty times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
}

_OF_A_SERVICE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
    # A pooled connection goes on reading a SQLite file that was deleted or replaced.
    "MLFLOW_SQLALCHEMYSTORE_POOLCLASS": "NullPool",
}

# Of a question: four times at most, within 20 seconds. MLflow's own defaults are eight times of two minutes.
_OF_A_QUESTION = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "3",
}


def set_library_defaults() -> None:
    """Set what libraries read from the environment when they are imported, unless somebody has set it."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def set_service_defaults() -> None:
    """Set how a process that must answer asks MLflow: it gives up in seconds, and sees a database that was replaced.

    A step of training may wait minutes for a registry that restarts; who follows it asks again two seconds later.
    """
    for name, value in _OF_A_SERVICE.items():
        os.environ.setdefault(name, value)


@contextmanager
def asking_mlflow() -> Generator[None]:
    """Ask MLflow with the patience of a question until the end of the block, unless somebody has set another.

    MLflow reads it from the environment at each request. What a training logs outside of such a block may wait minutes
    for a registry that restarts.
    """
    mine = {name: value for name, value in _OF_A_QUESTION.items() if name not in os.environ}
    os.environ.update(mine)
    try:
        yield
    finally:
        for name in mine:
            os.environ.pop(name, None)
