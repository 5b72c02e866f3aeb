"""The Grafana dashboards as code: `python -m tests.observability.dashboards` writes them below k8s/."""

import json

from grafana_foundation_sdk.builders import common, dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendDisplayMode, LegendPlacement, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from tests.observability.panels import DASHBOARDS, Board, Panel
from tests.observability.rules import OBSERVABILITY

FOLDER = OBSERVABILITY / "dashboards"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${prometheus}")


def text(name: str) -> str:
    """A dashboard as the file that Grafana reads."""
    return json.dumps(_built(name, DASHBOARDS[name]).build(), cls=JSONEncoder, indent=2) + "\n"


def _built(name: str, board: Board) -> dashboard.Dashboard:
    found = (
        dashboard.Dashboard(f"ML platform: {board.title}")
        .uid(f"ml-platform-{name}")
        .tags(["ml-platform"])
        .timezone("utc")
        .time(board.since, "now")
        .refresh("1m")
        .readonly()
        .with_variable(dashboard.DatasourceVariable("prometheus").label("Prometheus").type("prometheus"))
    )
    for panel in board.panels:
        found = found.with_panel(_lines(panel))
    return found


def _lines(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().show_legend(True)
    legend = legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    found = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .fill_opacity(10)
        .legend(legend)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
        .height(8)
        .span(12)
    )
    for letter, (series, expression) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(series).range()
        found = found.with_target(query)
    return found


if __name__ == "__main__":
    for name in DASHBOARDS:
        (FOLDER / f"{name}.json").write_text(text(name))
