"""The dashboards: that they are what the code says, that Grafana can read them, and that every panel has data."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.observability.dashboards import FOLDER, text
from tests.observability.panels import DASHBOARDS
from tests.observability.prometheus import Prometheus
from tests.observability.rules import OBSERVABILITY, RULES, promtool

INTERVAL = "1m"
"""What Grafana would put for `$__rate_interval`."""


def expressions() -> dict[str, str]:
    """Every expression of the files, by dashboard, panel and query."""
    return {
        f"{name}: {panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", INTERVAL)
        for name in DASHBOARDS
        for panel in json.loads((FOLDER / f"{name}.json").read_text())["panels"]
        for target in panel["targets"]
    }


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_file_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(name), (
        "run: python -m tests.observability.dashboards"
    )


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_that_grafanas_model_has_read_is_written_as_it_was(name: str) -> None:
    plugins.register_default_plugins()  # else options and queries would pass as whatever they are
    there = json.loads((FOLDER / f"{name}.json").read_text())
    assert json.loads(json.dumps(Dashboard.from_json(there), cls=JSONEncoder)) == there


def test_the_component_has_every_dashboard_and_the_rules() -> None:
    component: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "kustomization.yaml").read_text())
    delivered = next(made for made in component["configMapGenerator"] if made["name"] == "grafana-dashboards")
    assert delivered["files"] == [f"dashboards/{name}.json" for name in sorted(DASHBOARDS)]
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(DASHBOARDS)
    assert delivered["options"]["labels"] == {"grafana_dashboard": "1"}
    assert component["resources"] == ["rules.yaml"]


def test_what_the_runbooks_name_is_a_dashboard_or_a_panel() -> None:
    named = re.findall(
        r"(?<!\*)\*([A-Z][^*]+)\*(?!\*)",
        (PROJECT_ROOT / "docs" / "runbooks.md").read_text().replace("\n", " "),
    )
    titles = {panel.title for board in DASHBOARDS.values() for panel in board.panels}
    titles |= {board.title.capitalize() for board in DASHBOARDS.values()}
    assert set(named) - titles == {"How to look", "Why did a model not update?"}


def test_every_expression_is_parsed_by_promtool(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": found} for n, found in enumerate(expressions().values())]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", file)


def test_every_panel_has_data(prometheus: Prometheus) -> None:
    empty = expressions()

    def none_is_empty() -> bool:
        nonlocal empty
        empty = {where: found for where, found in empty.items() if not prometheus.query(found)}
        return not empty

    assert soon(none_is_empty), empty


def test_what_nobody_ever_made_has_no_age(prometheus: Prometheus) -> None:
    ages = [found for found in expressions().values() if re.search(r"time\(\) -|_age_seconds\b", found)]
    told = [series for found in ages for series in prometheus.query(found)]
    named = {name for series in told for name in series["metric"].values()}
    assert {"sources/transactions", "customer_spending"} <= named
    assert not named & {"sources/slots", "features/place_demand", "place_demand", "models/demand"}
    years = [float(series["value"][1]) / (365 * 86_400) for series in told]
    assert max(years) < 30, "nothing is as old as the clock"


def test_every_metric_of_a_rule_or_a_panel_is_one_that_was_scraped_or_recorded(
    prometheus: Prometheus,
) -> None:
    rules = [rule["expr"] for group in RULES["spec"]["groups"] for rule in group["rules"]]
    texts = (*rules, *expressions().values())
    named = {name for found in texts for name in re.findall(r"ml_platform[\w:]+", found)}
    assert len(named) > 40
    assert soon(lambda: named <= prometheus.names()), named - prometheus.names()


def test_every_rule_is_evaluated_and_alerts_are_what_the_platform_is_like(prometheus: Prometheus) -> None:
    def active() -> set[str]:
        alerts = [rule for rule in prometheus.rules() if rule["type"] == "alerting"]
        return {rule["name"] for rule in alerts if rule["state"] != "inactive"}

    assert soon(lambda: active() == {"FeaturesPastTtl", "FeaturesStale", "TtlBreaches"}), active()
    failed = {rule["name"]: rule["lastError"] for rule in prometheus.rules() if rule["health"] != "ok"}
    assert failed == {}


def soon(holds: Callable[[], bool]) -> bool:
    """Whether something holds within a minute."""
    deadline = time.monotonic() + 60
    while not (held := holds()) and time.monotonic() < deadline:
        time.sleep(0.5)
    return held
