"""checkov has nothing to say against the manifests, but for what is explained here."""

import json
import subprocess
from pathlib import Path

import yaml

from tests.k8s.cluster import rendered
from tests.k8s.tools import program

EVERYWHERE = {
    "CKV_K8S_15": "a tag names one build: a pod has to start where its image is, when the registry is away too",
    "CKV_K8S_35": "Dagster, MLflow and the clients of object stores take their passwords from the environment",
    "CKV_K8S_43": "digests are of who builds and mirrors images: components/images takes them as well as tags",
}
AT = {
    ("CKV_K8S_38", "dagster-daemon"): "it starts runs through the Kubernetes API",
    (
        "CKV_K8S_38",
        "dagster-webserver",
    ): "the launcher is loaded with a token where the UI shows the instance",
    ("CKV_K8S_38", "migration"): "the same: Dagster shows the instance before it migrates it",
    ("CKV_K8S_9", "dagster-daemon"): "it serves nobody, so that nobody waits until it is ready",
}


def test_every_finding_has_its_reason_and_no_reason_is_left_over(tmp_path: Path) -> None:
    for name in ("local", "production", "production with sign-in"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered(name)))
    command = [
        program("checkov"),
        "--directory",
        str(tmp_path),
        "--framework",
        "kubernetes",
        "--skip-download",
    ]
    done = subprocess.run(
        [*command, "--compact", "--quiet", "--output", "json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=tmp_path,
    )
    results = json.loads(done.stdout)
    assert results["summary"]["parsing_errors"] == 0
    assert results["summary"]["passed"] > 2000, "it looked at the manifests"
    found = {(one["check_id"], one["resource"].split(".")[-1]) for one in results["results"]["failed_checks"]}
    named = {finding for finding in found if finding[0] not in EVERYWHERE}
    assert named == set(AT)
    assert {check for check, _ in found - named} == set(EVERYWHERE)
