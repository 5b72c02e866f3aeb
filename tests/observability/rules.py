"""The rules as they stand in the repository, and the programs of Prometheus that judge and run them."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ml_platform.kernel.settings import PROJECT_ROOT

OBSERVABILITY = PROJECT_ROOT / "k8s" / "observability"
RULES: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "rules.yaml").read_text())
ALERTS: dict[str, Any] = {
    rule["alert"]: rule for group in RULES["spec"]["groups"] for rule in group["rules"] if "alert" in rule
}


def rule_file(folder: Path) -> Path:
    """The rules in a file of Prometheus's own form: what the operator makes of a PrometheusRule."""
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES["spec"]))
    return path


def tool(name: str) -> str:
    """Where a program of Prometheus is; without it a test fails."""
    found = shutil.which(name)
    if found is None:
        pytest.fail(
            f"{name} is required and not on the PATH. It comes with Prometheus: apt-get install prometheus on Debian "
            f"or Ubuntu, or the archive of prometheus.io"
        )
    return found


def promtool(*arguments: str | Path) -> str:
    """What promtool says to something that it has to find right."""
    command = [tool("promtool"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
