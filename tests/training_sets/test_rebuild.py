"""The set that a model was trained on can be built again, whatever has been published, declared or written since."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from ml_platform.cli.main import app
from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import PROJECT_ROOT
from ml_platform.lake.content_hash import content_hash
from ml_platform.model_registry import registry
from ml_platform.training_sets import store
from ml_platform.training_sets.spec import TrainingSetSpec
from tests.built import CUSTOMERS, NEXT_DAY, Platform, changed_column, day_of_transactions
from tests.support import LAST_DAY

SET, EVENTS, LABELS = "training_sets/fraud", "sources/transactions", "sources/fraud_labels"
MATURED = "2018-06-17"
CUT = f"{NEXT_DAY}T00:00:00"


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["training-sets", *arguments])


def rebuilt(model: str = "fraud@champion") -> dict[str, Any]:
    """What the command says in JSON, where the rows have to be the recorded ones."""
    result = invoke("rebuild", "--model", model, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["identical"] and report["rebuilt"] == report["recorded"]
    return report


def manifest_of(platform: Platform) -> dict[str, Any]:
    champion = registry.champion(platform.settings, "fraud")
    assert champion is not None
    return registry.load_document(platform.settings, champion, "manifest.json")


def partitions_of(platform: Platform, asset: str) -> dict[str, str]:
    """Content of each day of an input of the champion's set."""
    (entry,) = (entry for entry in manifest_of(platform)["inputs"] if entry["asset"] == asset)
    return entry["partitions"]


def files_of(platform: Platform, manifest: dict[str, Any], asset: str) -> list[Path]:
    (entry,) = (entry for entry in manifest["inputs"] if entry["asset"] == asset)
    return [Path(platform.settings.lake_uri) / file for file in entry["files"]]


def test_rebuild_prints_the_content_hash_of_the_set_that_the_champion_was_trained_on(
    shared: Platform,
) -> None:
    published = shared.hashes(SET)[LAST_DAY]
    report = rebuilt()
    rows = shared.rows(SET, LAST_DAY).num_rows
    assert report == {
        "model": "fraud",
        "version": 1,
        "training_set": "fraud",
        "partition": LAST_DAY,
        "rows": rows,
        "recorded": published,
        "rebuilt": published,
        "identical": True,
        "other_code": [],
    }
    said = invoke("rebuild", "--model", "fraud@1")
    assert said.exit_code == 0
    assert f"fraud version 1: training_sets/fraud [{LAST_DAY}], {rows:,} rows" in said.output
    assert f"rebuilt  {published}  identical" in said.output


def test_the_rebuilt_rows_can_be_had_as_a_file(shared: Platform, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    assert invoke("rebuild", "--model", "fraud@champion", "--output", str(path)).exit_code == 0
    rows = pq.read_table(path)
    assert content_hash(rows) == shared.hashes(SET)[LAST_DAY]
    assert rows.sort_by("transaction_id").equals(
        shared.rows(SET, LAST_DAY).select(rows.column_names).cast(rows.schema).sort_by("transaction_id")
    )


def test_the_manifest_that_is_printed_is_the_one_that_was_registered(shared: Platform) -> None:
    result = invoke("manifest", "--model", "fraud@champion")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == manifest_of(shared)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("fraud", "such as NAME@champion or NAME@3; got 'fraud'; registered are: fraud"),
        ("fruad@champion", "got 'fruad@champion'; registered are: fraud"),
        ("fraud@best", "a version of fraud is required (aliases: champion; versions: 1); got 'best'"),
        ("fraud@7", "versions: 1); got '7'"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_those_that_are(
    shared: Platform, model: str, said: str
) -> None:
    result = invoke("rebuild", "--model", model)
    assert (result.exit_code, said in result.output) == (1, True), result.output


def test_later_deliveries_and_corrections_change_the_set_of_today_and_not_the_one_of_then(
    platform: Platform,
) -> None:
    before = rebuilt()["recorded"]
    platform.deliver("transactions", day_of_transactions(NEXT_DAY))
    platform.make(EVENTS, NEXT_DAY)
    corrected = day_of_transactions(MATURED)
    dearer = changed_column(corrected, "tx_amount", pc.multiply(corrected.column("tx_amount"), 2).to_pylist())
    platform.deliver("transactions", dearer, known_at="2018-06-20T00:00:00")
    platform.relabel(MATURED, frauds=3, known_at=CUT)
    platform.make(EVENTS, MATURED)
    platform.make(CUSTOMERS, MATURED, "2018-06-18")
    platform.make(SET, LAST_DAY)
    assert platform.hashes(SET)[LAST_DAY] != before
    assert rebuilt()["recorded"] == before


def test_a_set_whose_process_died_between_its_manifest_and_its_rows_is_still_the_one_before(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = platform.catalog.get(TrainingSetSpec, "fraud", wanted_by="a test")
    before = store.read_manifest(platform.settings, spec, LAST_DAY)
    platform.relabel(MATURED, frauds=3, known_at=CUT)
    with monkeypatch.context() as dying:
        dying.setattr(store, "publish_partitions", lambda *_: 1 / 0)
        assert "division by zero" in platform.refused(SET, LAST_DAY)
    assert store.read_manifest(platform.settings, spec, LAST_DAY) == before
    arrays = store.read_arrays(platform.settings, spec, before)
    assert len(arrays["test"].labels) == before["rows"]["test"]["rows"]
    platform.make(SET, LAST_DAY)
    after = store.read_manifest(platform.settings, spec, LAST_DAY)
    assert after["content_hash"] == platform.hashes(SET)[LAST_DAY] != before["content_hash"]


def changed_project(folder: Path) -> Path:
    """A copy of the project in which a view, a bound of a source and an on-demand function are others now."""
    shutil.copytree(
        PROJECT_ROOT / "ml_platform", folder / "ml_platform", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copy(PROJECT_ROOT / "pyproject.toml", folder)
    defs = folder / "ml_platform" / "defs" / "fraud"
    view, source = (
        yaml.safe_load((path := defs / name / "defs.yaml").read_text()) | {"path": path}
        for name in (CUSTOMERS, EVENTS)
    )
    for aggregation in view["attributes"]["aggregations"]:
        aggregation |= {"windows": ["2d", "14d"], "named": f"renamed_{aggregation['function']}"}
    view["attributes"]["expectations"] = []
    source["attributes"]["columns"]["amount"] |= {"maximum": 50}
    for declared in (view, source):
        declared.pop("path").write_text(yaml.safe_dump(declared, sort_keys=False))
    function = defs / "features" / "transaction_context" / "on_demand.py"
    text = function.read_text().replace('"customer_mean_amount_30d"', '"renamed_mean_14d"')
    function.write_text(text.replace("7 * 3_600", "9 * 3_600"))
    assert text.count('"renamed_mean_14d"') == 1 and function.read_text() != text
    return folder


MATERIALIZES_AND_REBUILDS = """
import sys
from ml_platform.cli.instance import Runner
from ml_platform.cli.main import app
from ml_platform.defs.fraud.features.transaction_context.on_demand import transaction_context
from ml_platform.kernel.settings import PROJECT_ROOT, settings

folder, view, first, last = sys.argv[1:]
assert str(PROJECT_ROOT) == folder, PROJECT_ROOT
assert "9 * 3_600" in __import__("inspect").getsource(transaction_context)
report = Runner.of(settings()).run([view], first, last)
assert report.success, report.error
app(["training-sets", "rebuild", "--model", "fraud@champion", "--json"])
"""


def test_a_changed_view_source_and_function_do_not_change_what_is_rebuilt(
    platform: Platform, tmp_path: Path
) -> None:
    """In a process that has only the changed project, after it has published its view for all days of the set."""
    folder = changed_project(tmp_path / "changed")
    before = partitions_of(platform, CUSTOMERS)
    found = subprocess.run(
        [sys.executable, "-c", MATERIALIZES_AND_REBUILDS, str(folder), CUSTOMERS, min(before), max(before)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert all(platform.hashes(CUSTOMERS)[day] != content for day, content in before.items())
    report = json.loads(found.stdout.splitlines()[-1])
    assert report["identical"] and report["rebuilt"] == platform.hashes(SET)[LAST_DAY]
    assert rebuilt()["rebuilt"] == report["rebuilt"]


def test_a_data_file_that_is_gone_is_named_and_one_with_other_bytes_too(platform: Platform) -> None:
    first, second = files_of(platform, manifest_of(platform), CUSTOMERS)[:2]
    kept = first.read_bytes()
    first.write_bytes(kept[:-1] + b"x")
    changed = invoke("rebuild", "--model", "fraud@champion")
    assert (
        changed.exit_code == 1
        and f"{first}: the bytes that the manifest names are required" in changed.output
    )
    first.write_bytes(kept)
    second.unlink()
    gone = invoke("rebuild", "--model", "fraud@champion", "--json")
    assert gone.exit_code == 1 and gone.stdout == ""
    assert f"{second}: this data file is required by the manifest and is not there" in gone.stderr
    assert "Traceback" not in gone.output and "restore it from a backup" in gone.output


def test_rows_that_are_not_the_recorded_ones_are_exit_code_1(
    shared: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = {**manifest_of(shared), "content_hash": "0" * 32, "code": {"duckdb": "0.1"}}
    monkeypatch.setattr(registry, "load_document", lambda *_: recorded)
    result = invoke("rebuild", "--model", "fraud@champion", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert not report["identical"] and report["rebuilt"] == shared.hashes(SET)[LAST_DAY]
    assert "NOT identical" in result.stderr and "made by other code than now: " in result.stderr
    assert {"duckdb", "ml_platform"} <= set(report["other_code"])


def test_a_manifest_that_was_changed_after_it_was_written_is_refused(shared: Platform) -> None:
    manifest = manifest_of(shared)
    declared = copy.deepcopy(manifest)
    declared["specs"]["TrainingSet/fraud"]["train"] = "14d"
    with pytest.raises(StoreError, match=r"\['TrainingSet/fraud'\] have others: the manifest was changed"):
        store.rebuild(shared.settings, declared)
    (path,) = manifest["functions"]
    function = copy.deepcopy(manifest)
    function["declarations"][path] = "0" * 64
    with pytest.raises(StoreError, match=r"its text has another one.*Nothing was run"):
        store.rebuild(shared.settings, function)


def test_declarations_of_another_platform_are_refused_with_what_cannot_be_read(shared: Platform) -> None:
    manifest = manifest_of(shared)
    without = {name: value for name, value in manifest.items() if name != "specs"}
    with pytest.raises(StoreError, match="a manifest with declarations is required"):
        store.rebuild(shared.settings, without)
    future = copy.deepcopy(manifest)
    future["specs"]["TrainingSet/fraud"]["invented"] = True
    future["declarations"]["TrainingSet/fraud"] = digest_of(future["specs"]["TrainingSet/fraud"])
    with pytest.raises(StoreError, match=r"cannot read the declaration as it was recorded.*\n.*invented"):
        store.rebuild(shared.settings, future)


def test_the_manifest_has_the_digest_of_every_file_and_the_text_of_every_function(shared: Platform) -> None:
    manifest = manifest_of(shared)
    for entry in manifest["inputs"]:
        assert sorted(entry["sha256"]) == sorted(entry["files"]) != []
        for file, digest in entry["sha256"].items():
            data = (Path(shared.settings.lake_uri) / file).read_bytes()
            assert hashlib.sha256(data).hexdigest() == digest
    for path, text in manifest["functions"].items():
        assert hashlib.sha256(text.encode()).hexdigest() == manifest["declarations"][path]
        assert text.startswith(f"def {path.rpartition('.')[2]}(")
