"""A day's drift as people read it: one HTML page that needs nothing else, and a few lines for the asset's page."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ml_platform.drift_profiles.charts import Point, distance_line, overlaid, short, verdict_bars
from ml_platform.drift_profiles.compute import DriftDecision, FeatureDrift
from ml_platform.drift_profiles.histograms import Histogram, Statistics
from ml_platform.drift_profiles.policy import DriftPolicy
from ml_platform.kernel import markdown

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

Status = Literal["passed", "failed", "not_judged"]
TIMELINE_DAYS = 30
COLUMNS = {
    "rows": "rows",
    "missing": "missing",
    "unique": "unique, about",
    "mean": "mean",
    "stddev": "stddev",
    "min": "minimum",
    "q05": "5 %",
    "q25": "25 %",
    "q50": "50 %",
    "q75": "75 %",
    "q95": "95 %",
    "max": "maximum",
}
"""What a feature's statistics are called on the page."""
_VERDICT = re.compile(r"(?<=<!-- verdict -->).*?(?=<!-- /verdict -->)", re.DOTALL)


@dataclass(frozen=True)
class Told:
    """How a day was judged, and by which way out it may be used all the same."""

    status: Status
    reason: str
    let_through: str = ""  # such as `accepted by ann: prices went up`

    @property
    def kind(self) -> str:
        """Its class in pictures: a day that was let through is another thing than a failed one."""
        return "let_through" if self.status == "failed" and self.let_through else self.status

    @property
    def words(self) -> str:
        """One sentence."""
        if self.kind == "let_through":
            return f"{self.let_through} (it had failed: {self.reason})"
        return f"{self.status.replace('_', ' ')}: {self.reason}"


@dataclass(frozen=True)
class Distance:
    """How far one feature was on one day of the timeline, and whether it failed the day."""

    statistic: float
    bound: float
    gated: bool
    breached: bool


@dataclass(frozen=True)
class TimelineDay:
    """One day of the timeline; without distances it was not judged."""

    verdict: Told
    distances: Mapping[str, Distance]
    content: str = ""  # hash of the rows that were judged


@dataclass(frozen=True)
class Seen:
    """What one feature looked like on the day and in its reference."""

    histogram: Histogram
    day: Statistics
    reference: Statistics | None


@dataclass(frozen=True)
class Page:
    """Everything that a report shows."""

    profile: str
    partition: str
    verdict: Told
    decision: DriftDecision
    reference_days: tuple[str, ...]
    policy: DriftPolicy
    seen: Mapping[str, Seen]
    timeline: Mapping[str, TimelineDay | None]  # by partition, in order, of the days up to this one


def render(page: Page) -> str:
    """The page as HTML: no script, no font, no picture from elsewhere; every name and reason is escaped."""
    bars = verdict_bars(_profile_points(page.timeline))
    return (
        _environment()
        .get_template("report.html")
        .render(
            page=page,
            bounds=_bounds(page.policy),
            bars=_markup(bars.svg("The farthest feature of each day, as a share of its bound")),
            features=[_feature(page, name, drift) for name, drift in _ranked(page)],
            statistics=COLUMNS,
        )
    )


def with_verdict(html: str, verdict: Told) -> str:
    """A rendered page with another verdict: a day can be accepted after its page was written."""
    shown = _environment().get_template("verdict.html").render(verdict=verdict)
    return _VERDICT.sub(lambda _: shown, html, count=1)


def preview(page: Page, command: str) -> str:
    """The same in Markdown, in a few kilobytes: the verdict, one picture, the ranked table, where the rest is."""
    picture = base64.b64encode(_picture(page).encode()).decode()
    lines = [
        f"**{markdown.text(page.verdict.words)}**",
        f"![drift of the last {TIMELINE_DAYS} days](data:image/svg+xml;base64,{picture})",
        _table(page.decision) if page.decision.features else "",
        f"The whole report: `{command}`",
    ]
    return "\n\n".join(line for line in lines if line)


def _table(decision: DriftDecision) -> str:
    """The features by distance, farthest first."""
    rows = [
        [
            drift.feature,
            f"{drift.statistic:.4f}",
            f"{drift.bound:g}",
            _p(drift),
            f"{drift.missing_share:.1%}",
            f"{drift.psi:.3f}",
            "breached" if drift.breached else "",
        ]
        for drift in sorted(decision.features, key=_distance, reverse=True)
    ]
    return markdown.table(["feature", "distance", "bound", "p (Holm)", "missing", "psi", ""], rows)


def _picture(page: Page) -> str:
    """The profile's timeline and the farthest features, as one picture with colours of its own."""
    farthest = [name for name, _ in _ranked(page)][:3]
    drawn = [(name, overlaid(page.seen[name].histogram)) for name in farthest]
    charts = [(name, _markup(chart.shapes(hints=False))) for name, chart in drawn if chart.paths]
    bars = _markup(verdict_bars(_profile_points(page.timeline)).shapes(hints=False))
    return _environment().get_template("preview.svg").render(bars=bars, charts=charts)


def _markup(svg: str) -> "Markup":
    """What is markup already: `charts` has escaped its words."""
    from markupsafe import Markup

    return Markup(svg)


@dataclass(frozen=True)
class _Feature:
    """One feature's part of the page, ready to be shown; without `drift` the day was not judged."""

    name: str
    drift: FeatureDrift | None
    p: str
    histogram: "Markup"
    by_category: bool
    line: "Markup"
    spark: "Markup"
    day: Mapping[str, str]
    reference: Mapping[str, str]


def _feature(page: Page, name: str, drift: FeatureDrift | None) -> _Feature:
    seen, line = page.seen[name], distance_line(_feature_points(page.timeline, name))
    return _Feature(
        name,
        drift,
        _p(drift) if drift is not None else "",
        _markup(overlaid(seen.histogram).svg(f"Shares of {name} on the day and in the reference")),
        bool(seen.histogram.names),
        _markup(line.svg(f"Distance of {name} on the last days, under its bound")),
        _markup(line.spark()),
        _cells(seen.day),
        _cells(seen.reference),
    )


def _cells(statistics: Statistics | None) -> dict[str, str]:
    return {name: _cell(getattr(statistics, name, None)) for name in COLUMNS}


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else short(value)


def _ranked(page: Page) -> list[tuple[str, FeatureDrift | None]]:
    """Features of a judged day, farthest first; of another day in their order."""
    if not page.decision.features:
        return [(name, None) for name in page.seen]
    return [(drift.feature, drift) for drift in sorted(page.decision.features, key=_distance, reverse=True)]


def _distance(drift: FeatureDrift) -> tuple[bool, float]:
    """What a feature is ranked by: a gated one before those that cannot fail, then by its distance."""
    return drift.gated, drift.statistic


def _p(drift: FeatureDrift) -> str:
    return "not gated" if drift.p_adjusted is None else f"{drift.p_adjusted:.2g}"


def _bounds(policy: DriftPolicy) -> list[tuple[str, str]]:
    return [
        ("KS distance of numbers", f"at most {policy.ks_bound:g}"),
        ("total variation of categories", f"at most {policy.total_variation_bound:g}"),
        ("change of the missing share", f"at most {policy.missing_bound:g}"),
        ("adjusted p (Holm) of a breach", f"below {policy.p_value:g}"),
        ("rows on each side", f"at least {policy.minimum_sample:,}"),
        *([("days in a row that fail a day", f"{policy.consecutive}")] if policy.consecutive > 1 else []),
    ]


def _profile_points(timeline: Mapping[str, TimelineDay | None]) -> list[Point | None]:
    """For each day, the gated feature that was nearest to its bound or farthest beyond it."""
    points: list[Point | None] = []
    for partition, found in timeline.items():
        if found is None:
            points.append(None)
            continue
        gated = {name: d for name, d in found.distances.items() if d.gated}
        farthest = max(gated, key=lambda name: gated[name].statistic / gated[name].bound, default=None)
        words = found.verdict.words
        if farthest is not None:
            distance = gated[farthest]
            words = f"{words}; farthest {farthest}, {distance.statistic:.4f} of {distance.bound:g}"
            points.append(Point(partition, found.verdict.kind, words, distance.statistic, distance.bound))
        else:
            points.append(Point(partition, found.verdict.kind, words))
    return points


def _feature_points(timeline: Mapping[str, TimelineDay | None], name: str) -> Sequence[Point | None]:
    points: list[Point | None] = []
    for partition, found in timeline.items():
        distance = found.distances.get(name) if found is not None else None
        if found is None or distance is None:
            points.append(None if found is None else Point(partition, "not_judged", "not judged"))
            continue
        kind = found.verdict.kind if distance.breached else "passed"
        words = f"{distance.statistic:.4f} of {distance.bound:g}{'' if kind == 'passed' else f', {kind}'}"
        points.append(Point(partition, kind, words, distance.statistic, distance.bound))
    return points


@cache
def _environment() -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).with_name("templates")
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
