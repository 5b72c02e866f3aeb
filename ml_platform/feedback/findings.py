"""What was found of the features of a day's predictions, before anything is told to Dagster."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class FeatureConsistency:
    """One feature of a day's predictions: compared values, and those that are not what the offline table has.

    `missing`: predictions without a row for the key, or, of a feature that was computed, without a value; `stale`:
    those whose row was older than the ttl.
    """

    feature: str
    view: str
    compared: int
    mismatches: int
    largest_difference: float
    missing: int = 0
    stale: int = 0
    example: str = ""  # a prediction that saw another value


@dataclass(frozen=True)
class ViewConsistency:
    """How one view was read by a day's predictions; times in seconds.

    `corrected`: what was read is what was published before the snapshot was corrected. `late`: an as-of read, `t -
    available_after`, would have given a newer snapshot, by up to `largest_lag`; it has to do with publication, not
    with values.
    """

    view: str
    predictions: int
    missing: int
    missing_but_known: int
    stale: int
    corrected: int
    late: int
    largest_lag: float


@dataclass(frozen=True)
class Consistency:
    """What was found of one day's predictions."""

    predictions: int
    views: tuple[ViewConsistency, ...] = ()
    features: tuple[FeatureConsistency, ...] = field(default=())

    @property
    def mismatches(self) -> int:
        return sum(found.mismatches for found in self.features)

    def in_words(self) -> str:
        """What was seen, for people: the features that differ, else how many values are equal."""
        if not self.predictions:
            return "no predictions"
        wrong = [f for f in self.features if f.mismatches]
        if not wrong:
            compared = sum(f.compared for f in self.features)
            return f"{compared:,} values of {self.predictions:,} predictions are equal"
        return "; ".join(
            f"{f.feature}: {f.mismatches:,} of {f.compared:,} differ, by up to {f.largest_difference:.6g}"
            + (f", such as prediction {f.example}" if f.example else "")
            for f in wrong
        )
