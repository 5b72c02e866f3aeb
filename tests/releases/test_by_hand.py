"""Going back to a champion of the past: in one command, with a reason, and only where it still can answer."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import dagster as dg
import mlflow
import pytest
from click.testing import Result

from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates.evaluations import latest_states
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.lake.ledger import Ledger
from ml_platform.model_registry import registry
from ml_platform.notifications.events import Scope, moved_aliases
from ml_platform.notifications.spec import WebhookSpec
from ml_platform.releases import store
from ml_platform.releases.by_hand import Moved, Tell
from ml_platform.releases.by_hand import rollback as roll_back
from ml_platform.releases.spec import ReleaseSpec
from tests import commands
from tests.built import CUSTOMERS, Platform
from tests.lifecycle.toys import evaluations_of
from tests.releases.test_releases import MODEL, RELEASE, champion, released
from tests.support import LAST_DAY

REASON = "too many alerts"


def invoke(*arguments: str) -> Result:
    return commands.invoke("releases", *arguments)


def rollback(*arguments: str, code: int = 0) -> Result:
    result = invoke("rollback", "fraud", "--reason", REASON, *arguments)
    assert result.exit_code == code, result.output
    return result


def moves(platform: Platform) -> list[tuple[str, int, int | None]]:
    """What was done, to which version, from which one; oldest first."""
    entries = store.history(platform.settings, "fraud")
    return [(entry["action"], entry["version"], entry["previous"]) for entry in entries]


BEFORE = [("promoted", 1, None), ("promoted", 2, 1), ("promoted", 3, 2)]


def test_a_rollback_makes_the_champion_before_champion_again_and_says_so_everywhere(
    champions: Platform,
) -> None:
    said = rollback().output
    assert champion(champions).version == 2
    assert moves(champions) == [*BEFORE, ("rolled back", 2, 3)]
    assert f"rolled back from version 3 to version 2 by {champions.settings.who}: {REASON}" in said
    entry = store.history(champions.settings, "fraud")[-1]
    assert (entry["reason"], entry["actor"]) == (REASON, champions.settings.who)
    assert json.loads(entry["evidence"])["onnx_parity"]["rows"] == 6374
    contract = store.contract_digest(champions.settings, champion(champions))
    assert entry["contract"] == contract and f"contract {contract}" in said

    shown = champions.newest_metadata(RELEASE)
    assert (shown["champion"], shown["previous"], shown["reason"]) == (2, 3, REASON)
    (record,) = champions.instance.fetch_materializations(dg.AssetKey(RELEASE.split("/")), limit=1).records
    for check in (found.name for found in champions.catalog.node(RELEASE).blocking_checks):
        evaluation, _ = evaluations_of(champions.instance, RELEASE, check)[-1]
        target = evaluation.target_materialization_data
        assert evaluation.passed and target is not None and target.storage_id == record.storage_id
        assert evaluation.description == f"rolled back by {champions.settings.who}: {REASON}"
        assert latest_states(champions.instance, RELEASE, check) == {None: True}


def test_a_second_rollback_goes_further_back_until_there_is_nobody_left(champions: Platform) -> None:
    rollback()
    told = json.loads(rollback("--json").stdout)
    assert (told["version"], told["previous"], told["action"]) == (1, 2, "rolled back")
    assert champion(champions).version == 1
    result = rollback(code=2)
    assert (
        "a champion before the current one is required to roll back to (none); there is none" in result.output
    )
    assert len(moves(champions)) == 5


def test_what_was_rolled_back_from_is_not_promoted_again_by_itself(champions: Platform) -> None:
    rollback("--to", "1")
    champions.make(RELEASE)
    assert champion(champions).version == 1
    shown = champions.newest_metadata(RELEASE)
    assert (shown["champion"], shown["withdrawn"]) == (1, 3)
    assert f"rolled back from it to version 1: {REASON}" in shown["comparison"]
    result = invoke("promote", "fraud", "--to", "3", "--reason", "it was the upstream's fault")
    assert result.exit_code == 0, result.output
    assert moves(champions)[-1] == ("promoted", 3, 1)
    champions.make(RELEASE)
    assert "withdrawn" not in champions.newest_metadata(RELEASE)
    assert champion(champions).version == 3


def test_a_newer_version_than_the_one_rolled_back_from_is_promoted(champions: Platform) -> None:
    rollback()
    champions.make(MODEL, LAST_DAY)
    champions.make(RELEASE)
    assert moves(champions)[-2:] == [("rolled back", 2, 3), ("promoted", 4, 2)]
    rollback()
    assert champion(champions).version == 2, "and not version 3, which was withdrawn"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reason", "  "], "reason is required: say why releases/fraud is to be rolled back"),
        (["--reason", REASON, "--to", "9"], "(1, 2); version 9 is none of them"),
        (["--reason", REASON, "--to", "3"], "(1, 2); version 3 is none of them"),
    ],
)
def test_a_rollback_without_a_reason_or_to_who_was_never_champion_changes_nothing(
    unmoved: Platform, arguments: list[str], said: str
) -> None:
    result = invoke("rollback", "fraud", *arguments)
    assert (result.exit_code, said in result.output) == (2, True), result.output
    assert moves(unmoved) == BEFORE and champion(unmoved).version == 3


def test_a_champion_that_was_deleted_cannot_come_back(champions: Platform) -> None:
    registry.client(champions.settings).delete_model_version("fraud", "2")
    assert "version 2 is not there, or was deleted" in rollback(code=2).output
    assert rollback("--to", "1").exit_code == 0


def test_a_version_without_gate_evidence_is_promoted_by_nobody(unmoved: Platform) -> None:
    """One with the artifacts of another version, and one that somebody registered by hand, with none."""
    client, source = registry.client(unmoved.settings), champion(unmoved)
    mlflow.set_tracking_uri(unmoved.settings.tracking_uri)  # by which the source is looked up
    run = client.create_run(client.get_run(source.run_id).info.experiment_id).info
    client.set_terminated(run.run_id)
    copied = client.create_model_version("fraud", source.source, run_id=run.run_id)
    bare = client.create_model_version("fraud", run.artifact_uri, run_id=run.run_id)
    for version, said in (
        (copied, "a version that this platform trained behind its gates is required; version 4"),
        (bare, "version 5: its contract.json is required and cannot be read"),
    ):
        result = invoke("promote", "fraud", "--to", version.version, "--reason", REASON)
        assert (result.exit_code, said in result.output) == (2, True), result.output
    assert moves(unmoved) == BEFORE


def go_back(platform: Platform, catalog: Catalog, tell: Tell = lambda _: None) -> Moved:
    return roll_back(platform.settings, catalog, released(), to=None, reason=REASON, actor="ada", tell=tell)


def changed_catalog(platform: Platform, **changed: Any) -> Catalog:
    view = platform.catalog.get(FeatureViewSpec, "customer_spending", wanted_by="a test")
    spec = view.model_copy(update=changed)
    return Catalog({**platform.catalog.specs, (FeatureViewSpec, view.name): spec})


def refused_under(platform: Platform, catalog: Catalog) -> str:
    with pytest.raises(InputError) as refusal:
        go_back(platform, catalog)
    assert moves(platform) == BEFORE and champion(platform).version == 3
    return str(refusal.value)


def test_a_version_whose_features_are_declared_otherwise_cannot_come_back(unmoved: Platform) -> None:
    said = refused_under(unmoved, changed_catalog(unmoved, ttl="5d"))
    assert "features/customer_spending is declared otherwise since (ttl)" in said
    assert "Way out: declare and publish those of then again, or train a new version" in said


def test_another_description_of_a_feature_view_is_not_another_feature(champions: Platform) -> None:
    catalog = changed_catalog(champions, description="What a customer spends.")
    moved = go_back(champions, catalog)
    assert moved.entry["version"] == 2 and champion(champions).version == 2


def test_a_version_whose_features_are_declared_as_then_but_others_are_online_cannot_come_back(
    champions: Platform,
) -> None:
    view = champions.catalog.get(FeatureViewSpec, "customer_spending", wanted_by="a test")
    other = view.model_copy(update={"ratios": (), "available_after": type(view.available_after)(7200)})
    champions.make("online/feature_registry", changed=[other])
    champions.make(CUSTOMERS, LAST_DAY, changed=[other])
    assert "Feast's registry has another definition of customer_spending" in refused_under(
        champions, champions.catalog
    )
    champions.make("online/feature_registry")
    rollback()


def test_an_alias_that_was_moved_by_hand_is_told_and_stops_releases_until_a_person_decides(
    champions: Platform,
) -> None:
    registry.set_champion(champions.settings, "fraud", 1)
    state = store.alias_state(champions.settings, "fraud")
    assert (state.state, state.recorded, state.alias) == ("moved", 3, 1)
    listed = invoke("list", "fraud")
    assert listed.exit_code == 1
    assert (
        "points at version 1, and the ledger says version 3: it was moved behind the ledger's"
        in listed.output
    )
    said = champions.refused(RELEASE)
    assert "Way out: ml-platform releases promote fraud --to 1" in said
    assert "Way out: ml-platform releases rollback fraud --to 3" in said
    assert "say with `to` which version it is to be" in rollback(code=2).output
    assert moves(champions) == BEFORE
    rollback("--to", "3")
    assert champion(champions).version == 3
    assert store.alias_state(champions.settings, "fraud").state == "agrees"
    champions.make(RELEASE)


def test_an_alias_that_was_moved_by_hand_is_told_once_to_those_who_are_told_of_releases(
    champions: Platform,
) -> None:
    scope = Scope(WebhookSpec(name="on_call"), champions.catalog.lineage, (), {})
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)

    def told(known: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        found, aliases = moved_aliases(champions.settings, scope, known, now)
        return [happening.words for happening in found], aliases

    assert told({}) == ([], {})
    registry.set_champion(champions.settings, "fraud", 1)
    [words], aliases = told({})
    assert "the champion alias points at version 1, and the ledger says version 3" in words
    assert "Way out: ml-platform releases promote fraud --to 1" in words
    assert told(aliases) == ([], {"fraud": "1"})
    registry.set_champion(champions.settings, "fraud", 3)
    assert told(aliases) == ([], {}), "so that it is told again when it is moved there again"


def test_an_alias_that_was_moved_by_hand_can_be_kept(champions: Platform) -> None:
    registry.set_champion(champions.settings, "fraud", 1)
    assert invoke("promote", "fraud", "--to", "1", "--reason", "ann was right").exit_code == 0
    assert moves(champions)[-1] == ("promoted", 1, 3)
    assert store.alias_state(champions.settings, "fraud").state == "agrees"


def test_an_alias_that_was_removed_is_told(champions: Platform) -> None:
    registry.client(champions.settings).delete_registered_model_alias("fraud", "champion")
    assert "points at nothing, and the ledger says version 3" in invoke("list").output
    assert "releases rollback fraud --to 3" in champions.refused(RELEASE)


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def interrupted(champions: Platform, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Somebody rolled back, and was interrupted when the ledger had it and the alias had not."""

    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_champion", interrupt)
        with pytest.raises(KeyboardInterrupt):
            go_back(champions, champions.catalog)
    assert champion(champions).version == 3
    return champions


def test_a_rollback_that_was_interrupted_is_told_and_finished_by_the_next_one(interrupted: Platform) -> None:
    listed = invoke("list")
    assert listed.exit_code == 1 and "whoever moved it was interrupted" in listed.output
    assert "it is finished now" in rollback().output
    assert champion(interrupted).version == 2
    assert moves(interrupted) == [*BEFORE, ("rolled back", 2, 3)], "and no second one"
    assert invoke("list").exit_code == 0


def test_a_rollback_that_was_interrupted_is_finished_by_the_next_release(interrupted: Platform) -> None:
    interrupted.make(RELEASE)
    assert champion(interrupted).version == 2
    assert interrupted.newest_metadata(RELEASE)["withdrawn"] == 3


def test_an_alias_that_was_moved_after_an_old_interruption_is_not_moved_back(interrupted: Platform) -> None:
    rollback()
    registry.set_champion(interrupted.settings, "fraud", 3)
    assert store.alias_state(interrupted.settings, "fraud").state == "moved"


def test_a_rollback_that_was_interrupted_before_dagster_was_told_is_no_second_one_when_it_is_repeated(
    champions: Platform,
) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_back(champions, champions.catalog, interrupt)
    assert champion(champions).version == 2 and champions.newest_metadata(RELEASE)["champion"] == 3
    assert store.alias_state(champions.settings, "fraud").state == "unfinished"
    assert "it is finished now" in rollback().output
    assert champion(champions).version == 2 and champions.newest_metadata(RELEASE)["champion"] == 2
    assert moves(champions) == [*BEFORE, ("rolled back", 2, 3)]
    assert invoke("list").exit_code == 0


def test_an_alias_that_somebody_moved_after_an_interruption_is_told_and_stays(champions: Platform) -> None:
    with pytest.raises(KeyboardInterrupt):
        go_back(champions, champions.catalog, interrupt)
    registry.set_champion(champions.settings, "fraud", 1)
    assert store.alias_state(champions.settings, "fraud").state == "moved"
    assert "it was moved behind the ledger's back" in champions.refused(RELEASE)
    assert champion(champions).version == 1


def test_a_rollback_after_a_promotion_that_was_interrupted_goes_back_from_it(
    champions: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bad version was recorded and the alias had not followed: going back must not finish its promotion."""
    rollback()
    with monkeypatch.context() as patch:
        patch.setattr(registry, "set_champion", interrupt)
        assert invoke("promote", "fraud", "--to", "3", "--reason", "again").exit_code != 0
    assert store.alias_state(champions.settings, "fraud").state == "unfinished"
    assert "version 99 is none of them" in rollback("--to", "99", code=2).output
    assert champion(champions).version == 2
    rollback()
    assert champion(champions).version == 2
    assert moves(champions)[-2:] == [("promoted", 3, 2), ("rolled back", 2, 3)]
    assert store.alias_state(champions.settings, "fraud").state == "agrees"


def test_an_older_version_that_a_person_promoted_is_not_undone_by_the_next_release(
    champions: Platform,
) -> None:
    assert invoke("promote", "fraud", "--to", "1", "--reason", "the oldest was best").exit_code == 0
    champions.make(RELEASE)
    assert champion(champions).version == 1
    assert (
        "went back from it to version 1: the oldest was best"
        in champions.newest_metadata(RELEASE)["comparison"]
    )
    rollback()
    assert champion(champions).version == 3, "a rollback undoes what was promoted by hand"


def test_a_registry_that_does_not_answer_is_told_and_is_no_moved_alias(
    home: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database")
    monkeypatch.setenv("ML_PLATFORM_MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    listed = invoke("list")
    assert listed.exit_code == 2
    assert "the model registry is required and does not answer as it should" in listed.output


def test_the_card_of_a_version_says_how_it_was_released(champions: Platform) -> None:
    rollback()
    card = commands.invoke("models", "card", "fraud@3").stdout
    _, _, released_as = card.partition("## Releases\n")
    promoted, rolled_back = [line for line in released_as.splitlines() if "| 20" in line]
    assert "| promoted, version 2 to 3 |" in promoted
    assert "not_worse_than_champion: " in promoted and "calibrated: " in promoted
    assert "| rolled back, version 3 to 2 |" in rolled_back and REASON in rolled_back
    first = commands.invoke("models", "card", "fraud@1").stdout
    assert "promoted, version none to 1" in first


def test_the_history_is_listed_newest_last_with_the_champion_marked(champions: Platform) -> None:
    rollback()
    result = invoke("list", "fraud", "--json")
    assert result.exit_code == 0
    (told,) = json.loads(result.stdout)["releases"]
    assert (told["champion"], told["alias"], told["state"]) == (2, 2, "agrees")
    assert [entry["version"] for entry in told["history"]] == [1, 2, 3, 2]
    assert told["history"][-1]["reason"] == REASON
    assert "version 2 against champion 1" in told["history"][1]["evidence"]["comparison"]
    table = " ".join(result.stderr.split())
    assert table.count("◀") == 1


def test_a_release_that_is_not_declared_has_no_history(home: Any) -> None:
    result = invoke("list", "froud")
    assert result.exit_code == 2 and "did you mean fraud?" in result.output
    empty = invoke("list")
    assert empty.exit_code == 0 and "nobody was ever promoted" in empty.output


def test_moves_that_an_older_ledger_has_are_promotions(home: Any) -> None:
    columns = {k: v for k, v in store.PROMOTIONS.columns.items() if k not in ("action", "contract", "entry")}
    old = {"release": "fraud", "model": "fraud", "version": 1, "previous": None, "actor": "ann"}
    lake = Platform(home, None).lake  # pyright: ignore[reportArgumentType]
    Ledger("promotions", columns).append(lake, [{**old, "reason": "first", "evidence": "{}"}])
    (entry,) = store.history(home, "fraud")
    assert (entry["action"], entry["version"]) == ("promoted", 1)
    assert isinstance(released(), ReleaseSpec)
