"""The pictures of a report, as SVG: a day over its reference, and distances day by day.

Drawn by hand: a picture is a few kilobytes and takes a fraction of a millisecond, where a plotting library takes a
tenth of a second for each and is loaded by every step. Words are escaped here, where they become markup.
"""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from ml_platform.drift_profiles.histograms import Histogram

WIDTH, HEIGHT = 360.0, 96.0
_ROW, _LABEL = 18.0, 120.0  # of a chart with a row for each category
_STUB = 3.0  # height of a day that was not judged


@dataclass(frozen=True)
class Mark:
    """A shape, and what it says to who points at it; `kind` is its class."""

    kind: str
    path: str
    title: str = ""

    def shape(self) -> str:
        """The shape as SVG."""
        if not self.title:
            return f'<path class="{self.kind}" d="{self.path}"/>'
        return f'<path class="{self.kind}" d="{self.path}"><title>{html.escape(self.title, quote=False)}</title></path>'


@dataclass(frozen=True)
class Label:
    """A word at a place; `anchor` is the part of it that is there."""

    words: str
    x: float
    y: float
    anchor: str = "start"

    def shape(self) -> str:
        """The word as SVG."""
        where = f'x="{_n(self.x)}" y="{_n(self.y)}" text-anchor="{self.anchor}"'
        return f"<text {where}>{html.escape(self.words, quote=False)}</text>"


@dataclass(frozen=True)
class Chart:
    """A picture: areas and lines by class as SVG paths, then marks, then words."""

    width: float
    height: float
    paths: Mapping[str, str] = field(default_factory=dict)
    marks: tuple[Mark, ...] = ()
    labels: tuple[Label, ...] = ()

    def svg(self, says: str) -> str:
        """The picture; `says` is what it is, for who cannot see it."""
        box = f"0 0 {_n(self.width)} {_n(self.height)}"
        return f'<svg class="chart" viewBox="{box}" role="img" aria-label="{html.escape(says)}">{self.shapes()}</svg>'

    def spark(self) -> str:
        """Its lines alone, to be squeezed into a line of text."""
        lines = "".join(
            f'<path class="{kind}" d="{path}" vector-effect="non-scaling-stroke"/>'
            for kind, path in self.paths.items()
        )
        box = f"0 0 {_n(self.width)} {_n(HEIGHT)}"
        return (
            f'<svg class="spark" viewBox="{box}" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>'
        )

    def shapes(self, *, hints: bool = True) -> str:
        """What is drawn, for a picture of its own or a part of another; without `hints` nothing answers a pointer."""
        drawn = [f'<path class="{kind}" d="{path}"/>' for kind, path in self.paths.items()]
        drawn += [mark.shape() for mark in self.marks if hints or mark.kind != "hover"]
        drawn += [label.shape() for label in self.labels]
        return "".join(drawn)


@dataclass(frozen=True)
class Point:
    """One day of a timeline: how far it was of how far it may be, and how it was judged.

    `kind` is `passed`, `failed`, `let_through` or `not_judged`; a day without a distance has no bound either.
    """

    partition: str
    kind: str
    words: str = ""
    distance: float | None = None
    bound: float | None = None


def overlaid(histogram: Histogram) -> Chart:
    """A day over its reference: two areas for numbers, two bars a row for categories."""
    return _rows(histogram) if histogram.names else _areas(histogram)


def distance_line(points: Sequence[Point | None]) -> Chart:
    """A feature's distance day by day under its bound; a day that failed by it has a dot, a gap is a gap."""
    step = WIDTH / max(1, len(points))
    known = [p for p in points if p is not None and p.distance is not None and p.bound is not None]
    top = 1.05 * max((max(p.distance or 0.0, 1.25 * (p.bound or 0.0)) for p in known), default=1.0)
    places = [
        (i, p, HEIGHT * (1 - (p.distance or 0.0) / top), HEIGHT * (1 - (p.bound or 0.0) / top))
        for i, p in enumerate(points)
        if p is not None and p.distance is not None
    ]
    line, bounds, last = list[str](), list[str](), -2
    for i, _, y, bound in places:
        line.append(f"{'L' if last == i - 1 else 'M'}{_n((i + 0.5) * step)} {_n(y)}")
        bounds.append(f"M{_n(i * step)} {_n(bound)}h{_n(step)}")
        last = i
    dots = [Mark(p.kind, _dot((i + 0.5) * step, y)) for i, p, y, _ in places if p.kind != "passed"]
    return Chart(
        WIDTH,
        HEIGHT + 14,
        {"bound": "".join(bounds), "line": "".join(line)},
        (*dots, *_columns(_of_days(points), step)),
        _days(points, step),
    )


def verdict_bars(points: Sequence[Point | None]) -> Chart:
    """A profile day by day: the distance that comes nearest to its bound, or passes it most, as a share of it."""
    step = WIDTH * 2 / max(1, len(points))
    shares = [_share(p) for p in points]
    top = max(1.25, *(share or 0.0 for share in shares)) if shares else 1.25
    bars = [
        Mark(p.kind, _box(i * step + 1, HEIGHT - high, step - 2, high))
        for i, (p, share) in enumerate(zip(points, shares, strict=True))
        if p is not None
        for high in [_STUB if share is None else max(_STUB, HEIGHT * share / top)]
    ]
    bound = Mark("bound", f"M0 {_n(HEIGHT * (1 - 1 / top))}h{_n(WIDTH * 2)}")  # in front of the bars
    marks = (*bars, bound, *_columns(_of_days(points), step))
    return Chart(WIDTH * 2, HEIGHT + 14, marks=marks, labels=_days(points, step))


def short(value: float) -> str:
    """A number as people read it in a table."""
    return f"{value:.4g}"


def _areas(histogram: Histogram) -> Chart:
    slots = len(histogram.day)
    step, top = WIDTH / slots, max(*histogram.day, *histogram.reference, 1e-12)
    sides = {"reference": histogram.reference, "day": histogram.day}
    says = map(_says, _bin_names(histogram.edges), histogram.day, histogram.reference)
    marks = _columns(list(says), step)
    labels = (
        Label(short(histogram.edges[0]), step, HEIGHT + 12),
        Label(short(histogram.edges[-1]), WIDTH - step, HEIGHT + 12, "end"),
        Label(f"{top:.1%}", WIDTH, 9, "end"),
    )
    paths = {name: _outline(shares, step, top) for name, shares in sides.items()}
    return Chart(WIDTH, HEIGHT + 14, paths, tuple(marks), labels)


def _outline(shares: Sequence[float], step: float, top: float) -> str:
    across = "".join(
        f"V{_n(HEIGHT * (1 - share / top))}H{_n((i + 1) * step)}" for i, share in enumerate(shares)
    )
    return f"M0 {_n(HEIGHT)}{across}V{_n(HEIGHT)}Z"


def _bin_names(edges: Sequence[float]) -> list[str]:
    inner = [f"{short(low)} … {short(high)}" for low, high in pairwise(edges)]
    return [f"below {short(edges[0])}", *inner, f"above {short(edges[-1])}"]


def _rows(histogram: Histogram) -> Chart:
    top = max(*histogram.day, *histogram.reference, 1e-12)
    room = WIDTH - _LABEL
    marks, labels = list[Mark](), list[Label]()
    for i, (name, day, reference) in enumerate(
        zip(histogram.names, histogram.day, histogram.reference, strict=True)
    ):
        y = i * _ROW
        labels.append(Label(name if len(name) <= 18 else f"{name[:17]}…", _LABEL - 6, y + 12, "end"))
        marks.append(Mark("reference", _box(_LABEL, y + 2, room * reference / top, 6)))
        marks.append(Mark("day", _box(_LABEL, y + 8, room * day / top, 6)))
        marks.append(Mark("hover", _box(0, y, WIDTH, _ROW), _says(name, day, reference)))
    return Chart(WIDTH, _ROW * len(histogram.names), {}, tuple(marks), tuple(labels))


def _says(name: str, day: float, reference: float) -> str:
    return f"{name}: {day:.2%} of the day, {reference:.2%} of the reference"


def _columns(says: Sequence[str | None], step: float) -> list[Mark]:
    """Invisible columns side by side, each of which says something to who points at it."""
    rest = f" 0h{_n(step)}v{_n(HEIGHT)}h{_n(-step)}z"
    return [
        Mark("hover", f"M{_n(i * step)}{rest}", words) for i, words in enumerate(says) if words is not None
    ]


def _of_days(points: Sequence[Point | None]) -> list[str | None]:
    return [None if p is None else f"{p.partition}: {p.words}" for p in points]


def _days(points: Sequence[Point | None], step: float) -> tuple[Label, ...]:
    """The first day and the last one, below where they are."""
    there = [(i, p.partition) for i, p in enumerate(points) if p is not None]
    if not there:
        return ()
    first, last = there[0], there[-1]
    labels = (
        Label(first[1], first[0] * step, HEIGHT + 12),
        Label(last[1], (last[0] + 1) * step, HEIGHT + 12, "end"),
    )
    return labels if last[0] - first[0] > len(points) // 2 else labels[1:]


def _share(point: Point | None) -> float | None:
    if point is None or point.distance is None or not point.bound:
        return None
    return point.distance / point.bound


def _box(x: float, y: float, width: float, height: float) -> str:
    return f"M{_n(x)} {_n(y)}h{_n(width)}v{_n(height)}h{_n(-width)}z"


def _dot(x: float, y: float) -> str:
    return f"M{_n(x - 3)} {_n(y)}a3 3 0 1 0 6 0a3 3 0 1 0-6 0z"


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
