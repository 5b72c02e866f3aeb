"""How far a day may be from the days accepted before it: the bounds, and where their defaults come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ml_platform.kernel.errors import DeclarationError


@dataclass(frozen=True)
class DriftPolicy:
    """How far a day may be from its reference before models must not be trained on it.

    A snapshot's feature repeats in all of its entity's rows: `entity_of` names the columns of ids, and Kish's
    effective size of their clusters counts in place of rows, or who comes often would make days significant.

    The defaults come from 702 stable days of the reference use case (9,600 rows, 15 features) and 1,170 of a tenth of
    its entities: no alarm, and one (by rows 238). Numbers times 1.2 are found on all. At full size:

    - `ks_bound`: stable days reach 0.036 (yesterday's mean). A binary feature's share up by five points gives 0.039 to
      0.060 and is found on 700 days, permuted entities at least 0.049, numbers times 1.2 at least 0.074.
    - `total_variation_bound` is the same, as on two categories both distances are one quantity; hours of the
      day reach 0.026. By noise 100 categories reach 0.05, 1,000 reach 0.14: there significance decides.
    - `missing_bound`, on the change of the missing share: stable days reach 0.024, where a third of the
      values is missing anyway (5 percent more lost is found on three days of five there, elsewhere on all).
    - `p_value`: features of an entity never came below an adjusted 0.2, as they are the same on both sides.
      Yesterday's mean times 1.1 is found on nine days of ten. At a tenth, shares and permutations hardly are.
    """

    reference_days: int = 28
    ks_bound: float = 0.04
    total_variation_bound: float = 0.04
    missing_bound: float = 0.03
    p_value: float = 0.01
    minimum_sample: int = 500
    calendar: frozenset[str] = frozenset()  # constant within a day: measured, never gated
    categories: frozenset[str] = frozenset()  # codes or strings; all other features are numbers
    entity_of: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)  # feature: id columns
    consecutive: int = 1  # days in a row on which a feature has to breach before it fails one
    same_weekday: frozenset[str] = frozenset()  # compared with days of the same weekday only
    same_weekday_days: int = 4
    fixed_reference: tuple[str, str] | None = None  # first and last day of a reference that never moves

    def __post_init__(self) -> None:
        """Raise DeclarationError for a bound that no distance passes, or every day, or for ids as features."""
        for name in ("ks_bound", "total_variation_bound", "missing_bound", "p_value"):
            if not 0 < getattr(self, name) < 1:
                raise DeclarationError(
                    f"A drift policy needs {name} between 0 and 1, got {getattr(self, name)}: "
                    "every day or none would fail. Correct the declaration."
                )
        for name in ("reference_days", "same_weekday_days", "minimum_sample", "consecutive"):
            if getattr(self, name) < 1:
                raise DeclarationError(
                    f"A drift policy needs at least 1 for {name}, got {getattr(self, name)}: nothing could be "
                    "compared. Correct the declaration."
                )
        both = sorted(self.id_columns & (self.calendar | self.categories | self.entity_of.keys()))
        if both:
            raise DeclarationError(
                f"A drift policy needs ids that are not features, got {both} as both: ids are not judged. "
                "Correct the declaration."
            )

    @property
    def id_columns(self) -> frozenset[str]:
        """Columns of a day that hold entity ids, and are not features."""
        return frozenset(column for columns in self.entity_of.values() for column in columns)
