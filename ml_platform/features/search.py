"""Finds the answer of each entity row among rows of a view by binary search in memory.

A search needs one sorted array of numbers: every key gets a code, and the place of a row is the code of its keys
and then the moment it is known.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_ROWS_OF_TEXT = 100_000
"""Rows of text that are put into one chunk, which can hold two gigabytes."""

_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class Asking:
    """Entity rows in memory: the time of each in microseconds, and its join keys as the view pairs them."""

    times: pa.ChunkedArray
    keys: Sequence[pa.ChunkedArray]


@dataclass(frozen=True)
class Answers:
    """Rows of a view, each the answer of its keys from one moment on."""

    known_from: pa.ChunkedArray
    keys: Sequence[pa.ChunkedArray]


@dataclass(frozen=True)
class Search:
    """Entity rows, and rows of a view in the order of their places.

    `places` and `rows` go together: what places the view has, and which of its rows is at each. Each entity row has
    one of `times` and of `wanted`, the place that it asks for; `by_place` sorts entity rows by what they want.
    """

    line: "_Line"
    places: np.ndarray
    rows: np.ndarray
    times: np.ndarray
    wanted: np.ndarray
    by_place: np.ndarray

    @classmethod
    def of(cls, asking: Asking, answers: Answers) -> "Search | None":
        """Sort at least one row of a view; None if keys and times make too many places."""
        encoded = [_encoded(key) for key in answers.keys]
        moments = _numbers(answers.known_from)
        line = _Line([key.dictionary for key in encoded], int(moments.min()), int(moments.max()))
        if line.length > _LARGEST:
            return None
        codes = line.code([_numbers(key.indices) for key in encoded], len(moments))
        rows = _order(codes, moments)
        times = _numbers(asking.times.fill_null(line.first - 1))
        asked = line.code_of(asking.keys, len(times))
        places, wanted = line.place(codes, moments)[rows], line.place(asked, times)
        return cls(line, places, rows, times, wanted, _order(asked, times))

    @property
    def tied(self) -> np.ndarray:
        """Rows that share keys and moment, but for one of each set of them."""
        return self.rows[1:][self.places[1:] == self.places[:-1]]

    def decided(self, winners: Answers) -> "Search":
        """The same with the rows that win ties, which are numbered after all others; further rows change nothing."""
        moments = _numbers(winners.known_from)
        places = self.line.place(self.line.code_of(winners.keys, len(moments)), moments)
        at = np.maximum(np.searchsorted(self.places, places, side="right") - 1, 0)
        (there,) = np.nonzero(self.places[at] == places)
        rows = self.rows.copy()
        rows[at[there]] = len(rows) + there
        return replace(self, rows=rows)

    def positions(self, event_times: pa.ChunkedArray | None = None, ttl: int = 0) -> pa.Array:
        """For each entity row the row that is its answer, or null; of rows that tie the last one.

        With event times, of all rows, answers end when they are more than `ttl` microseconds old.
        """
        found = np.empty(len(self.wanted), np.int64)
        # A search in order finds the next place near the last.
        found[self.by_place] = np.searchsorted(self.places, self.wanted[self.by_place], side="right") - 1
        at = np.maximum(found, 0)
        answered = (found >= 0) & self.line.same_keys(self.places[at], self.wanted)
        rows = self.rows[at]
        if event_times is not None:
            answered &= _numbers(event_times)[rows] >= self.times - ttl
        return pa.array(rows, mask=~answered)


@dataclass(frozen=True)
class _Line:
    """A place for each combination of the keys that a view has and each moment, from before its first to its last."""

    keys: Sequence[pa.Array]
    first: int
    last: int

    @property
    def width(self) -> int:
        return self.last - self.first + 2  # 0 is before the first moment

    @property
    def length(self) -> int:
        return math.prod(map(len, self.keys)) * self.width

    def code_of(self, keys: Sequence[pa.ChunkedArray], rows: int) -> np.ndarray:
        """One number per combination of keys; less than zero for one that the view does not have."""
        known = [
            pc.call_function("index_in", [key.cast(values.type)], pc.SetLookupOptions(values))
            for key, values in zip(keys, self.keys, strict=True)
        ]
        return self.code([_numbers(found.fill_null(-1)) for found in known], rows)

    def code(self, indices: Sequence[np.ndarray], rows: int) -> np.ndarray:
        code = np.zeros(rows, np.int64)
        for index, values in zip(indices, self.keys, strict=True):
            code = np.where((code < 0) | (index < 0), -1, code * len(values) + index)
        return code

    def place(self, codes: np.ndarray, times: np.ndarray) -> np.ndarray:
        return codes * self.width + (np.clip(times, self.first - 1, self.last) - self.first + 1)

    def same_keys(self, places: np.ndarray, others: np.ndarray) -> np.ndarray:
        return places // self.width == others // self.width


def searchable(asked: pa.DataType, stored: pa.DataType) -> bool:
    """Whether keys of these types can be searched for."""
    kinds = (asked, stored)
    return all(map(_is_text, kinds)) or all(map(_is_whole, kinds))


def taken(column: pa.ChunkedArray, places: pa.Array) -> pa.ChunkedArray:
    """The column's values at the positions, null where a position is."""
    values = column.combine_chunks()
    if pa.types.is_primitive(column.type):
        return pa.chunked_array([values.take(places)], values.type)
    starts = range(0, max(len(places), 1), _ROWS_OF_TEXT)
    return pa.chunked_array(
        [values.take(places.slice(start, _ROWS_OF_TEXT)) for start in starts], values.type
    )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_whole(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) and not pa.types.is_uint64(kind)


def _order(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
    """What sorts by code and then time, in linear time for rows that are in the order of time, as most are."""
    in_time = (times[1:] >= times[:-1]).all()
    order = np.arange(len(times)) if in_time else np.argsort(times, kind="stable")
    codes = codes + 1  # what is not stored has -1
    for shift in range(0, int(codes.max(initial=0)).bit_length(), 16):
        digits = ((codes >> shift) & 0xFFFF).astype(np.uint16)
        order = order[np.argsort(digits[order], kind="stable")]  # a radix sort, for 16 bits
    return order


def _encoded(keys: pa.ChunkedArray) -> pa.DictionaryArray:
    kind = pa.int64() if _is_whole(keys.type) else pa.large_string()
    return keys.cast(kind).combine_chunks().dictionary_encode()


def _numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Whole numbers without nulls."""
    return np.asarray(column, dtype=np.int64)
