"""The environment that this process gives to libraries: no phoning home, no spinning threads."""

import os

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


def set_library_defaults() -> None:
    """Set what libraries read from the environment when they are imported, unless somebody has set it."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
