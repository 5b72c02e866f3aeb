"""docs/deploy.md: its commands make what the manifests ask for, and what it names is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.documents import fenced
from tests.k8s.cluster import K8S, workloads
from tests.k8s.test_pods import documented_secrets

DOCUMENT = (PROJECT_ROOT / "docs" / "deploy.md").read_text()
BY_HAND = {"oauth2-proxy", "dagster-tls", "mlflow-tls"}
"""What an issuer of identities and one of certificates give."""


def test_its_commands_make_the_secrets_with_their_keys(tmp_path: Path) -> None:
    (script,) = fenced(DOCUMENT, "bash")
    record = tmp_path / "kubectl"
    record.write_text(f"#!/usr/bin/env bash\nprintf '%s\\n' \"$*\" >> '{tmp_path}/asked'\n")
    record.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BUCKET_KEY_ID": "id-of-a-test",
        "BUCKET_SECRET_KEY": "secret-of-a-test",
    }
    subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=PROJECT_ROOT, env=environment, check=True)
    made = {}
    for line in (tmp_path / "asked").read_text().splitlines():
        if found := re.match(r"--namespace ml-platform create secret generic ([\w-]+) (.*)", line):
            made[found[1]] = dict(re.findall(r"--from-literal=([\w.-]+)=(\S+)", found[2]))
    wanted = {name: keys for name, keys in documented_secrets().items() if name not in BY_HAND}
    assert set(made) == set(wanted)
    for name, keys in wanted.items():
        assert set(made[name]) == {key for key in keys if "WEBHOOKS" not in key} - {"dagster"}
    assert made["serving-keys"]["keys"].startswith("prometheus:")
    assert made["postgres"]["feast-password"] in made["ml-platform"]["ML_PLATFORM_FEAST_REGISTRY"]
    assert made["redis"]["password"] in made["ml-platform"]["ML_PLATFORM_ONLINE_STORE"]


def test_it_names_every_overlay_and_component_and_no_other() -> None:
    named = set(re.findall(r"^\| `k8s/(overlays|components)/([\w-]+)/`", DOCUMENT, re.MULTILINE))
    there = {
        (path.parent.name, path.name)
        for kind in ("overlays", "components")
        for path in (K8S / kind).iterdir()
    }
    assert named == there


def test_it_waits_for_everything_but_serving_which_is_ready_after_the_first_release_only() -> None:
    (command,) = re.findall(r"^\$ (kubectl .*rollout status (?:.*\\\n)*.*)$", DOCUMENT, re.MULTILINE)
    waited_for = set(re.findall(r"\b(deployment|statefulset)/([\w-]+)", command))
    there = {(pods.kind.lower(), pods.name) for pods in workloads("production") if pods.kind != "CronJob"}
    assert waited_for == there - {("deployment", "serving")}


def test_the_readme_leads_to_it() -> None:
    assert "`docs/deploy.md`" in (PROJECT_ROOT / "README.md").read_text()
