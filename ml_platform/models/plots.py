"""Pictures of how good a model is, for people who decide on its release.

Of classes: how well it ranks, and how far its scores are probabilities. Of numbers: how far forecasts are from what
came.
"""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_platform.models.calibration import BINS, Calibration
from ml_platform.models.compute import Array
from ml_platform.models.errors import errors
from ml_platform.models.evaluation import evaluate, labels_and_scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE, POINT, INK, MUTED = "#1f5fa8", "#c8501e", "#222222", "#8a8a8a"


def precision_recall_plot(labels: Array, scores: Array, *, threshold: float, title: str) -> bytes:
    """Draw precision over recall as a PNG, with the average precision and where the threshold puts the model.

    Drawn with matplotlib's objects, so that no global state of pyplot is shared between steps of one process.
    Takes what `evaluate` takes, and raises InputError where it does.
    """
    from sklearn.metrics import precision_recall_curve

    metrics = evaluate(labels, scores, threshold=threshold)
    judged_labels, judged_scores = labels_and_scores(labels, scores)
    precision, recall, _ = precision_recall_curve(judged_labels, judged_scores, drop_intermediate=True)
    share = metrics["positives"] / metrics["rows"]

    figure = _figure()
    axes = figure.add_subplot()
    axes.fill_between(recall, precision, step="post", color=CURVE, alpha=0.10, linewidth=0)
    average = f"average precision {metrics['average_precision']:.3f}"
    axes.step(recall, precision, where="post", color=CURVE, linewidth=2, label=average)
    axes.axhline(share, color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label=f"by chance {share:.4f}")
    _mark_threshold(axes, recall=metrics["recall"], precision=metrics["precision"], threshold=threshold)
    _of_shares(axes, title=title, xlabel="recall", ylabel="precision")
    counted = f"{metrics['positives']:,.0f} positives in {metrics['rows']:,.0f} rows"
    axes.legend(loc="best", frameon=False, fontsize=9, title=counted, title_fontsize=9, alignment="left")
    return _png(figure)


def reliability_plot(found: Calibration, *, title: str) -> bytes:
    """Draw the share of positives over the mean score of each bin as a PNG, above how many rows each bin has.

    On the diagonal scores are probabilities; below it they promise too much.
    """
    figure = _figure()
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    above.plot(
        [0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)), label="scores are probabilities"
    )
    said, came = [one.mean_score for one in found.bins], [one.share_positive for one in found.bins]
    label = f"calibration error {found.error:.4f}, Brier score {found.brier_score:.4f}"
    above.plot(said, came, "o-", color=CURVE, linewidth=2, markersize=6, clip_on=False, label=label)
    _of_shares(above, title=title, xlabel="", ylabel="share of positives")
    above.legend(loc="upper left", frameon=False, fontsize=9)
    middles, rows = [(one.low + one.high) / 2 for one in found.bins], [one.rows for one in found.bins]
    below.bar(middles, rows, width=0.9 / BINS, color=CURVE, alpha=0.5, log=True)
    below.set(xlabel="score", ylabel="rows")
    below.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def forecast_plot(labels: Array, scores: Array, *, title: str) -> bytes:
    """Draw what came over what was forecast as a PNG, the darker the more rows; on the diagonal they are equal."""
    found = errors(labels, scores)
    low, high = float(min(labels.min(), scores.min())), float(max(labels.max(), scores.max()))
    figure = _figure()
    axes = figure.add_subplot()
    axes.hexbin(
        scores, labels, gridsize=40, bins="log", mincnt=1, cmap="Blues", extent=(low, high, low, high)
    )
    axes.plot([low, high], [low, high], color=POINT, linewidth=1, label="forecast is what came")
    said = ", ".join(f"{name} {value:.4g}" for name, value in found.items() if name != "rows")
    _named(axes, title=title, xlabel="forecast", ylabel="came")
    axes.legend(loc="upper left", frameon=False, fontsize=9, title=said, title_fontsize=9, alignment="left")
    return _png(figure)


def error_plot(labels: Array, scores: Array, *, title: str) -> bytes:
    """Draw how forecasts differ from what came as a PNG: right of 0 they were too high."""
    figure = _figure()
    axes = figure.add_subplot()
    off = scores.astype(np.float64) - labels
    reach = float(np.quantile(np.abs(off), 0.99)) or 1.0
    axes.hist(np.clip(off, -reach, reach), bins=61, range=(-reach, reach), color=CURVE, alpha=0.7)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.axvline(float(off.mean()), color=POINT, linewidth=2, label=f"mean {off.mean():+.4g}")
    _named(axes, title=title, xlabel="forecast - came (the farthest of 100 at the ends)", ylabel="rows")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return _png(figure)


def _figure() -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), dpi=120, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _of_shares(axes: "Axes", *, title: str, xlabel: str, ylabel: str) -> None:
    """Both axes from 0 to 1, with a title."""
    _named(axes, title=title, xlabel=xlabel, ylabel=ylabel)
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _named(axes: "Axes", *, title: str, xlabel: str, ylabel: str) -> None:
    """What the picture and its axes are called."""
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)


def _png(figure: Any) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", metadata={"Software": None})
    return png.getvalue()


def _mark_threshold(axes: "Axes", *, recall: float, precision: float, threshold: float) -> None:
    """Put a dot at the operating point, and its numbers into the legend, where no curve hides them."""
    numbers = f"threshold {threshold:g}: precision {precision:.3f}, recall {recall:.3f}"
    axes.plot(
        [recall],
        [precision],
        "o",
        color=POINT,
        markersize=9,
        markeredgecolor="white",
        clip_on=False,
        label=numbers,
    )
    corner_x, corner_y = [recall, recall, -0.01], [-0.01, precision, precision]
    axes.plot(corner_x, corner_y, color=POINT, linewidth=1, linestyle=(0, (2, 2)), alpha=0.7)
