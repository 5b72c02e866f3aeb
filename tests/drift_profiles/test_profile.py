"""Profiles hold what people look at, merge, and do not break on what whylogs alone would break on."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ml_platform.drift_profiles.profile import (
    SUMMARY_SCHEMA,
    merge,
    prepare_whylogs,
    profile_columns,
    summary,
)
from ml_platform.kernel.errors import InputError

DAY = datetime(2018, 6, 6, tzinfo=UTC)


def columns(seed: int, rows: int = 9_600) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    amount = rng.gamma(2.0, 25.0, rows).astype(np.float32)
    amount[:96] = np.nan
    channel = rng.choice(np.array(["chip", "web", "stripe"]), rows).astype(object)
    channel[:10] = None
    return {"amount": amount, "count_7d": rng.integers(0, 20, rows), "channel": channel}


def row(table: pa.Table, feature: str) -> dict[str, Any]:
    return next(found for found in table.to_pylist() if found["feature"] == feature)


def test_a_summary_has_one_row_per_feature_with_what_numpy_says() -> None:
    day = columns(1)
    table = summary(profile_columns(day, timestamp=DAY))
    assert table.schema == SUMMARY_SCHEMA
    assert table["feature"].to_pylist() == ["amount", "channel", "count_7d"]
    amount, present = row(table, "amount"), day["amount"][96:].astype(np.float64)
    assert (amount["count"], amount["missing"], amount["infinite"]) == (9_600, 96, 0)
    assert (amount["min"], amount["max"]) == (present.min(), present.max())
    assert amount["mean"] == pytest.approx(present.mean(), rel=1e-12)
    assert amount["stddev"] == pytest.approx(present.std(ddof=1), rel=1e-9)
    assert amount["unique_estimate"] == pytest.approx(len(np.unique(present)), rel=0.05)


def test_quantiles_are_right_to_one_percent_of_the_rows() -> None:
    day = columns(2)
    amount = row(summary(profile_columns(day, timestamp=DAY)), "amount")
    present = np.sort(day["amount"][96:])
    for name, share in {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}.items():
        assert np.searchsorted(present, amount[name]) / len(present) == pytest.approx(share, abs=0.01)


def test_text_has_counts_and_unique_values_only() -> None:
    channel = row(summary(profile_columns(columns(1), timestamp=DAY)), "channel")
    assert (channel["count"], channel["missing"]) == (9_600, 10)
    assert channel["unique_estimate"] == pytest.approx(3, abs=0.01)
    assert channel["mean"] is None and channel["q50"] is None


def test_flags_dates_and_plain_strings_are_profiled_too() -> None:
    day = {
        "night": np.array([True, False, True]),
        "opened": np.array(["2018-06-01", "2018-06-02", "NaT"], dtype="datetime64[ns]"),
        "country": np.array(["BE", "NL", "BE"]),
    }
    table = summary(profile_columns(day, timestamp=DAY))
    assert row(table, "night")["mean"] == pytest.approx(2 / 3)
    assert (row(table, "opened")["count"], row(table, "opened")["missing"]) == (3, 1)
    assert row(table, "country")["unique_estimate"] == pytest.approx(2, abs=0.01)


def test_infinite_values_are_counted_and_do_not_spoil_the_mean() -> None:
    day = {"ratio": np.array([1, 2, np.inf, -np.inf, np.nan], np.float32)}
    ratio = row(summary(profile_columns(day, timestamp=DAY)), "ratio")
    assert (ratio["count"], ratio["missing"], ratio["infinite"]) == (5, 1, 2)
    assert (ratio["mean"], ratio["max"]) == (1.5, 2.0)


def test_a_feature_without_a_value_and_a_day_without_rows_have_nulls() -> None:
    empty = {"amount": np.full(3, np.nan, np.float32)}, {"amount": np.empty(0, np.float32)}
    for day, rows in zip(empty, (3, 0), strict=True):
        amount = row(summary(profile_columns(day, timestamp=DAY)), "amount")
        assert (amount["count"], amount["missing"]) == (rows, rows)
        assert amount["mean"] is None and amount["max"] is None


def test_a_month_is_the_merge_of_its_days() -> None:
    days = [columns(seed) for seed in range(4)]
    merged = summary(merge([profile_columns(day, timestamp=DAY) for day in days]))
    amounts = np.concatenate([day["amount"] for day in days]).astype(np.float64)
    amount, channel = row(merged, "amount"), row(merged, "channel")
    assert (amount["count"], amount["missing"]) == (4 * 9_600, 4 * 96)
    assert (amount["min"], amount["max"]) == (np.nanmin(amounts), np.nanmax(amounts))
    assert amount["mean"] == pytest.approx(np.nanmean(amounts), rel=1e-12)
    assert amount["stddev"] == pytest.approx(np.nanstd(amounts, ddof=1), rel=1e-9)
    assert (channel["count"], channel["missing"]) == (4 * 9_600, 40)


def test_a_merge_takes_the_earliest_time_of_its_profiles() -> None:
    from whylogs.core.view import DatasetProfileView

    later = profile_columns(columns(1, rows=10), timestamp=datetime(2018, 6, 7, tzinfo=UTC))
    merged = merge([later, profile_columns(columns(2, rows=10), timestamp=DAY)])
    assert DatasetProfileView.deserialize(merged).dataset_timestamp == DAY


def test_whylogs_maps_types_under_numpy_2_only_with_the_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_whylogs()
    from whylogs.core.datatypes import AnyType, StandardTypeMapper

    assert isinstance(StandardTypeMapper()(np.dtype("datetime64[us]")), AnyType)
    monkeypatch.delattr(np, "unicode_")
    with pytest.raises(AttributeError, match="unicode_"):  # no longer raised: remove the alias
        StandardTypeMapper()(np.dtype("datetime64[us]"))


def test_in_a_fresh_process_whylogs_reports_nothing_and_logs_any_type() -> None:
    script = (
        "import sys; from ml_platform.drift_profiles import profile\n"
        "assert 'whylogs' not in sys.modules, 'imported before it is needed'\n"
        "profile.prepare_whylogs(); import pandas, whylogs\n"
        "assert whylogs.api.usage_stats._TELEMETRY_DISABLED\n"
        "at = pandas.to_datetime(['2018-06-06'])\n"
        "frame = pandas.DataFrame({'at': at, 'flag': [True], 'text': ['a']})\n"
        "print(sorted(whylogs.log(frame).view().get_columns()))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WHYLOGS_NO_ANALYTICS"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "['at', 'flag', 'text']\n", done.stderr


@pytest.mark.parametrize(
    ("day", "at", "message"),
    [
        ({}, DAY, "at least one column"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, DAY, "one value per row"),
        ({"a": np.ma.masked_array([1.0], [True])}, DAY, "masked"),
        ({"a": np.zeros(2)}, datetime(2018, 6, 6), "a time with a zone"),  # noqa: DTZ001 - it is what is refused
    ],
)
def test_what_cannot_be_profiled_is_refused(day: dict[str, np.ndarray], at: datetime, message: str) -> None:
    with pytest.raises(InputError, match=message):
        profile_columns(day, timestamp=at)


def test_bytes_that_are_no_profile_are_refused() -> None:
    whole = profile_columns(columns(1, rows=100), timestamp=DAY)
    for broken in (b"", b"PAR1 and more", whole[: len(whole) // 2]):
        with pytest.raises(InputError, match="profile was required"):
            summary(broken)
    with pytest.raises(InputError, match="at least one profile"):
        merge([])
