"""What people are called for: that each alert fires when it should, is silent when it should, and says what to do."""

import json
import re
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from ml_platform.cli.main import app
from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.cluster import of_kind
from tests.observability.prometheus import configuration
from tests.observability.rules import ALERTS, OBSERVABILITY, promtool, rule_file

CASES: list[dict[str, Any]] = yaml.safe_load((Path(__file__).parent / "alerts.yaml").read_text())
RUNBOOKS = (PROJECT_ROOT / "docs" / "runbooks.md").read_text()
SECTIONS: dict[str, str] = dict(
    re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOKS, re.MULTILINE | re.DOTALL)
)
"""By alert, what its section says."""


def test_prometheus_takes_the_rules_and_a_configuration_that_names_them(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", rule_file(tmp_path))
    config = configuration(tmp_path, {"serving": "127.0.0.1:8080"})
    assert f"{config} is valid prometheus config" in promtool("check", "config", config)


def test_a_machine_without_prometheus_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.fail.Exception, match=r"promtool is required.*apt-get install prometheus"):
        promtool("--version")


def test_every_alert_fires_and_is_silent_when_it_should(tmp_path: Path) -> None:
    rules = rule_file(tmp_path)
    for number, case in enumerate(CASES):
        every = case.get("every", "1m")
        test = {
            "name": f"{case['alert']} {number}",
            "interval": every,
            "input_series": [{"series": name, "values": values} for name, values in case["series"].items()],
            "alert_rule_test": [
                {
                    "alertname": case["alert"],
                    "eval_time": case["after"],
                    "exp_alerts": [_expected(case["alert"], found) for found in case.get("firing", [])],
                }
            ],
        }
        file = {"rule_files": [str(rules)], "evaluation_interval": every, "tests": [test]}
        (tmp_path / f"case-{number}.yaml").write_text(yaml.safe_dump(file))
    promtool("test", "rules", *sorted(tmp_path.glob("case-*.yaml")))


def _expected(alert: str, found: dict[str, Any]) -> dict[str, Any]:
    rule = ALERTS[alert]
    return {
        "exp_labels": {**rule["labels"], **found.get("labels", {})},
        "exp_annotations": {**rule["annotations"], "description": found["says"]},
    }


def test_no_alert_is_without_a_firing_and_a_silent_case() -> None:
    assert {case["alert"] for case in CASES if case.get("firing")} == set(ALERTS)
    assert {case["alert"] for case in CASES if not case.get("firing")} == set(ALERTS)


def test_every_alert_says_how_bad_it_is_and_where_its_section_of_the_runbooks_is() -> None:
    assert len(ALERTS) >= 20
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        said = rule["annotations"]
        assert said.keys() == {"summary", "description", "runbook_url"}
        assert said["runbook_url"] == f"runbooks.md#{name.lower()}"
    assert list(SECTIONS) == list(ALERTS)


def test_every_alert_links_its_section_of_the_runbooks_where_one_place_says_they_are() -> None:
    told = yaml.safe_load((OBSERVABILITY / "kustomization.yaml").read_text())
    (documents,) = [made for made in told["configMapGenerator"] if made["name"] == "documents"]
    published = documents["literals"][0].removeprefix("runbooks=")
    assert published.startswith("https://") and published.endswith("/runbooks.md")
    (applied,) = of_kind("production", "PrometheusRule")
    rules = [rule for group in applied["spec"]["groups"] for rule in group["rules"] if "alert" in rule]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {name: f"{published}#{name.lower()}" for name in SECTIONS}
    assert "documents" not in {m["metadata"]["name"] for m in of_kind("production", "ConfigMap")}


def test_every_section_has_the_same_five_parts_and_the_severity_of_its_alert() -> None:
    for name, section in SECTIONS.items():
        parts = re.findall(r"^\*\*([\w ]+)\.\*\*", section, re.MULTILINE)
        assert parts == ["What it means", "Who is hurt", "How to look", "How to mend", "When to silence"], (
            name
        )
        assert section.lstrip().startswith(f"_{ALERTS[name]['labels']['severity']}_"), name


def test_kubectl_is_told_the_namespace_and_asks_all_pods_of_the_service() -> None:
    commands = re.findall(r"kubectl\s+((?:[^`\n]|\n(?!\$|```))+)", RUNBOOKS)
    own = ("scale", "auth whoami")  # the first does not help, the second asks who somebody is
    given = [command for command in commands if not command.startswith(own)]
    assert len(given) > 10
    for command in given:
        assert command.startswith("--namespace ml-platform "), command
        assert " scale " not in command and "logs deploy/serving" not in command, "one pod of several"
        if " logs -l " in command:
            assert "--prefix" in command and "--tail=" in command, "else ten lines of nobody knows which pod"


def test_why_no_pod_is_ready_is_read_from_an_answer_that_is_no_success(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class NotReady(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(503)
            self.end_headers()
            self.wfile.write(self.path.encode() + b": nobody is champion")

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    (script,) = re.findall(r'exec deploy/serving -- python -c "([^"]+)"', RUNBOOKS)
    with HTTPServer(("127.0.0.1", 0), NotReady) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        subprocess.run(
            [sys.executable, "-c", script.replace("8080", str(server.server_port))], check=True, timeout=60
        )
    assert capfd.readouterr().out == "/readyz: nobody is champion\n"


def test_more_pods_are_asked_for_with_the_autoscaler_that_there_is() -> None:
    (patch,) = re.findall(r"patch hpa/serving --type=merge --patch '(.*)'", RUNBOOKS)
    scaler = yaml.safe_load_all((PROJECT_ROOT / "k8s" / "base" / "serving" / "scaling.yaml").read_text())
    (spec,) = [m["spec"] for m in scaler if m["kind"] == "HorizontalPodAutoscaler"]
    asked = json.loads(patch)["spec"]
    assert spec["minReplicas"] < asked["minReplicas"] <= asked["maxReplicas"] > spec["maxReplicas"]
    assert asked.keys() <= spec.keys()


def test_every_command_of_the_runbooks_can_be_given_as_it_stands_there() -> None:
    spans = re.findall(r"`ml-platform ([^`]+)`", RUNBOOKS) + re.findall(
        r"^\$ ml-platform ([^|#\n]+)", RUNBOOKS, re.MULTILINE
    )
    assert len(spans) > 30
    for words in map(shlex.split, spans):
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            assert words[0] in command.commands, words
            command = command.commands[words.pop(0)]
        with command.make_context(command.name, words):
            """What is unknown, missing or no value of its type is said when it is parsed; nothing is run."""
