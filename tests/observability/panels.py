"""What the dashboards show: titles, units, expressions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Panel:
    """A panel with a line for each series; `queries` are expressions by the legend of their series."""

    title: str
    unit: str
    queries: Mapping[str, str]
    about: str = ""


@dataclass(frozen=True)
class Board:
    """A dashboard: two panels in a row, and the time that it shows."""

    title: str
    since: str
    panels: Sequence[Panel]


def rate(metric: str, *by: str) -> str:
    """How often the service counts something in a second, over all pods."""
    return f"sum{_by(by)} (rate(ml_platform_serving_{metric}[$__rate_interval]))"


def quantile(q: float, metric: str, *by: str) -> str:
    """A quantile of what the service measures, over all pods."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', 'le', *by)})"


def share(part: str) -> str:
    """How many of the rows that a model answers are in another count, by view."""
    return f"{rate(part, 'model', 'view')} / on (model) group_left () {rate('predictions_total', 'model')}"


def largest(metric: str, *by: str, where: str = "") -> str:
    """The largest that any pod tells; most often all tell the same."""
    return f"max{_by(by)} (ml_platform_{metric}{f'{{{where}}}' if where else ''})"


def total(of: str, *by: str) -> str:
    """The sum of another expression."""
    return f"sum{_by(by)} ({of})"


def ago(metric: str, *by: str, where: str = "") -> str:
    """How long a time is past; nothing of what never was."""
    return f"time() - ({largest(metric, *by, where=where)} > 0)"


def age(*by: str, where: str = "") -> str:
    """How old the newest snapshot is; nothing of a view that has none."""
    return f"({largest('feature_snapshot_age_seconds', 'view', *by, where=where)} < +Inf)"


def _by(labels: Sequence[str]) -> str:
    return f" by ({', '.join(labels)})" if labels else ""


_MADE, _BROKE = "asset_last_materialization_timestamp_seconds", "asset_last_failure_timestamp_seconds"
_READ, _STATE = "features_age_seconds", "asset_check_state"
_VERSION = ("model", "version", "role", "metric")
_DATA = 'asset=~"(sources|features|online)/.*"'
_WINDOW = 'days!="1"'
_ERRORS = "ml_platform:serving_errors:ratio_rate"

SERVING = (
    Panel("Requests", "reqps", {"{{route}} {{status}}": rate("requests_total", "route", "status")}),
    Panel(
        "Errors",
        "percentunit",
        {"5 minutes": f"{_ERRORS}5m", "1 hour": f"{_ERRORS}1h", "1 day": f"{_ERRORS}1d"},
        "Predictions and feature reads that were answered with a 5xx; 0.1 percent are allowed.",
    ),
    Panel("Problems by reason", "reqps", {"{{reason}}": rate("refused_total", "reason")}),
    Panel("p50 by stage", "s", {"{{stage}}": quantile(0.5, "stage_seconds", "stage")}),
    Panel("p99 by stage", "s", {"{{stage}}": quantile(0.99, "stage_seconds", "stage")}),
    Panel(
        "Rows answered",
        "cps",
        {"{{model}} {{version}} {{outcome}}": rate("predictions_total", "model", "version", "outcome")},
    ),
    Panel(
        "Pods by version",
        "short",
        {
            "{{model}} {{role}} {{version}}": total(
                "ml_platform_serving_version_info", "model", "role", "version"
            )
        },
    ),
    Panel(
        "Age of values read",
        "s",
        {
            "{{model}} {{view}} p50": quantile(0.5, _READ, "model", "view"),
            "{{model}} {{view}} p99": quantile(0.99, _READ, "model", "view"),
        },
    ),
    Panel("Rows past ttl", "percentunit", {"{{model}} {{view}}": share("ttl_breaches_total")}),
    Panel("Rows missing", "percentunit", {"{{model}} {{view}}": share("missing_total")}),
    Panel(
        "Not as it should be",
        "short",
        {
            "{{model}} {{role}} problems": largest("serving_problems", "model", "role"),
            "{{model}} {{role}} refuses version": largest("serving_version_refused", "model", "role"),
            "{{model}} {{role}} registry answers": "min by (model, role) (ml_platform_serving_registry_up)",
        },
    ),
    Panel(
        "Prediction log",
        "short",
        {
            "waiting": total("ml_platform_serving_log_queue_depth"),
            "oldest, seconds": largest("serving_log_oldest_seconds"),
            "written a second": rate("log_written_total"),
        },
    ),
    Panel(
        "Lost",
        "cps",
        {
            "never logged": rate("log_lost_total"),
            "writes that failed": rate("log_write_failures_total"),
            "never scored in shadow": rate("shadow_lost_total"),
            "failed in shadow": rate("shadow_failed_total"),
        },
    ),
    Panel("In flight", "short", {"requests": total("ml_platform_serving_in_flight")}),
)

FEATURES = (
    Panel("Age of the newest snapshot", "s", {"{{view}} {{store}}": age("store")}),
    Panel(
        "Age over ttl",
        "percentunit",
        {"{{view}}": age(where='store="online"') + " / " + largest("feature_ttl_seconds", "view")},
        "Of what is online; from 1 on every value of the view counts as old.",
    ),
    Panel(
        "End of the newest partition",
        "s",
        {"{{asset}}": ago("asset_newest_partition_timestamp_seconds", "asset", where=_DATA)},
        "How long ago it was.",
    ),
    Panel("Made", "s", {"{{asset}}": ago(_MADE, "asset", where=_DATA)}, "How long ago it was."),
    Panel("Refused partitions", "short", {"{{asset}}": largest("asset_refused_partitions", "asset")}),
    Panel("p99 of the age of values read", "s", {"{{view}}": quantile(0.99, _READ, "view")}),
)

DRIFT = (
    Panel(
        "Drift over its bound",
        "percentunit",
        {
            "{{asset}} {{feature}}": largest("asset_drift_statistic", "asset", "feature")
            + " / "
            + largest("asset_drift_bound", "asset", "feature")
        },
        "Of the newest day that was measured; beyond 1, and significantly, the day fails.",
    ),
    Panel(
        "Features beyond their bound",
        "short",
        {"{{asset}}": total(largest("asset_drift_breached", "asset", "feature"), "asset")},
    ),
    Panel(
        "Checks of predictions that failed",
        "short",
        {
            "{{asset}} {{check}}": largest(
                _STATE, "asset", "check", where='asset=~"feedback/.*", state="failed"'
            )
        },
    ),
    Panel(
        "Performance by version",
        "short",
        {"{{model}} {{version}} {{role}} {{metric}}": largest("model_performance", *_VERSION, where=_WINDOW)},
        "On the window of days up to the newest whose labels are mature.",
    ),
    Panel(
        "Lower than in its evaluation by",
        "short",
        {
            "{{model}} {{version}} {{role}} {{metric}}": largest(
                "model_performance_at_evaluation", *_VERSION, where=_WINDOW
            )
            + " - "
            + largest("model_performance", *_VERSION, where=_WINDOW)
        },
    ),
    Panel("Champion", "short", {"{{model}}": largest("model_champion_version", "model")}),
    Panel(
        "Champion since",
        "s",
        {"{{model}}": ago("model_champion_promoted_timestamp_seconds", "model")},
        "How long ago it was.",
    ),
    Panel(
        "End of the newest measured day",
        "s",
        {
            "performance of {{model}}": ago("model_performance_partition_timestamp_seconds", "model"),
            "drift of {{asset}}": ago("asset_drift_partition_timestamp_seconds", "asset"),
        },
        "How long ago it was.",
    ),
)

PLATFORM = (
    Panel(
        "Checks by state", "short", {"{{state}}": total(largest(_STATE, "asset", "check", "state"), "state")}
    ),
    Panel(
        "Closed gates",
        "short",
        {
            "{{asset}}": total(
                largest(_STATE, "asset", "check", where='blocking="true", state="failed"'), "asset"
            )
        },
    ),
    Panel(
        "Partitions that failed",
        "short",
        {"{{asset}}": total(largest("asset_check_failed_partitions", "asset", "check"), "asset")},
    ),
    Panel("Made", "s", {"{{asset}}": ago(_MADE, "asset")}, "How long ago it was."),
    Panel("Runs", "short", {"{{status}}": largest("runs", "status")}),
    Panel(
        "A run broke, and it was not made since",
        "short",
        {"{{asset}}": largest(_BROKE, "asset") + " > bool " + largest(_MADE, "asset")},
    ),
    Panel("Messages that wait", "short", {"{{webhook}}": largest("notifications_waiting", "webhook")}),
    Panel("Stores that answer", "short", {"{{store}}": "min by (store) (ml_platform_up)"}),
    Panel(
        "Champion alias",
        "short",
        {"{{release}} {{state}}": largest("release_alias_state", "release", "state")},
    ),
)

DASHBOARDS = {
    "drift": Board("drift and performance", "now-30d", DRIFT),
    "features": Board("features and freshness", "now-7d", FEATURES),
    "platform": Board("platform", "now-7d", PLATFORM),
    "serving": Board("serving", "now-6h", SERVING),
}
