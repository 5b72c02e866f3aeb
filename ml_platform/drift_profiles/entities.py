"""Numbers for the entities of rows, or for combinations of several, so that rows of each are counted over many days.

Ids can be of any type. Where they are whole numbers that are not too large, as most are, a day is looked up in a
table at once: one by one, the ids of 29 days took longer than everything else that judging a day needs.
"""

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from itertools import count

import numpy as np

from ml_platform.drift_profiles.missing import is_missing, listed

_LARGEST = 2**22  # ids below it are looked up in a table, of 32 MB at most
_HALF = 31  # bits of a number: two make one


class EntityNumbers:
    """Numbers the entities of one column from 1 on, as they come; rows without an id have 0."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = defaultdict(count(1).__next__, {None: 0})
        self._table = np.zeros(0, np.int64)  # by id, its number once it was asked for; 0 before

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The number of each row's entity; None and NaN are no id."""
        if ids.dtype.kind in "iu" and len(ids) and ids.min() >= 0 and ids.max() < _LARGEST:
            return self._looked_up(ids)
        values = listed(ids)
        if ids.dtype.kind not in "iuU":
            values = [None if is_missing(value) else value for value in values]
        return np.array([*map(self._numbers.__getitem__, values)], np.int64)

    def _looked_up(self, ids: np.ndarray) -> np.ndarray:
        lacking = int(ids.max()) + 1 - len(self._table)
        if lacking > 0:
            self._table = np.concatenate([self._table, np.zeros(lacking, np.int64)])
        found = self._table[ids]
        for new in np.unique(ids[found == 0]).tolist():
            self._table[new] = self._numbers[new]
        return self._table[ids]


class RowNumbers:
    """Numbers what rows are about by some columns of ids from 1 on, as they come; rows that lack an id have 0."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._ids = [EntityNumbers() for _ in columns]
        self._pairs = [EntityNumbers() for _ in columns[1:]]

    def of(self, day: Mapping[str, np.ndarray]) -> np.ndarray:
        """The number of each row of a day's columns."""
        found, *others = [ids.of(day[name]) for ids, name in zip(self._ids, self._columns, strict=True)]
        for pairs, other in zip(self._pairs, others, strict=True):
            there, pair = (found > 0) & (other > 0), found << _HALF | other
            found = np.zeros_like(found)
            found[there] = pairs.of(pair[there])
        return found
