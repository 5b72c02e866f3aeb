"""Finds the answer of each entity row among rows of a view by binary search in memory.

A search needs one sorted array of numbers: every key gets a code, and the place of a row is the code of its keys
and then the moment it is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

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
    """Rows of a view, each the answer of its keys from one moment on; `event_times` only if there is a ttl.

    Of rows with the same keys and moment the last one is the answer if `last_wins`; else there must be none.
    """

    known_from: pa.ChunkedArray
    keys: Sequence[pa.ChunkedArray]
    event_times: pa.ChunkedArray | None = None
    ttl: int = 0
    last_wins: bool = False


class TiedError(Exception):
    """Rows share keys and moment; `rows` are their positions."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__(f"{len(rows)} rows tie")
        self.rows = rows


def searchable(asked: pa.DataType, stored: pa.DataType) -> bool:
    """Whether keys of these types can be searched for."""
    kinds = (asked, stored)
    return all(map(_is_text, kinds)) or all(map(_is_whole, kinds))


def positions(asking: Asking, answers: Answers) -> pa.Array | None:
    """For each entity row the position of its answer, or null; None if keys and times make too many places.

    Raises TiedError if rows tie that must not.
    """
    if not len(answers.known_from):
        return pa.nulls(len(asking.times), pa.int64())
    asked, stored, count = _codes(asking.keys, answers.keys, len(asking.times), len(answers.known_from))
    moments = _numbers(answers.known_from)
    first, last = int(moments.min()), int(moments.max())
    width = last - first + 2  # 0 is before the first moment
    if count * width > _LARGEST:
        return None
    times = _numbers(asking.times.fill_null(first - 1))
    order = _order(stored, moments)
    places = (stored * width + (moments - first + 1))[order]
    tied = places[1:] == places[:-1]
    if not answers.last_wins and tied.any():
        raise TiedError(order[1:][tied])
    wanted = asked * width + (np.clip(times, first - 1, last) - first + 1)
    found = _last_at_or_before(places, wanted, _order(asked, times))
    answered = found >= 0
    at = order[np.where(answered, found, 0)]
    answered &= (stored[at] == asked) & (times >= first)
    if answers.event_times is not None:
        answered &= _numbers(answers.event_times)[at] >= times - answers.ttl
    return pa.array(at, mask=~answered)


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


def _last_at_or_before(places: np.ndarray, wanted: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Index of the last place that is not greater than each one wanted, -1 if all are.

    `order` sorts the wanted ones: a search in order finds the next place near the last.
    """
    found = np.empty(len(wanted), np.int64)
    found[order] = np.searchsorted(places, wanted[order], side="right") - 1
    return found


def _codes(
    asked: Sequence[pa.ChunkedArray], stored: Sequence[pa.ChunkedArray], asking: int, answering: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """One number per combination of keys, equal on both sides where all keys are; -1 for what is not stored."""
    ours, theirs, count = np.zeros(asking, np.int64), np.zeros(answering, np.int64), 1
    for asked_key, stored_key in zip(asked, stored, strict=True):
        kind = pa.int64() if _is_whole(stored_key.type) else pa.large_string()
        encoded = stored_key.cast(kind).combine_chunks().dictionary_encode()
        values = encoded.dictionary
        known = pc.call_function("index_in", [asked_key.cast(kind)], pc.SetLookupOptions(values))
        codes = _numbers(known.fill_null(-1))
        ours = np.where((codes < 0) | (ours < 0), -1, ours * len(values) + codes)
        theirs = theirs * len(values) + _numbers(encoded.indices)
        count *= len(values)
    return ours, theirs, count


def _numbers(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Whole numbers without nulls."""
    return np.asarray(column, dtype=np.int64)
