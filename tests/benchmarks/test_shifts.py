"""The shifts of the drift benchmark do what their names say, to the day's events alone."""

from collections.abc import Iterator

import numpy as np
import pytest

from ml_platform.drift_profiles import store
from ml_platform.drift_profiles.component import id_columns
from ml_platform.drift_profiles.sequence import Columns
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.benchmarks.drift import alarm_rate
from tests.benchmarks.home import PLATFORM, Home
from tests.benchmarks.shifts import (
    FRAUDS,
    SHIFTS,
    Shift,
    ShiftedHome,
    changed_features,
    label_counts,
    without_some,
)
from tests.built import Platform

DAYS = ["2018-06-20", "2018-06-23"]
AMOUNTS, MISSING, NIGHTS, TERMINALS = SHIFTS


@pytest.fixture(scope="module")
def shifted(shared: Platform, tmp_path_factory: pytest.TempPathFactory) -> ShiftedHome:
    return ShiftedHome(Home(shared.settings.root, PLATFORM), tmp_path_factory.mktemp("shifted"))


@pytest.fixture(scope="module")
def spec(shifted: ShiftedHome) -> DriftProfileSpec:
    return shifted.stable.catalog.get(DriftProfileSpec, "fraud", wanted_by="a test")


@pytest.fixture(scope="module")
def names(shifted: ShiftedHome, spec: DriftProfileSpec) -> list[str]:
    return spec.service(shifted.stable.catalog).feature_names(shifted.stable.catalog)


@pytest.fixture(scope="module")
def published(shifted: ShiftedHome, spec: DriftProfileSpec, names: list[str]) -> dict[str, Columns]:
    ids = id_columns(spec, shifted.stable.catalog)
    return store.read_days(shifted.stable.settings, spec.key, DAYS, [*names, *ids])


def both(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns], shift: Shift, size: float
) -> Iterator[tuple[Columns, Columns]]:
    """Each day as it came, and with the shift."""
    found = shifted.days(spec, shift, size, DAYS)
    assert list(found) == DAYS
    return ((published[key], found[key]) for key in DAYS)


def test_no_shift_gives_the_published_rows(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns]
) -> None:
    for before, after in both(shifted, spec, published, AMOUNTS, 1.0):
        for name in before:
            assert np.array_equal(np.sort(before[name]), np.sort(after[name]), equal_nan=True), name


def test_amounts_change_what_a_day_sees_of_them_and_no_snapshot(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns], names: list[str]
) -> None:
    after = shifted.days(spec, AMOUNTS, 1.2, DAYS)
    assert changed_features(published, after, names) == ["amount", "amount_over_mean_30d"]
    for key in DAYS:
        total = after[key]["amount"].astype(float).sum()
        assert total == pytest.approx(1.2 * published[key]["amount"].astype(float).sum(), rel=1e-5)


def test_a_share_of_amounts_is_lost(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns]
) -> None:
    for before, after in both(shifted, spec, published, MISSING, 0.05):
        assert not np.isnan(before["amount"]).any()
        assert np.isnan(after["amount"]).mean() == pytest.approx(0.05, abs=0.025)
        assert np.isnan(after["amount_over_mean_30d"]).sum() >= np.isnan(after["amount"]).sum()


def test_rows_move_into_the_night_of_their_day(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns]
) -> None:
    for before, after in both(shifted, spec, published, NIGHTS, 0.05):
        assert len(after["is_night"]) == len(before["is_night"])
        assert after["is_night"].mean() - before["is_night"].mean() == pytest.approx(0.05, abs=0.025)


def test_permuted_terminals_are_other_terminals_each_of_one(
    shifted: ShiftedHome, spec: DriftProfileSpec, published: dict[str, Columns]
) -> None:
    for before, after in both(shifted, spec, published, TERMINALS, 1.0):
        assert set(before["customer_id"]) == set(after["customer_id"])
        counts = [np.sort(np.unique(side["terminal_id"], return_counts=True)[1]) for side in (before, after)]
        assert np.array_equal(*counts)
        assert not np.array_equal(np.sort(before["terminal_id"]), np.sort(after["terminal_id"]))


def test_every_day_has_twice_the_frauds(shifted: ShiftedHome) -> None:
    spec = shifted.stable.catalog.get(TrainingSetSpec, "fraud", wanted_by="a test")
    before = label_counts(shifted.stable, spec, "2018-06-26")
    after = shifted.labels(spec, FRAUDS, 2.0, "2018-06-26")
    assert [(c.day, 2 * c.positives, c.rows) for c in before] == [(c.day, c.positives, c.rows) for c in after]


def test_a_feature_can_lose_values_whether_or_not_it_had_them() -> None:
    values = np.where(np.arange(9_000) % 3 == 0, np.float32(np.nan), np.float32(1))
    lost = without_some({"mean": values, "other": values}, "mean", 0.05)
    assert np.isnan(lost["mean"]).mean() == pytest.approx(1 / 3 + 0.05 * 2 / 3, abs=0.01)
    assert lost["other"] is values


def test_no_alarm_on_117_days_bounds_the_rate_only_so_far() -> None:
    assert alarm_rate(0, 117) == {
        "false_alarms": 0,
        "false_alarm_rate": 0.0,
        "false_alarm_interval_95": [0.0, 0.031],
    }
