"""Functions that on-demand features might declare; some could not be run from their source alone."""

import math
from typing import Any

SECONDS = 60
Columns = dict[str, list[Any]]


def by_itself(inputs: Columns) -> Columns:
    from math import floor

    def minutes(seconds: float) -> int:
        return floor(seconds / 60)

    class Rounding:
        digits = 1
        more = digits + 1

    return {"minutes": [round(minutes(value), Rounding.more) for value in inputs["seconds"]]}


def with_a_constant(inputs: Columns) -> Columns:
    return {"minutes": [value / SECONDS for value in inputs["seconds"]]}


def with_an_import(inputs: Columns) -> Columns:
    return {"minutes": [(lambda value: math.floor(value / 60))(value) for value in inputs["seconds"]]}


def with_a_default(inputs: Columns, length: int = SECONDS) -> Columns:
    return {"minutes": [value / length for value in inputs["seconds"]]}
