"""The champion moves only with evidence, never to a worse version, and the ledger says every move."""

import json
from typing import Any

import dagster as dg
import pytest

from ml_platform import declarations
from ml_platform.cli.story import corrupted
from ml_platform.model_registry import registry
from ml_platform.models.spec import ModelSpec
from ml_platform.releases.store import PROMOTIONS, history
from tests.built import NEXT_DAY, Platform, day_of_transactions
from tests.support import LAST_DAY

RELEASE, MODEL = "releases/fraud", "models/fraud"
WORSE = {"max_iter": 1, "max_leaf_nodes": 2, "learning_rate": 0.001}


def declared(**changed: Any) -> ModelSpec:
    return declarations.load().get(ModelSpec, "fraud", wanted_by="a test").model_copy(update=changed)


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
    assert "not_worse_than_champion: average_precision 0." in said
    assert "of version 2" in said and "of champion 1 (required: average_precision at most 0.05 below" in said
    assert (champion(platform).version, promotions(platform)) == (1, [(1, None)])
    made = platform.instance.fetch_materializations(dg.AssetKey(RELEASE.split("/")), limit=5).records
    assert len(made) == 1, "a refused release is no materialization"

    platform.make(MODEL, NEXT_DAY)
    platform.make(RELEASE)
    shown = platform.newest_metadata(RELEASE)
    assert (shown["champion"], shown["previous"], shown["partition"]) == (3, 1, NEXT_DAY)
    assert "of champion 1" in shown["comparison"]
    platform.make(RELEASE)
    assert champion(platform).version == 3
    assert promotions(platform) == [(1, None), (3, 1)], "the same version again is no promotion"
    commits = platform.lake.table(f"ledgers/{PROMOTIONS.name}").commits_after(0)
    removed = [commit["operationMetrics"]["num_removed_files"] for commit in commits]
    assert removed == [0, 0], "two commits that only added"


def test_a_worse_version_cannot_become_champion_by_reading_other_features(platform: Platform) -> None:
    service = declared().training_set_spec(platform.catalog).service(platform.catalog)
    changed = [service.model_copy(update={"request_features": ()}), declared(parameters=WORSE)]
    platform.make("training_sets/fraud", LAST_DAY, changed=changed)
    platform.make(MODEL, LAST_DAY, changed=changed)
    said = platform.refused(RELEASE, changed=changed)
    assert "of champion 1, each on its own test rows: they read different features" in said
    assert (champion(platform).version, promotions(platform)) == (1, [(1, None)])


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
