"""What follows from a release's history, and from how two versions compare."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ml_platform.models.resampling import Difference

Verdict = Literal["passed", "failed", "not judged"]
PROMOTED, ROLLED_BACK = "promoted", "rolled back"
ALL_ROWS = "all rows"


@dataclass(frozen=True)
class Standing:
    """Where the moves of a champion have led: the champions that still stand, oldest first, and who was withdrawn.

    A rollback withdraws every champion above the version that it goes back to, so a second one goes further back
    and never returns to what the first has undone. Who promotes an older version withdraws the newer champions too,
    but a rollback undoes that.
    """

    champions: tuple[int, ...] = ()
    withdrawn: Mapping[int, Mapping[str, Any]] = field(default_factory=dict[int, Mapping[str, Any]])

    @property
    def champion(self) -> int | None:
        return self.champions[-1] if self.champions else None

    @property
    def before(self) -> int | None:
        """The champion that a rollback goes back to, unless another one is named."""
        return self.champions[-2] if len(self.champions) > 1 else None


def standing(moves: Iterable[Mapping[str, Any]]) -> Standing:
    """Replay the moves of a release, oldest first; `withdrawn` has the move that withdrew a version."""
    champions: list[int] = []
    withdrawn: dict[int, Mapping[str, Any]] = {}
    for move in moves:
        version = move["version"]
        if move["action"] == ROLLED_BACK:
            kept = champions.index(version) + 1 if version in champions else 0
            left = {*champions[kept:], move["previous"]} - {version, None}
            withdrawn |= dict.fromkeys(left, move)
            champions = champions[:kept] or [version]
        else:
            newer = {
                found for found in [*champions, move["previous"]] if found is not None and found > version
            }
            withdrawn |= dict.fromkeys(newer, move)
            champions = [*(found for found in champions if found != version), version]
        withdrawn.pop(version, None)
    return Standing(tuple(champions), withdrawn)


@dataclass(frozen=True)
class Compared:
    """A candidate and the champion by one metric on the same rows: all test rows, or one slice of them.

    `margin` is how much worse the candidate may be; without a `difference` the two values alone decide. `sign` is 1
    for a metric of which more is better, -1 for an error. Numbers have no `positives`.
    """

    rows_of: str
    metric: str
    margin: float
    rows: int
    positives: int | None
    candidate: float | None
    champion: float | None
    difference: Difference | None = None
    sign: int = 1

    @property
    def whole(self) -> bool:
        return self.rows_of == ALL_ROWS

    @property
    def better(self) -> float | None:
        """How much better the candidate is; None where one of the two has no value."""
        if self.candidate is None or self.champion is None:
            return None
        return self.sign * (self.candidate - self.champion)

    def _few(self, minimum_positives: int) -> str:
        """What there are too few of for an interval to say anything; empty when there are enough."""
        count, what = (self.rows, "rows") if self.positives is None else (self.positives, "positives")
        return f"{count:,} {what} are fewer than {minimum_positives:,}" if count < minimum_positives else ""

    def verdict(self, *, confidence: float, minimum_positives: int) -> Verdict:
        """Not worse by more than the margin: shown by enough of the draws, or, with few positives, by the estimate.

        A test of non-inferiority: what the rows cannot show is refused, not passed. With few positives hardly
        anything could be shown, and a champion would stay for ever: then all rows are judged by the estimate.
        """
        better, few = self.better, self._few(minimum_positives)
        if better is None or (few and not self.whole):
            return "not judged"
        if few or self.difference is None:
            return "passed" if better >= -self.margin else "failed"
        return "passed" if self.difference.worse <= 1 - confidence else "failed"

    def in_words(self, *, minimum_positives: int) -> str:
        """One line for people: both values, their difference and how sure it is."""
        where = "" if self.whole else f"slice {self.rows_of}: "
        better = self.better
        if better is None:
            of = "" if self.positives is None else f"{self.positives:,} positives of "
            return f"{where}{self.metric} has no value on {of}{self.rows:,} rows"
        found = self.difference
        sure = "no interval"
        if found is not None:
            low, high, by = found.interval.low, found.interval.high, found.interval.by
            worse = f"{found.worse:.1%} of draws by {by} worse by more than {self.margin:g}"
            sure = f"95% interval {low:+.4f} to {high:+.4f}, {worse}"
        few = self._few(minimum_positives)
        only = f"; {few}: {'the estimate decides' if self.whole else 'not judged'}" if few else ""
        values = f"{self.metric} {self.candidate:.4f} against the champion's {self.champion:.4f}"
        told = (
            f"{better:+.4f}" if self.sign > 0 else f"{abs(better):.4f} {'worse' if better < 0 else 'better'}"
        )
        return f"{where}{values}, {told} ({sure}{only})"

    def as_data(self, *, confidence: float, minimum_positives: int) -> dict[str, Any]:
        """The comparison as one row of a table."""
        found = self.difference
        return {
            "rows_of": self.rows_of,
            "metric": self.metric,
            "verdict": self.verdict(confidence=confidence, minimum_positives=minimum_positives),
            "candidate": self.candidate,
            "champion": self.champion,
            "low": found.interval.low if found else None,
            "high": found.interval.high if found else None,
            "share_worse": found.worse if found else None,
            "drawn_by": found.interval.by if found else None,
            "margin": self.margin,
            "rows": self.rows,
            "positives": self.positives,
        }
