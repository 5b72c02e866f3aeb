"""The champion moves only with evidence, never to a worse version, and the ledger says every move."""

import json
import re
from typing import Any

import dagster as dg
import mlflow
import pytest

from ml_platform import declarations
from ml_platform.cli.story import corrupted
from ml_platform.model_registry import registry
from ml_platform.models.spec import ModelSpec, Slice
from ml_platform.releases.spec import ReleaseSpec
from ml_platform.releases.store import PROMOTIONS, history
from tests.built import NEXT_DAY, Platform, day_of_transactions
from tests.lifecycle.toys import evaluations_of
from tests.support import LAST_DAY

RELEASE, MODEL = "releases/fraud", "models/fraud"
ANOTHER = {"max_iter": 150, "learning_rate": 0.06, "max_features": 0.5, "random_state": 1}
WORSE = {"max_iter": 1, "max_leaf_nodes": 2, "learning_rate": 0.001}


def declared(**changed: Any) -> ModelSpec:
    return declarations.load().get(ModelSpec, "fraud", wanted_by="a test").model_copy(update=changed)


def released(**changed: Any) -> ReleaseSpec:
    return declarations.load().get(ReleaseSpec, "fraud", wanted_by="a test").model_copy(update=changed)


def comparisons(platform: Platform) -> dict[str, dict[str, Any]]:
    """The newest comparison with the champion: all rows and each slice."""
    found = evaluations_of(platform.instance, RELEASE, "not_worse_than_champion")[-1][0].metadata
    return {row["rows_of"]: row for row in found["comparisons"].value}


def champion(platform: Platform) -> registry.Registered:
    found = registry.champion(platform.settings, "fraud")
    assert found is not None
    return found


def promotions(platform: Platform) -> list[tuple[int, int | None]]:
    """Version and the champion before it, of every promotion in the ledger, oldest first."""
    return [(entry["version"], entry["previous"]) for entry in history(platform.settings, "fraud")]


def next_day(platform: Platform) -> None:
    """Make everything that the model of the day after the built ones is trained on."""
    platform.deliver("transactions", day_of_transactions(NEXT_DAY))
    platform.make("sources/transactions", NEXT_DAY)
    platform.make("drift_profiles/fraud", NEXT_DAY)
    platform.make("training_sets/fraud", NEXT_DAY)


def test_the_first_promotion_has_nobody_before_it_and_says_who_why_and_on_what_evidence(
    shared: Platform,
) -> None:
    assert (champion(shared).version, champion(shared).partition) == (1, LAST_DAY)
    (entry,) = history(shared.settings, "fraud")
    assert (entry["version"], entry["previous"], entry["actor"]) == (1, None, shared.settings.who)
    assert entry["reason"] == "newest version, gates open"
    evidence = json.loads(entry["evidence"])
    assert evidence["partition"] == LAST_DAY
    assert evidence["training_set"] == shared.hashes("training_sets/fraud")[LAST_DAY]
    assert shared.instance.get_run_by_id(evidence["dagster_run"]) is not None
    assert shared.newest_metadata(RELEASE)["previous"] == "none"


def test_a_worse_version_is_refused_and_the_champion_stays_until_a_better_one_takes_its_place(
    platform: Platform,
) -> None:
    next_day(platform)
    platform.make(MODEL, NEXT_DAY, changed=[declared(parameters=WORSE)])
    said = platform.refused(RELEASE)
    assert "not_worse_than_champion: version 2 against champion 1: average_precision 0." in said
    assert re.search(r"(99|100)\.\d% of draws by (customer|terminal) worse by more than 0\.05", said)
    assert "(required: average_precision at most 0.05 below the champion's on the same test rows" in said
    assert (champion(platform).version, promotions(platform)) == (1, [(1, None)])
    made = platform.instance.fetch_materializations(dg.AssetKey(RELEASE.split("/")), limit=5).records
    assert len(made) == 1, "a refused release is no materialization"

    platform.make(MODEL, NEXT_DAY)
    platform.make(RELEASE)
    shown = platform.newest_metadata(RELEASE)
    assert (shown["champion"], shown["previous"], shown["partition"]) == (3, 1, NEXT_DAY)
    assert "version 3 against champion 1" in shown["comparison"]
    platform.make(RELEASE)
    assert champion(platform).version == 3
    assert promotions(platform) == [(1, None), (3, 1)], "the same version again is no promotion"
    commits = platform.lake.table(f"ledgers/{PROMOTIONS.name}").commits_after(0)
    removed = [commit["operationMetrics"]["num_removed_files"] for commit in commits]
    assert removed == [0, 0], "two commits that only added"


def test_what_the_rows_cannot_show_is_refused_where_there_are_enough_positives(platform: Platform) -> None:
    """Version 2 has another seed and is about as good; so few rows cannot show that it is not worse by a thousandth."""
    platform.make(MODEL, LAST_DAY, changed=[declared(parameters=ANOTHER)])
    strict = released(minimum_positives=10, margin=0.001, slice_margin=1.0)
    said = platform.refused(RELEASE, changed=[strict])
    shown = comparisons(platform)["all rows"]
    assert shown["verdict"] == "failed" and 0.05 < shown["share_worse"] < 1
    assert shown["low"] < -0.001 < shown["high"]
    assert f"{shown['share_worse']:.1%} of draws by {shown['drawn_by']} worse by more than 0.001" in said
    decided = [comparisons(platform)]
    platform.refused(RELEASE, changed=[strict])
    assert [*decided, comparisons(platform)] == decided * 2, "the same content gives the same decision"
    assert champion(platform).version == 1
    platform.make(RELEASE, changed=[released(minimum_positives=10, margin=1.0, slice_margin=1.0)])
    assert champion(platform).version == 2


def test_a_version_that_is_worse_on_one_slice_is_refused_although_it_is_not_on_all_rows(
    platform: Platform,
) -> None:
    slices = (Slice(name="high_amount", where="amount >= 200"), Slice(name="few", where="amount >= 420"))
    platform.make(MODEL, LAST_DAY, changed=[declared(parameters=WORSE)])
    lenient = {"margin": 1.0, "minimum_positives": 20}
    changed = [declared(slices=slices), released(slice_margin=0.1, **lenient)]
    said = platform.refused(RELEASE, changed=changed)
    shown = comparisons(platform)
    assert {name: row["verdict"] for name, row in shown.items()} == {
        "all rows": "passed",
        "high_amount": "failed",
        "few": "not judged",
    }
    assert shown["few"]["positives"] < 20 < shown["high_amount"]["positives"] < shown["all rows"]["positives"]
    assert "; slice high_amount: average_precision 0." in said and "slice few" not in said
    assert "at most 0.1 in each slice" in said


@pytest.mark.parametrize(
    ("declares", "said"),
    [
        (released(calibration_bound=0.0001), "calibrated: expected calibration error 0.0"),
        (declared(latency_budget_ms=0.0001), "within_latency_budget: version 1 scores one row in 0."),
    ],
)
def test_a_version_that_is_badly_calibrated_or_too_slow_is_refused(
    platform: Platform, declares: Any, said: str
) -> None:
    refusal = platform.refused(RELEASE, changed=[declares])
    assert said in refusal and "(required: " in refusal
    assert promotions(platform) == [(1, None)]


def test_a_version_is_judged_by_what_it_declares_and_shows_what_was_measured(shared: Platform) -> None:
    shown = shared.newest_metadata(RELEASE)
    assert 0 < shown["latency_p50_ms"] <= shown["latency_p99_ms"] < 100
    assert 0 < shown["calibration_error"] < 0.01
    checks = {check.name for check in shared.catalog.node(RELEASE).blocking_checks}
    assert checks == {"not_worse_than_champion", "calibrated", "within_latency_budget"}
    without = released(calibration_bound=None).nodes(shared.catalog)[0].blocking_checks
    assert {check.name for check in without} == checks - {"calibrated"}


def test_a_worse_version_cannot_become_champion_by_reading_other_features(platform: Platform) -> None:
    """It is compared by what was measured in training; once a version's rows have all features, on the same rows."""
    service = declared().training_set_spec(platform.catalog).service(platform.catalog)
    fewer = [service.model_copy(update={"request_features": ()}), declared(parameters=WORSE, slices=())]
    platform.make("training_sets/fraud", LAST_DAY, changed=fewer)
    platform.make(MODEL, LAST_DAY, changed=fewer)
    said = platform.refused(RELEASE, changed=fewer)
    assert "version 2 against champion 1: " in said
    assert "(no interval" in said and ", each on its own test rows: they read other features" in said
    assert (champion(platform).version, promotions(platform)) == (1, [(1, None)])

    platform.make(RELEASE, changed=[*fewer, released(margin=1.0)])
    platform.make("training_sets/fraud", LAST_DAY)
    platform.make(MODEL, LAST_DAY)
    platform.make(RELEASE)
    shown = comparisons(platform)["all rows"]
    assert shown["champion"] < shown["candidate"] and shown["low"] > 0
    assert promotions(platform) == [(1, None), (2, 1), (3, 2)]


@pytest.mark.parametrize("closed_by", ["its source", "its own check"])
def test_a_release_is_refused_when_a_gate_of_its_version_has_closed_since(
    platform: Platform, closed_by: str
) -> None:
    if closed_by == "its source":
        bad = corrupted(day_of_transactions(LAST_DAY).slice(0, 100), "terminal_id")
        platform.deliver("transactions", bad, known_at=f"{LAST_DAY}T23:59:59")
        platform.refused("sources/transactions", LAST_DAY)
        closed = f"sources/transactions [{LAST_DAY}] quality: 30 of"
    else:
        wrong = {"max_iter": 40, "categorical_features": [1], "random_state": 0}
        platform.refused(MODEL, LAST_DAY, changed=[declared(parameters=wrong)])
        closed = f"{MODEL} [{LAST_DAY}] onnx_parity"
    said = platform.refused(RELEASE)
    assert closed in said
    assert "is refused: " in said and "Nothing was changed." in said
    assert champion(platform).version == 1
    assert promotions(platform) == [(1, None)]


def test_a_version_that_no_materialization_names_is_never_promoted(platform: Platform) -> None:
    client, judged = registry.client(platform.settings), champion(platform)
    mlflow.set_tracking_uri(platform.settings.tracking_uri)  # by which the source is looked up
    stray = client.create_model_version(
        "fraud", judged.source, run_id=judged.run_id, tags={"partition": LAST_DAY}
    )
    platform.make(RELEASE)
    assert int(stray.version) == 2
    assert champion(platform).version == 1
    assert promotions(platform) == [(1, None)]


def test_without_a_trained_model_there_is_nothing_to_release(home: Any, instance: dg.DagsterInstance) -> None:
    said = Platform(home, instance).refused(RELEASE)
    assert f"a materialized partition of {MODEL} with a registered version is required" in said
    assert f"materialize {MODEL} first" in said
