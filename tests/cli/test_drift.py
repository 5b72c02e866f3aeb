"""`ml-platform drift profile`: what the rows of some days looked like, in one profile."""

import json
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ml_platform.cli.main import app
from tests.built import Platform
from tests.support import FIRST_PROFILE, LAST_DAY

WEEK = ("2018-06-04", "2018-06-10")


def profile(first: str, last: str, *, name: str = "fraud", more: tuple[str, ...] = ()) -> Result:
    return CliRunner().invoke(app, ["drift", "profile", name, "--from", first, "--to", last, *more])


def statistics(first: str, last: str) -> dict[str, Any]:
    result = profile(first, last, more=("--json",))
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_profile_of_a_week_is_that_of_the_union_of_its_days_rows(shared: Platform) -> None:
    found = statistics(*WEEK)
    every_day = shared.scan("drift_profiles/fraud")
    rows = shared.query(
        f"SELECT * FROM ({every_day}) WHERE partition_date BETWEEN '{WEEK[0]}' AND '{WEEK[1]}'"
    )
    assert (found["rows"], len(found["days"]), found["missing_days"]) == (rows.num_rows, 7, [])
    assert len(found["features"]) == 16
    for feature in found["features"]:
        values = np.sort(rows.column(feature["feature"]).drop_null().to_numpy().astype(np.float64))
        values = values[~np.isnan(values)]
        assert (feature["count"], feature["missing"]) == (rows.num_rows, rows.num_rows - len(values))
        assert (feature["min"], feature["max"]) == (values[0], values[-1])
        assert feature["mean"] == pytest.approx(values.mean(), rel=1e-9)
        assert feature["stddev"] == pytest.approx(values.std(ddof=1), rel=1e-6, abs=1e-9)
        for name, share in {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}.items():
            below = np.searchsorted(values, feature[name], "left") / len(values)
            upto = np.searchsorted(values, feature[name], "right") / len(values)
            assert below - 0.02 <= share <= upto + 0.02, (feature["feature"], name)


def test_days_without_a_profile_are_told_and_the_others_are_merged(shared: Platform) -> None:
    found = statistics("2018-05-07", "2018-05-10")
    assert (found["days"], found["missing_days"]) == (
        [FIRST_PROFILE, "2018-05-10"],
        ["2018-05-07", "2018-05-08"],
    )
    assert "without 2018-05-07 … 2018-05-08" in profile("2018-05-07", "2018-05-10").stdout


def test_people_see_a_line_for_each_feature(shared: Platform) -> None:
    shown = profile(LAST_DAY, LAST_DAY, name="drift_profiles/fraud")
    assert shown.exit_code == 0
    assert f"drift_profiles/fraud [{LAST_DAY}]" in shown.stdout and "customer_mean" in shown.stdout


@pytest.mark.parametrize(
    ("first", "last", "name", "said"),
    [
        ("2018-08-01", "2018-08-07", "fraud", "published profiles of days from 2018-08-01 to 2018-08-07 are"),
        ("2018-06-10", "2018-06-04", "fraud", "--from and --to require two days"),
        ("June", "2018-06-04", "fraud", "--from and --to require two days"),
        (*WEEK, "frauds", "did you mean fraud?"),
    ],
)
def test_what_has_no_profile_is_an_error_that_says_so(
    shared: Platform, first: str, last: str, name: str, said: str
) -> None:
    result = profile(first, last, name=name)
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())
