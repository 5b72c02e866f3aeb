"""Which values of a column are none: the same answer for features, categories and ids."""

from collections.abc import Hashable
from math import isnan

import numpy as np


def present_values(column: np.ndarray) -> list[Hashable]:
    """Return the values of a column of any type that are not None, NaN or NaT."""
    return [value for value in listed(column) if not is_missing(value)]


def is_missing(value: Hashable) -> bool:
    """Is this value, listed from a column, None or NaN?"""
    return value is None or (isinstance(value, float) and isnan(value))


def listed(column: np.ndarray) -> list[Hashable]:
    """The values of a column as Python has them."""
    if column.dtype.kind == "M":
        column = column.astype("datetime64[us]")  # as nanoseconds they would be listed as integers, NaT too
    return column.tolist()
