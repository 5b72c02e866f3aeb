"""Daily partitions: keys, the instants they cover, and ranges of them."""

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.partitions import complete_at, contiguous, day, day_range, key_of, spans

DATES = st.dates(dt.date(2017, 12, 20), dt.date(2018, 3, 10))


@given(st.dates())
def test_a_key_and_its_date_are_one_to_one(date: dt.date) -> None:
    assert day(key_of(date)) == date
    assert len(key_of(date)) == len("2018-06-01")


@given(DATES, DATES)
def test_keys_are_ordered_as_their_dates(one: dt.date, other: dt.date) -> None:
    assert (key_of(one) < key_of(other)) == (one < other)


@pytest.mark.parametrize("key", ["2018-6-1", "2018-02-30", "yesterday", ""])
def test_what_is_no_day_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        day(key)


def test_a_partition_is_complete_at_the_midnight_that_ends_it_in_utc() -> None:
    assert complete_at("2018-12-31") == dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    assert complete_at("2018-03-25").utcoffset() == dt.timedelta(0)


@given(DATES, DATES)
def test_a_range_has_every_day_once_both_ends_included(first: dt.date, last: dt.date) -> None:
    found = day_range(first, last)
    assert len(found) == max(0, (last - first).days + 1)
    assert all(after - before == dt.timedelta(days=1) for before, after in itertools.pairwise(found))
    if found:
        assert (found[0], found[-1]) == (first, last)


@given(st.lists(DATES.map(key_of), max_size=30))
def test_contiguous_runs_lose_nothing_and_break_only_where_a_day_is_missing(keys: list[str]) -> None:
    runs = contiguous(keys)
    assert [key for run in runs for key in run] == sorted(set(keys))
    for run in runs:
        assert [key_of(date) for date in day_range(day(run[0]), day(run[-1]))] == run
    for before, after in itertools.pairwise(runs):
        assert (day(after[0]) - day(before[-1])).days > 1


def test_spans_are_short_for_people() -> None:
    assert spans([]) == ""
    assert spans(["2018-06-01"]) == "2018-06-01"
    keys = ["2018-06-03", "2018-06-01", "2018-06-02", "2018-06-09", "2018-06-30", "2018-07-01"]
    assert spans(keys) == "2018-06-01 … 2018-06-03, 2018-06-09, 2018-06-30 … 2018-07-01"
