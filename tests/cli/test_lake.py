"""`ml-platform lake`: tables become quick to read and small, and every registered model can still be explained."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ml_platform.cli.main import app
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from tests.built import NEXT_DAY, Platform
from tests.support import LAST_DAY

SET, MODEL, LABELS = "training_sets/fraud", "models/fraud", "sources/fraud_labels"
MATURED = "2018-06-19"  # no snapshot that the model reads has counted its labels yet


def lake(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["lake", *arguments])


def done(*arguments: str) -> dict[str, Any]:
    result = lake(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def require_rebuilt(model: str) -> None:
    result = CliRunner().invoke(app, ["training-sets", "rebuild", "--model", model])
    assert result.exit_code == 0, result.output


def correct_labels(platform: Platform, frauds: int) -> None:
    platform.relabel(MATURED, frauds=frauds, known_at=f"{NEXT_DAY}T00:00:00")


def files_named_by(platform: Platform, version: registry.Registered) -> set[str]:
    manifest = registry.load_document(platform.settings, version, "manifest.json")
    return {file for entry in manifest["inputs"] for file in entry["files"]}


def files_in_use(platform: Platform) -> set[str]:
    """Data files that the newest version of any table has."""
    root = f"{platform.lake.root}/"
    tables = platform.lake.table_names()
    return {file.removeprefix(root) for name in tables for file in platform.lake.table(name).files()}


def data_files(platform: Platform) -> set[str]:
    return {file for file in platform.lake.files() if file.endswith(".parquet") and "_delta_log" not in file}


def test_vacuum_keeps_what_any_registered_version_names_and_removes_the_rest(platform: Platform) -> None:
    """Two versions of a model with labels of their own, a set without a model, and labels that came after both."""
    correct_labels(platform, frauds=2)
    platform.make(SET, LAST_DAY)
    platform.make(MODEL, LAST_DAY)
    for frauds in (-1, 1):
        correct_labels(platform, frauds=frauds)
        platform.make(SET, LAST_DAY)
    first, second = registry.versions(platform.settings, "fraud")
    champion = registry.champion(platform.settings, "fraud")
    assert champion == first, "the other version has no alias"
    named = [files_named_by(platform, version) for version in (first, second)]
    only_named = [files - files_in_use(platform) for files in named]
    assert only_named[0] - named[1] != set() != only_named[1] - named[0]
    contents = {asset: platform.hashes(asset) for asset in (SET, LABELS)}
    before = data_files(platform)

    planned = done("vacuum", "--older-than", "0s", "--dry-run")
    assert data_files(platform) == before
    removed = done("vacuum", "--older-than", "0s")
    left = data_files(platform)
    assert left == named[0] | named[1] | files_in_use(platform)
    assert removed == {**planned, "dry_run": False}
    assert (removed["model_versions"], removed["older_than"]) == (2, "0s")
    assert removed["files"] == len(before - left) > 0
    assert removed["kept_files"] == len(only_named[0] | only_named[1])
    by_table = {entry["table"]: entry for entry in removed["tables"]}
    assert by_table[LABELS]["kept_files"] == 2 and by_table[LABELS]["files"] == 1
    assert sum(entry["bytes"] for entry in removed["tables"]) == removed["bytes"] > 0

    assert {asset: platform.hashes(asset) for asset in contents} == contents
    for model in ("fraud@1", "fraud@2"):
        require_rebuilt(model)


def test_merged_files_change_no_content_and_go_with_a_vacuum_unless_a_model_names_them(
    platform: Platform,
) -> None:
    for frauds in (1, 2):
        correct_labels(platform, frauds=frauds)
    contents = {asset: platform.hashes(asset) for asset in (SET, LABELS)}
    ledger = platform.lake.table("ledgers/publications")
    before = len(ledger.files())
    merged = {entry["table"]: entry for entry in done("compact")["compacted"]}
    assert list(merged) == platform.lake.table_names()
    entry = merged["ledgers/publications"]
    assert (entry["files_before"], entry["files_after"]) == (before, 1) and before > 2
    assert len(ledger.files()) == 1
    assert done("vacuum", "--older-than", "0s")["files"] >= before
    assert {asset: platform.hashes(asset) for asset in contents} == contents
    require_rebuilt("fraud@champion")
    platform.make(SET, LAST_DAY)


def test_files_that_were_replaced_lately_stay_unless_one_says_otherwise(shared: Platform) -> None:
    before = data_files(shared)
    found = done("vacuum")
    assert (found["older_than"], found["files"]) == ("7d", 0) and data_files(shared) == before
    said = lake("vacuum", "--dry-run")
    assert said.exit_code == 0
    assert "0 files, 0 bytes, would be freed: replaced more than 7d ago and needed by nobody" in said.output


def test_named_tables_are_merged_and_no_others(shared: Platform) -> None:
    found = done("compact", "ledgers/publications", LABELS)
    assert [entry["table"] for entry in found["compacted"]] == ["ledgers/publications", LABELS]
    assert "0 of 1 tables had files to merge" in lake("compact", LABELS).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("compact", "features/none"), "tables of this lake are required: "),
        (("vacuum", "--older-than", "soon"), "--older-than "),
    ],
)
def test_what_cannot_be_asked_for_is_told(shared: Platform, arguments: tuple[str, ...], said: str) -> None:
    result = lake(*arguments)
    assert result.exit_code == 1 and said in result.output and "Traceback" not in result.output


def test_nothing_is_removed_when_one_manifest_cannot_be_read(platform: Platform) -> None:
    correct_labels(platform, frauds=1)
    (manifest,) = Path(platform.settings.artifact_root).rglob("manifest.json")
    manifest.unlink()
    before = data_files(platform)
    result = lake("vacuum", "--older-than", "0s")
    assert result.exit_code == 1 and data_files(platform) == before
    assert "model fraud version 1: its manifest.json is required and cannot be read" in result.output
    assert "Nothing was removed" in result.output


def test_nothing_is_removed_when_the_registry_is_another_one(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    correct_labels(platform, frauds=1)
    before = data_files(platform)
    monkeypatch.setenv("ML_PLATFORM_MLFLOW_TRACKING_URI", f"sqlite:///{platform.settings.root}/other.db")
    result = lake("vacuum", "--older-than", "0s")
    assert result.exit_code == 1 and data_files(platform) == before
    assert "this one does not know fraud version 1. Nothing was removed" in result.output


def test_a_home_without_tables_has_nothing_to_merge_or_to_remove(home: Settings) -> None:
    assert done("compact") == {"compacted": []}
    found = done("vacuum", "--older-than", "0s")
    assert (found["files"], found["model_versions"], found["tables"]) == (0, 0, [])
