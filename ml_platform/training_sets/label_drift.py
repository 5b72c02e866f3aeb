"""Says whether the newest matured day's labels are as frequent, or on average as large, as on the days accepted before.

A label feed that stopped, doubled or changed its meaning looks like data: only its rate tells. As with
features, a difference has to be both large and significant.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, sqrt
from typing import Literal

from ml_platform.drift_profiles.sequence import LetThrough
from ml_platform.kernel.errors import InputError


@dataclass(frozen=True)
class DayCount:
    """The labelled events of one matured day, and how many of them are positive."""

    day: str
    positives: int
    rows: int

    @property
    def content(self) -> str:
        """What a verdict on the day is about."""
        return f"{self.positives} of {self.rows}"


@dataclass(frozen=True)
class DaySums:
    """The labelled events of one matured day whose labels are numbers: their sum, and that of their squares."""

    day: str
    total: float
    squares: float
    rows: int

    @property
    def content(self) -> str:
        """What a verdict on the day is about."""
        return f"{self.total!r} and {self.squares!r} of {self.rows}"


DayLabels = DayCount | DaySums


@dataclass(frozen=True)
class RateDecision:
    """The verdict on one day's label rate, or mean label; ratio and p-value are there when it was judged."""

    status: Literal["passed", "failed", "not_judged"]
    reason: str
    rate: float
    reference_rate: float
    rows: int
    reference_rows: int
    ratio: float | None = None  # rate over reference rate; infinite when the reference's is 0
    p_value: float | None = None


@dataclass(frozen=True)
class LabelVerdict:
    """The verdict on the newest matured day, whether it passes, and the days that it was compared with."""

    day: DayLabels
    decision: RateDecision
    passed: bool
    reference: tuple[DayLabels, ...]


def judge_in_turn(
    labels: Sequence[DayLabels], let_through: LetThrough, *, ratio_bound: float, reference_days: int
) -> LabelVerdict:
    """The verdict on the last of the days, after judging all before in order.

    Failed days are no reference, accepted or not, unless one began a new regime: then the reference begins
    with it, and judges with fewer days until there are enough. An acceptance holds for the labels that it judged.
    """
    reference: list[DayLabels] = []
    least, verdict = reference_days, None
    for entry in labels:
        recent = tuple(reference[-reference_days:])
        decision = _judge(entry, recent, ratio_bound=ratio_bound, reference_days=max(least, len(recent)))
        accepted = let_through.lets(entry.day, entry.content)
        verdict = LabelVerdict(entry, decision, decision.status != "failed" or accepted, recent)
        if let_through.begins(entry.day, entry.content):
            reference, least = [entry], 1
        elif decision.status != "failed":
            reference.append(entry)
    if verdict is None:
        raise InputError("Label drift needs at least one matured day, got none: nothing was judged.")
    return verdict


def _judge(
    entry: DayLabels, recent: Sequence[DayLabels], *, ratio_bound: float, reference_days: int
) -> RateDecision:
    if isinstance(entry, DaySums):
        sums = [past for past in recent if isinstance(past, DaySums)]
        return judge_mean(entry, sums, ratio_bound=ratio_bound, reference_days=reference_days)
    counts = [past for past in recent if isinstance(past, DayCount)]
    return judge_rate(
        entry.positives,
        entry.rows,
        [past.positives for past in counts],
        [past.rows for past in counts],
        ratio_bound=ratio_bound,
        reference_days=reference_days,
    )


def judge_rate(
    day_positives: int,
    day_rows: int,
    reference_positives: Sequence[int],
    reference_rows: Sequence[int],
    *,
    ratio_bound: float = 1.5,
    p_value: float = 0.01,
    minimum_sample: int = 500,
    reference_days: int = 28,
) -> RateDecision:
    """Judge one matured day's label rate against the last `reference_days` accepted matured days.

    Rows are labelled events, positives those with the label; reference counts are per day, oldest first. The
    day fails when its rate over the reference's is outside [1 / ratio_bound, ratio_bound] and the difference
    is significant. On 117 stable days of the reference use case (80 positives a day) the ratio was between 0.71
    and 1.28, its 95th percentile 1.18; doubled labels fail on 116 of them, halved ones on all. With fewer
    reference days or rows the day is `not_judged`. Above a rate of 1 / ratio_bound only a fall can be seen:
    count the rarer class there. Raises InputError for counts that cannot be.
    """
    _require_counts([day_positives, *reference_positives], [day_rows, *reference_rows], ratio_bound)
    positives, rows = sum(reference_positives[-reference_days:]), sum(reference_rows[-reference_days:])
    rate, reference_rate = day_positives / max(day_rows, 1), positives / max(rows, 1)
    about = (rate, reference_rate, day_rows, rows)
    if lacking := _lacking(len(reference_rows), day_rows, rows, reference_days, minimum_sample):
        return RateDecision("not_judged", lacking, *about)
    p = rate_p_value(day_positives, day_rows, positives, rows)
    return _decided(about, p, what="label rate", ratio_bound=ratio_bound, p_value=p_value)


def judge_mean(
    day: DaySums,
    reference: Sequence[DaySums],
    *,
    ratio_bound: float = 1.5,
    p_value: float = 0.01,
    minimum_sample: int = 500,
    reference_days: int = 28,
) -> RateDecision:
    """Judge one matured day's mean label against the last `reference_days` accepted matured days.

    As `judge_rate` does; whether the difference is significant is said by Welch's test (Welch 1947, The
    generalization of "Student's" problem when several different population variances are involved). A mean that is
    not on the side of 0 where the reference's is has no ratio to it, and fails where it is significant. Labels of one
    sign are meant, such as amounts and counts.
    """
    _require_ratio(ratio_bound)
    before = reference[-reference_days:]
    rows = sum(past.rows for past in before)
    total, squares = sum(past.total for past in before), sum(past.squares for past in before)
    about = (day.total / max(day.rows, 1), total / max(rows, 1), day.rows, rows)
    if lacking := _lacking(len(reference), day.rows, rows, reference_days, minimum_sample):
        return RateDecision("not_judged", lacking, *about)
    p = mean_p_value(day, DaySums("reference", total, squares, rows))
    return _decided(about, p, what="mean label", ratio_bound=ratio_bound, p_value=p_value)


def _lacking(days: int, day_rows: int, rows: int, reference_days: int, minimum_sample: int) -> str:
    """Why a day cannot be judged; empty when it can."""
    if days < reference_days:
        return f"no reference yet: {days} of {reference_days} accepted days"
    if min(day_rows, rows) < minimum_sample:
        return f"{day_rows} rows against {rows}: {minimum_sample} are needed on each side"
    return ""


def _decided(
    about: tuple[float, float, int, int], p: float, *, what: str, ratio_bound: float, p_value: float
) -> RateDecision:
    """The verdict on a rate that differs from its reference's with significance `p`: it has to be far as well."""
    rate, reference_rate = about[:2]
    ratio = rate / reference_rate if reference_rate else (inf if rate else 1.0)
    far = not 1 / ratio_bound <= ratio <= ratio_bound
    status = "failed" if far and p < p_value else "passed"
    reason = "within bounds"
    if far:
        chance = ", which may be chance" if status == "passed" else ""
        times = f"{what} {rate:.4f} is {ratio:.2f} times the reference's {reference_rate:.4f}"
        reason = f"{times} (bound {ratio_bound:g}, p {p:.2g}){chance}"
    return RateDecision(status, reason, *about, ratio=ratio, p_value=p)


def rate_p_value(day_positives: int, day_rows: int, reference_positives: int, reference_rows: int) -> float:
    """Return how likely rates this different are by chance: Fisher's exact test, twice the smaller tail.

    Fisher, R. A. (1935), The logic of inductive inference, J. R. Stat. Soc. 98, 39-82. Exact for few
    positives too, where a normal approximation calls a handful of labels significant.
    """
    from scipy.stats import hypergeom

    urn = (day_rows + reference_rows, day_positives + reference_positives, day_rows)
    tail = min(float(hypergeom.cdf(day_positives, *urn)), float(hypergeom.sf(day_positives - 1, *urn)))
    return min(1.0, 2 * tail)


def mean_p_value(day: DaySums, reference: DaySums) -> float:
    """Return how likely means this different are by chance: Welch's test, two-sided."""
    from scipy.stats import ttest_ind_from_stats

    means, deviations, rows = zip(*map(_moments, (day, reference)), strict=True)
    if not any(deviations):
        return 1.0 if means[0] == means[1] else 0.0
    return float(
        ttest_ind_from_stats(
            means[0], deviations[0], rows[0], means[1], deviations[1], rows[1], equal_var=False
        ).pvalue
    )


def _moments(labels: DaySums) -> tuple[float, float, int]:
    """Mean, standard deviation of the sample, and rows."""
    mean = labels.total / labels.rows
    variance = max(0.0, labels.squares - labels.rows * mean**2) / max(1, labels.rows - 1)
    return mean, sqrt(variance), labels.rows


def _require_counts(positives: Sequence[int], rows: Sequence[int], ratio_bound: float) -> None:
    if len(positives) != len(rows) or any(not 0 <= k <= n for k, n in zip(positives, rows, strict=False)):
        raise InputError(
            "A label rate needs positives between 0 and the rows of the same day, got "
            f"{list(positives)} of {list(rows)}: nothing was judged. Count both from the same table."
        )
    _require_ratio(ratio_bound)


def _require_ratio(ratio_bound: float) -> None:
    if ratio_bound <= 1:
        raise InputError(
            f"A label rate needs ratio_bound above 1, got {ratio_bound}: every day would be outside. "
            "Declare 1.5."
        )
