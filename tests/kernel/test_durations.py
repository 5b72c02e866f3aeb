"""Lengths of time are read as declared, shown as short as possible, and never rounded without a word."""

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ml_platform.kernel.durations import Duration
from ml_platform.kernel.spec import DurationField, Spec


class Declared(Spec):
    """A declaration with one length of time."""

    window: DurationField


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("45s", 45), ("30m", 1_800), ("1h", 3_600), ("7d", 604_800), ("007d", 604_800)],
)
def test_a_declared_length_is_read_in_seconds(text: str, seconds: int) -> None:
    assert Duration.parse(text).seconds == seconds


@pytest.mark.parametrize(
    "text", ["", "7", "d", "7 d", " 7d", "7d\n", "-7d", "1.5h", "1h30m", "7w", "7D", 7, None, True]
)
def test_anything_else_is_refused_with_an_example(text: object) -> None:
    with pytest.raises(ValueError, match="such as 7d or 1h; got"):
        Duration.parse(text)


@pytest.mark.parametrize(
    ("text", "shortest"), [("604800s", "7d"), ("24h", "1d"), ("90m", "90m"), ("0d", "0s"), ("120s", "2m")]
)
def test_a_length_is_shown_in_its_shortest_form(text: str, shortest: str) -> None:
    assert str(Duration.parse(text)) == shortest


@given(st.integers(0, 10**9))
def test_what_is_shown_is_read_as_the_same_length(seconds: int) -> None:
    assert Duration.parse(str(Duration(seconds))) == Duration(seconds)


@given(st.integers(0, 10**9))
def test_whole_days_are_rounded_up_and_exact_units_agree(seconds: int) -> None:
    length = Duration(seconds)
    assert (
        dt.timedelta(days=length.whole_days - 1) < length.timedelta() <= dt.timedelta(days=length.whole_days)
    )
    assert length.timedelta() == dt.timedelta(microseconds=length.microseconds)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_longer_is_greater(one: int, other: int) -> None:
    assert (Duration(one) < Duration(other)) == (one < other)


def test_a_declaration_takes_text_and_gives_text_back() -> None:
    declared = Declared.model_validate({"window": "168h"})
    assert declared.window == Duration.days(7)
    assert declared.model_dump(mode="json") == {"window": "7d"}
    assert Declared.model_validate(declared.model_dump(mode="json")) == declared
    assert declared.digest() == Declared(window=Duration.days(7)).digest()


def test_a_declaration_with_a_wrong_length_names_the_field() -> None:
    with pytest.raises(ValidationError, match=r"window\n.*must be a whole number and one of s, m, h, d"):
        Declared.model_validate({"window": "a week"})
