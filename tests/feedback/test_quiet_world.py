"""What is known of predictions when nothing is wrong, and what late truth does to it."""

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from ml_platform.cli.stale import declared_assets, find_stale
from ml_platform.lake.inputs import Inputs
from ml_platform.lake.maintenance import compact
from tests.built import changed_column
from tests.feedback.conftest import BAD, LOG, OUTCOMES, PERFORMANCE, QUIET, World, declared

LAST = "2018-06-26"


def stale(world: World) -> dict[str, tuple[tuple[str, ...], str]]:
    """Stale partitions of the feedback assets, with the reason."""
    here = world.platform
    assets = [
        found
        for found in declared_assets(here.catalog, here.settings)
        if found.key.startswith("feedback/") or found.key == "sources/fraud_labels"
    ]
    inputs = Inputs.now(here.lake, here.catalog.lineage)
    return {found.asset: (found.partitions, found.reason) for found in find_stale(inputs, assets, Console())}


def test_every_logged_value_is_that_of_the_published_snapshot(world: World) -> None:
    said = world.said(LOG, "online_offline_consistency", QUIET)
    assert (said["passed"], said["status"], said["mismatches"]) == (True, "passed", 0)
    assert said["predictions"] == world.rows.num_rows
    features = len(world.service.contract.features)
    assert f"{features * world.rows.num_rows:,} values" in said["observed"]


def test_what_was_compared_missing_and_stale_is_told_of_every_feature(world: World) -> None:
    rows = [row.data for row in world.said(LOG, "online_offline_consistency", QUIET)["features"].records]
    assert {row["feature"] for row in rows} == set(world.service.contract.features)
    for row in rows:
        assert (row["mismatches"], row["largest_difference"], row["stale"]) == (0, 0.0, 0)
        seen = row["compared"] + (row["missing"] if row["view"] else 0)
        assert seen == world.rows.num_rows, row["feature"]


def test_what_is_found_is_reported_and_holds_nothing_up(world: World) -> None:
    for check in ("online_offline_consistency", "prediction_drift", "training_drift"):
        evaluation = world.evaluation(LOG, check, QUIET)
        assert (evaluation.passed, evaluation.blocking, evaluation.severity.value) == (True, False, "WARN")
        assert evaluation.target_materialization_data is not None


def test_a_day_without_predictions_is_a_day_of_which_nothing_is_said(world: World) -> None:
    assert world.platform.rows(LOG, LAST).num_rows == 0
    for check in ("online_offline_consistency", "prediction_drift", "training_drift"):
        said = world.said(LOG, check, LAST)
        assert (said["passed"], said["status"], said["observed"]) == (True, "not_judged", "no predictions")


def test_scores_are_first_compared_with_those_of_the_evaluation(world: World) -> None:
    said = world.said(LOG, "prediction_drift", QUIET)
    assert (said["status"], said["reference"]) == ("passed", "scores of its evaluation, in 10 bins")


def test_features_are_compared_with_the_rows_that_the_version_was_trained_on(world: World) -> None:
    said = world.said(LOG, "training_drift", QUIET)
    assert (said["status"], said["reference"]) == ("passed", "training rows of 2018-05-09 … 2018-06-05")


def test_predictions_are_counted_by_version_and_role(world: World) -> None:
    ((row,),) = [world.platform.newest_metadata(LOG, QUIET)["versions"].records]
    assert row.data["version"] == world.service.champion.version and row.data["role"] == "champion"
    assert row.data["predictions"] == row.data["with_event"] == world.rows.num_rows


@pytest.fixture(scope="module")
def matured(world: World) -> World:
    """The quiet day's labels are mature, and its performance is measured."""
    world.platform.make(OUTCOMES, LAST, QUIET)
    world.platform.make(PERFORMANCE, LAST, QUIET)
    return world


def test_predictions_are_joined_with_the_labels_of_their_events(matured: World) -> None:
    found = matured.platform.query(
        f"SELECT event_id, label FROM ({matured.platform.scan(OUTCOMES, QUIET)}) WHERE counted ORDER BY event_id"
    )
    ids = [str(value) for value in matured.rows.column("transaction_id").to_pylist()]
    expected = sorted(zip(ids, matured.rows.column("tx_fraud").to_pylist(), strict=True))
    assert [tuple(row.values()) for row in found.to_pylist()] == expected


def test_a_version_is_measured_as_it_was_when_it_was_evaluated(matured: World) -> None:
    rows = matured.platform.rows(PERFORMANCE, QUIET).to_pylist()
    found = {(row["days"], row["metric"]): row for row in rows}
    assert {days for days, _ in found} == {1, 7}
    assert {metric for _, metric in found} == {
        *("auc_roc", "average_precision", "precision", "recall"),
        *("customer_precision_at_100", "calibration_error", "brier_score"),
    }
    one = found[7, "average_precision"]
    assert one["low"] <= one["value"] <= one["high"] and one["by"] in ("customer", "terminal")
    assert one["evaluation_low"] <= one["evaluation"] <= one["evaluation_high"]
    assert one["positives"] == sum(matured.rows.column("tx_fraud").to_pylist())


def test_a_window_with_few_positives_is_not_judged(matured: World) -> None:
    said = matured.said(PERFORMANCE, "concept_drift", QUIET)
    assert (said["passed"], said["status"]) == (True, "not_judged")
    assert "positives in 7 days: 20 are needed" in said["observed"]


def test_a_version_that_is_as_good_as_it_was_has_no_concept_drift(matured: World) -> None:
    spec = declared(matured.platform, minimum_positives=3)
    matured.platform.make(PERFORMANCE, QUIET, changed=[spec])
    said = matured.said(PERFORMANCE, "concept_drift", QUIET)
    assert (said["passed"], said["status"]) == (True, "passed")
    assert "average_precision" in said["observed"] and "when it was evaluated" in said["observed"]


def test_nothing_is_stale_while_nothing_came(matured: World) -> None:
    assert stale(matured) == {}


def test_a_corrected_label_reopens_the_days_it_touches_and_their_performance_is_measured_again(
    matured: World,
) -> None:
    here = matured.platform
    before = {row["metric"]: row for row in here.rows(PERFORMANCE, QUIET).to_pylist() if row["days"] == 7}
    labels = np.array(matured.rows.column("tx_fraud").to_pylist())
    corrected = changed_column(matured.rows, "tx_fraud", 1 - labels).take(
        pa.array(np.flatnonzero(labels == 0)[:5])
    )
    matured.deliver_labels(corrected, QUIET, known_at="2018-08-01 00:00:00")
    days, reason = stale(matured)[OUTCOMES]
    assert days == (QUIET,) and "late or corrected rows of sources/fraud_labels" in reason
    here.make(OUTCOMES, QUIET)
    assert stale(matured)[PERFORMANCE][0] == (QUIET,)
    here.make(PERFORMANCE, QUIET)
    after = {row["metric"]: row for row in here.rows(PERFORMANCE, QUIET).to_pylist() if row["days"] == 7}
    assert after["recall"]["positives"] == before["recall"]["positives"] + 5
    assert after["recall"]["value"] < before["recall"]["value"]
    assert stale(matured) == {}


def test_the_same_labels_again_reopen_nothing(matured: World) -> None:
    before = matured.platform.hashes(OUTCOMES)
    matured.deliver_labels(matured.rows.slice(0, 5), QUIET)
    matured.platform.make(OUTCOMES, QUIET)
    assert matured.platform.hashes(OUTCOMES) == before


def test_predictions_that_are_logged_later_reopen_their_day_and_merged_files_do_not(matured: World) -> None:
    here = matured.platform
    matured.service.log(matured.batches[:3])  # the same predictions again, as if a worker had not known
    compact(here.lake, "serving/fraud_predictions")
    assert stale(matured) == {}, "each is counted once"
    matured.service.log(matured.service.answer(matured.rows.slice(0, 2), role="shadow"))
    days, reason = stale(matured)[LOG]
    n = matured.rows.num_rows
    assert days == (QUIET,) and reason == f"{n + 3} logged when it was made, {n + 5} logged now"
    here.make(LOG, QUIET)
    here.make(OUTCOMES, QUIET)
    counted = here.newest_metadata(OUTCOMES, QUIET)
    assert (counted["predictions"], counted["counted"]) == (n + 2, n + 2)
    roles = [row["role"] for row in here.rows(LOG, QUIET).to_pylist()]
    assert roles.count("shadow") == 2


def test_a_prediction_that_was_made_twice_for_one_event_is_counted_once(matured: World) -> None:
    again = matured.service.answer(matured.rows.slice(5, 1))[0]
    matured.service.log([type(again)(**{**vars(again), "prediction_ids": ["another"]})])
    matured.platform.make(LOG, QUIET)
    matured.platform.make(OUTCOMES, QUIET)
    assert matured.platform.newest_metadata(OUTCOMES, QUIET)["repeated"] == 1


def test_labels_of_a_day_without_predictions_change_nothing(matured: World) -> None:
    assert BAD not in matured.platform.hashes(OUTCOMES)
