"""Partitions of days and hours: keys, the time they cover, and ranges of them."""

import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_platform.kernel.partitions import (
    CADENCES,
    DAILY,
    HOURLY,
    ONE_DAY,
    ONE_HOUR,
    Cadence,
    cadence_of,
    complete_at,
    contiguous,
    day,
    day_range,
    key_of,
    key_range,
    shifted,
    spans,
    start_of,
    time_of_day,
)

DATES = st.dates(dt.date(2017, 12, 20), dt.date(2018, 3, 10))
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
TIMES = st.timedeltas(dt.timedelta(days=17_520), dt.timedelta(days=17_600)).map(EPOCH.__add__)
EVERY = pytest.mark.parametrize("cadence", [pytest.param(found, id=name) for name, found in CADENCES.items()])


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


@EVERY
@given(times=st.lists(TIMES, max_size=30))
def test_contiguous_runs_lose_nothing_and_break_only_where_one_is_missing(
    cadence: Cadence, times: list[dt.datetime]
) -> None:
    keys = [cadence.key(time) for time in times]
    runs = contiguous(keys)
    assert [key for run in runs for key in run] == sorted(set(keys))
    for run in runs:
        assert key_range(run[0], run[-1]) == run
    for before, after in itertools.pairwise(runs):
        assert start_of(after[0]) > complete_at(before[-1])


@EVERY
@given(time=st.timedeltas(dt.timedelta(days=-719_000), dt.timedelta(days=2_932_000)).map(EPOCH.__add__))
def test_a_key_names_the_period_that_covers_a_time_and_tells_its_cadence(
    cadence: Cadence, time: dt.datetime
) -> None:
    key = cadence.key(time)
    assert cadence_of(key) == cadence
    assert start_of(key) <= time < complete_at(key) == start_of(key) + cadence.period
    assert cadence.key(start_of(key)) == key and len(key) == len(cadence.example)


@EVERY
@given(one=TIMES, other=TIMES)
def test_keys_are_ordered_as_text_and_a_range_has_each_once(
    cadence: Cadence, one: dt.datetime, other: dt.datetime
) -> None:
    first, last = cadence.key(one), cadence.key(other)
    assert (first < last) == (start_of(first) < start_of(last))
    found = key_range(first, last)
    assert found == sorted(set(found)) and bool(found) == (first <= last)
    if found:
        assert (found[0], found[-1]) == (first, last) == (first, shifted(first, len(found) - 1))


@given(one=TIMES, other=TIMES)
def test_days_and_hours_that_share_time_cover_each_other(one: dt.datetime, other: dt.datetime) -> None:
    first, last = sorted((HOURLY.key(one), HOURLY.key(other)))
    days = DAILY.covering((first, last))
    assert [key_of(one.date()), key_of(other.date())] == ([*days] if one <= other else [*reversed(days)])
    hours = key_range(*HOURLY.covering(days))
    assert (start_of(hours[0]), complete_at(hours[-1])) == (start_of(days[0]), complete_at(days[1]))
    assert len(hours) == 24 * len(key_range(*days)) and {first, last} <= set(hours)


def test_hours_are_named_as_dagster_names_them_and_hours_of_a_day_are_found_by_theirs() -> None:
    assert HOURLY.key(dt.datetime(2018, 6, 1, 13, 59, 59, tzinfo=dt.UTC)) == HOURLY.example
    assert complete_at("2018-12-31-23:00") == dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
    assert shifted("2018-06-01-00:00", -1) == "2018-05-31-23:00"
    assert (time_of_day("2018-06-01-13:00"), time_of_day("2018-06-01")) == ("-13:00", "")
    assert (DAILY.period, HOURLY.period) == (ONE_DAY, ONE_HOUR)


@pytest.mark.parametrize(
    "key", ["2018-06-01-13:30", "2018-06-01-24:00", "2018-06-01 13:00", "2018-02-30-01:00"]
)
def test_what_is_no_hour_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        start_of(key)


def test_spans_are_short_for_people() -> None:
    assert spans([]) == ""
    assert spans(["2018-06-01"]) == "2018-06-01"
    keys = ["2018-06-03", "2018-06-01", "2018-06-02", "2018-06-09", "2018-06-30", "2018-07-01"]
    assert spans(keys) == "2018-06-01 … 2018-06-03, 2018-06-09, 2018-06-30 … 2018-07-01"
