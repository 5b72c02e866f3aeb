"""Continuous integration makes every asset once in an instance of its own, and its exit code says what it found."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import dagster as dg
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from ml_platform import declarations
from ml_platform.cli import ci_report
from ml_platform.cli.ci_report import Report
from ml_platform.cli.ci_run import Made, Verdict, run
from ml_platform.cli.ci_sample import Sample, SampleOfSource, given_files, land_sample, load_sample
from ml_platform.cli.ci_slice import jobs
from ml_platform.cli.instance import Runner
from ml_platform.cli.main import app
from ml_platform.cli.output import telling_what_could_not_run
from ml_platform.cli.throw_away import throw_away_home
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.lineage import Lineage
from ml_platform.kernel.partitions import key_of
from ml_platform.kernel.settings import PROJECT_ROOT, Settings, settings
from ml_platform.lake.tables import Lake
from ml_platform.sources.store import landed_days
from tests.built import day_of_transactions
from tests.documents import fenced
from tests.lifecycle.toys import Toys
from tests.support import all_assets

SLICE = ("2018-06-03", "2018-06-05")


def report_of(toys: Toys) -> Report:
    """What ci says of the toy graph as it is now."""
    wanted = jobs(toys.job, toys.catalog.lineage, *SLICE)
    return Report("three days", 300, tuple(run(Runner(toys.instance, toys.job), wanted)))


def short(asset: str | None) -> str:
    """The last part of an asset's key."""
    return str(asset).rpartition("/")[2]


def statuses(report: Report) -> dict[str, str]:
    return {short(made.asset): made.status for made in report.assets}


def cases(report: Report) -> dict[str, str]:
    """Outcome of every JUnit case by asset and name; the counts of the file have to agree with them."""
    root = Xml.fromstring(ci_report.junit(report))
    found: dict[str, str] = {}
    for suite in [root, *root.iter("testsuite")]:
        mine = list(suite.iter("testcase"))
        counted = {
            kind: sum(case.find(kind) is not None for case in mine)
            for kind in ("failure", "error", "skipped")
        }
        told = [suite.get(name) for name in ("tests", "failures", "errors", "skipped")]
        assert told == [str(n) for n in (len(mine), *counted.values())]
    for case in root.iter("testcase"):
        name = f"{short(case.get('classname'))} {case.get('name')}"
        assert name not in found, "a case has a name of its own"
        found[name] = case[0].tag if len(case) else "passed"
    return found


def test_every_asset_is_made_after_what_it_reads_and_passed_partitions_are_one_case(toys: Toys) -> None:
    report = report_of(toys)
    assert (report.exit_code, report.verdict) == (0, "passed")
    order = list(statuses(report))
    assert order[0] == "raw" and order[-1] == "model" and set(statuses(report).values()) == {"passed"}
    assert cases(report) == {
        "raw quality[2018-06-03 … 2018-06-05] × 3": "passed",
        "features materialized": "passed",
        "profiles drift[2018-06-03 … 2018-06-05] × 3": "passed",
        "model materialized": "passed",
    }
    assert "4 of 4 assets passed, with 6 evaluations" in report.in_words


def test_what_reads_a_failed_asset_is_skipped_and_the_failed_partition_is_a_case_of_its_own(
    toys: Toys,
) -> None:
    toys.fail(toys.raw, "2018-06-04", observed="7 of 100 rows break it")
    report = report_of(toys)
    assert (report.exit_code, report.verdict) == (1, "failed")
    assert statuses(report) == {
        "raw": "failed",
        "features": "skipped",
        "profiles": "skipped",
        "model": "skipped",
    }
    assert cases(report) == {
        "raw quality[2018-06-04]": "failure",
        "raw quality[2018-06-03, 2018-06-05] × 2": "passed",
        "features materialized": "skipped",
        "profiles drift": "skipped",
        "model materialized": "skipped",
    }
    (failure,) = Xml.fromstring(ci_report.junit(report)).iter("failure")
    assert failure.get("message") == failure.text == "7 of 100 rows break it (required: at most 1 of 100)"


def test_a_failed_asset_does_not_stop_what_does_not_read_it(toys: Toys) -> None:
    toys.fail(toys.profiles, "2018-06-05")
    assert statuses(report_of(toys)) == {
        "raw": "passed",
        "features": "passed",
        "profiles": "failed",
        "model": "skipped",
    }


def test_an_asset_that_breaks_is_an_error_with_what_it_said(toys: Toys) -> None:
    toys.crash_before_materialization.add((toys.features, "2018-06-04"))
    report = report_of(toys)
    assert (report.exit_code, report.verdict) == (2, "could not run")
    assert statuses(report) == {
        "raw": "passed",
        "features": "error",
        "profiles": "passed",
        "model": "skipped",
    }
    assert cases(report)["features materialized"] == "error"
    (error,) = Xml.fromstring(ci_report.junit(report)).iter("error")
    assert "crashed before 2018-06-04 was done" in str(error.text)


@pytest.mark.parametrize(
    ("statuses", "code"),
    [(["passed"], 0), (["passed", "failed"], 1), (["error", "skipped"], 2), (["error", "failed"], 1)],
)
def test_a_failed_check_counts_for_more_than_what_could_not_run(statuses: list[Any], code: int) -> None:
    assert Report(assets=tuple(Made(f"a/{s}", s, (), ()) for s in statuses)).exit_code == code
    assert Report(could_not_run="no rows").exit_code == 2


def test_the_summary_has_a_verdict_a_row_for_each_check_and_the_words_of_each_failure(toys: Toys) -> None:
    toys.fail(toys.profiles, "2018-06-05", observed="amount | ks 0.3")
    text = ci_report.markdown(report_of(toys))
    lines = text.splitlines()
    assert lines[0] == "## ml-platform ci: failed"
    assert f"| {toys.raw} | quality | 3 | 0 | passed 2018-06-03 … 2018-06-05 |" in lines
    assert f"| {toys.profiles} | drift | 2 | 1 | failed 2018-06-05 |" in lines
    assert (
        f"| {toys.model} |  |  |  | skipped: reads {toys.profiles}, which could not be made whole |" in lines
    )
    assert "  2018-06-05: drift: amount | ks 0.3 (required: at most 1 of 100)" in lines
    assert "ml-platform ci --keep-failed" in lines[-1]


def test_a_summary_with_a_long_refusal_fits_into_a_comment_and_the_xml_has_all_of_it() -> None:
    made = Made("a/b", "error", (), (), text="long " * 10_000)
    report = Report(assets=(made,) * 10)
    text = ci_report.markdown(report)
    assert len(text) < 65_536 and "… the JUnit file has all of it" in text
    assert len(ci_report.junit(report)) > 500_000


def test_a_slice_makes_the_days_that_read_nothing_from_before_it(toys: Toys) -> None:
    made = {short(job.asset): job.partitions for job in jobs(toys.job, toys.catalog.lineage, *SLICE)}
    assert made == {
        "raw": ("2018-06-03", "2018-06-04", "2018-06-05"),
        "features": ("2018-06-04", "2018-06-05"),
        "profiles": ("2018-06-03", "2018-06-04", "2018-06-05"),
        "model": ("2018-06-05",),
    }
    whole = jobs(toys.job, toys.catalog.lineage, "2018-06-01", "2018-06-02")
    assert {job.partitions for job in whole if short(job.asset) != "model"} == {
        ("2018-06-01", "2018-06-02")
    }, "before the start there is nothing"


def test_a_slice_without_a_day_of_some_asset_is_refused_before_anything_is_run(toys: Toys) -> None:
    with pytest.raises(
        InputError, match=r"2018-06-03 … 2018-06-04 has none of .*/model\. Nothing was run; begin earlier"
    ):
        jobs(toys.job, toys.catalog.lineage, "2018-06-03", "2018-06-04")


def test_a_warning_fails_nothing_and_a_check_that_does_not_block_fails_without_stopping(
    shared_instance: dg.DagsterInstance,
) -> None:
    @dg.asset
    def rows() -> None: ...

    @dg.asset(deps=[rows])
    def reader() -> None: ...

    @dg.asset_check(asset=rows)
    def is_nice() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, description="not nice")

    @dg.asset_check(asset=rows)
    def is_right() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=wrong is None, description=wrong)

    wrong: str | None = None
    defs = dg.Definitions(assets=[rows, reader], asset_checks=[is_nice, is_right])
    runner = Runner(shared_instance, defs.resolve_implicit_global_asset_job_def())
    wanted = jobs(runner.job, Lineage(), *SLICE)
    passed = Report(assets=tuple(run(runner, wanted)))
    assert (passed.exit_code, cases(passed)) == (
        0,
        {"rows is_nice": "system-out", "rows is_right": "passed", "reader materialized": "passed"},
    )
    wrong = "one is missing"
    failed = Report(assets=tuple(run(runner, wanted)))
    assert (failed.exit_code, statuses(failed)) == (1, {"rows": "failed", "reader": "passed"})
    assert "is_right [all]: one is missing" in ci_report.markdown(failed)


def test_an_interrupt_ends_everything_and_not_one_asset(shared_instance: dg.DagsterInstance) -> None:
    made: list[str] = []

    @dg.asset
    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)

    @dg.asset
    def later() -> None:
        made.append("later")

    job = dg.Definitions(assets=[interrupted, later]).resolve_implicit_global_asset_job_def()
    wanted = sorted(jobs(job, Lineage(), *SLICE), key=lambda job: job.asset)
    told: list[str] = []
    with pytest.raises(typer.Exit) as end, telling_what_could_not_run(Console(), told.append):
        list(run(Runner(shared_instance, job), wanted))
    assert (end.value.exit_code, told, made) == (2, ["interrupted"], [])


@given(st.text(max_size=20), st.sampled_from(["failed", "error", "skipped"]))
def test_whatever_an_asset_says_is_well_formed_xml_and_one_block_of_markdown(text: str, status: Any) -> None:
    verdict = Verdict("quality", None, passed=status != "failed", observed=text)
    report = Report(
        assets=(Made("a/b", status, ("quality",), (), (verdict,), text=text),), could_not_run=text
    )
    root = Xml.fromstring(ci_report.junit(report))
    assert root.get("tests") == str(len(list(root.iter("testcase"))))
    table = [line for line in ci_report.markdown(report).splitlines() if line.startswith("| a/b")]
    assert len(table) == 1 and table[0].replace("\\|", "").count("|") == 6


@pytest.fixture
def spoilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Write another text to a file of the project's declarations, in a copy that this process now takes for them."""

    def spoil(name: str, text: str) -> Path:
        folder = tmp_path / "defs"
        shutil.copytree(declarations.defs_folder(), folder)
        (folder / name).write_text(text)
        monkeypatch.setattr(declarations, "defs_folder", lambda: folder)
        return folder

    return spoil


def invoke(folder: Path, *options: str) -> tuple[int, str, dict[str, Any], str]:
    """Run the command; its exit code, what it printed, what it said as JSON, and its summary."""
    junit, summary = folder / "out" / "junit.xml", folder / "out" / "summary.md"
    result = CliRunner().invoke(
        app, ["ci", "--junit", str(junit), "--summary", str(summary), "--json", *options]
    )
    Xml.parse(junit)
    return result.exit_code, result.stderr, json.loads(result.stdout.splitlines()[-1]), summary.read_text()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "fraud/models/fraud/defs.yaml",
            "type: ml_platform.models.component.Model\n",
            "is not a valid ModelSpec",
        ),
        ("fraud/models/fraud/defs.yaml", "type: [", "defs.yaml:1: YAML is required"),
        ("ci.yaml", "first: 2018-04-01\n", "is not a valid Sample:\n  last: Field required (line 1)"),
    ],
)
def test_declarations_that_do_not_load_are_exit_code_2_and_the_error_is_in_the_summary(
    spoilt: Callable[[str, str], Path], tmp_path: Path, name: str, text: str, said: str
) -> None:
    spoilt(name, text)
    code, printed, answer, summary = invoke(tmp_path)
    assert (code, answer["verdict"]) == (2, "could not run")
    assert summary.startswith("## ml-platform ci: could not run\n")
    assert said in printed and said in answer["could_not_run"] and said in summary


def test_a_sample_without_rows_is_exit_code_2_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, answer, summary = invoke(tmp_path, "--data", "transactions=nowhere/*.parquet", "--keep-failed")
    assert (code, answer["kept"]) == (2, "")
    assert "nowhere/*.parquet: a Parquet or CSV file" in summary
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_declared_sample_has_a_day_of_every_asset_and_one_of_each_model() -> None:
    sample, lineage = load_sample(declarations.defs_folder()), declarations.load().lineage
    found = jobs(all_assets(), lineage, key_of(sample.first), key_of(sample.last))
    assert {job.asset for job in found} == set(lineage.nodes)
    large = [job for job in found if job.asset.startswith(("models/", "training_sets/"))]
    assert {job.partitions for job in large} == {(key_of(sample.last),)}


def test_rows_of_the_sample_come_from_the_feed_from_declared_files_or_from_given_ones(
    home: Settings, tmp_path: Path
) -> None:
    rows = day_of_transactions("2018-04-02")
    for name in ("declared.parquet", "given.parquet"):
        pq.write_table(rows, tmp_path / name)
    sample = Sample.model_validate(
        {
            "first": "2018-04-01",
            "last": "2018-04-02",
            "sources": {
                "transactions": {"feed": {"scale": 0.01}},
                "fraud_labels": {"files": ["declared.parquet"]},
            },
        }
    )
    everything, lake = declarations.load(), Lake(home.lake_uri)
    catalog = Catalog(
        {key: spec for key, spec in everything.specs.items() if everything.use_case(spec) == "fraud"}
    )
    landed = land_sample(home, catalog, sample, tmp_path, {})
    assert landed_days(lake, "transactions") == {"2018-04-01", "2018-04-02"}
    assert landed_days(lake, "fraud_labels") == {"2018-04-02"}
    assert rows.num_rows < landed < 2 * rows.num_rows, "the feed was asked for a hundredth"
    other = Settings(home=tmp_path / "other").prepare()
    given = given_files([f"transactions={tmp_path / 'given.parquet'}"])
    assert land_sample(other, catalog, sample, tmp_path, given) == 2 * rows.num_rows


def test_the_documented_slice_can_be_declared() -> None:
    text = (PROJECT_ROOT / "docs" / "continuous_integration.md").read_text()
    (declared,) = fenced(text, "yaml")
    assert set(Sample.model_validate(yaml.safe_load(declared)).sources) == {"transactions", "fraud_labels"}
    with pytest.raises(ValueError, match="either `feed` or `files` is required; got both"):
        SampleOfSource(feed={"scale": 1}, files=("rows.parquet",))


@pytest.mark.parametrize("option", ["transactions", "=rows.parquet", "transactions="])
def test_given_rows_name_their_source(option: str) -> None:
    with pytest.raises(InputError, match="--data requires SOURCE=PATH"):
        given_files([option])


def test_rows_for_a_source_that_is_not_declared_are_refused(home: Settings, tmp_path: Path) -> None:
    sample = load_sample(declarations.defs_folder())
    with pytest.raises(
        DeclarationError, match=r"Source 'transaction' is required .* did you mean transactions"
    ):
        land_sample(home, declarations.load(), sample, tmp_path, {"transaction": ["rows.parquet"]})


def test_a_throw_away_home_forgets_every_other_place_and_is_gone_afterwards(
    home: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = {
        "ML_PLATFORM_LAKE": "s3://production/lake",
        "ML_PLATFORM_MLFLOW_TRACKING_URI": "https://mlflow.example.org",
        "ML_PLATFORM_FEAST_REGISTRY": "postgresql://registry",
        "MLFLOW_REGISTRY_URI": "https://mlflow.example.org",
        "ML_PLATFORM_MEMORY_LIMIT": "1GB",
    }
    for name, value in elsewhere.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    with throw_away_home() as found:
        here, inside = settings(), dict(os.environ)
        assert here == found.settings and here.root != home.root
        places = [
            here.lake_uri,
            here.tracking_uri,
            here.artifact_root,
            here.registry_url,
            inside["DAGSTER_HOME"],
        ]
        assert all(str(here.root) in place for place in places)
        assert not set(elsewhere) & set(inside) - {"ML_PLATFORM_MEMORY_LIMIT"}
        assert here.memory_limit == "1GB"
    assert dict(os.environ) == before and not here.root.exists()
    with throw_away_home() as kept:
        kept.keep = True
    assert kept.settings.root.exists()
    shutil.rmtree(kept.settings.root)


def test_the_whole_slice_is_made_and_checked_and_nothing_is_written_elsewhere(tmp_path: Path) -> None:
    temporary, forbidden = tmp_path / "tmp", tmp_path / "production"
    temporary.mkdir()
    environment = {
        **os.environ,
        "PYTHONPATH": str(PROJECT_ROOT),
        "TMPDIR": str(temporary),
        "ML_PLATFORM_HOME": str(forbidden),
        "ML_PLATFORM_LAKE": str(forbidden / "lake"),
        "ML_PLATFORM_MLFLOW_TRACKING_URI": f"sqlite:///{forbidden}/mlflow.db",
        "MLFLOW_REGISTRY_URI": f"sqlite:///{forbidden}/mlflow.db",
    }
    command = Path(sys.executable).with_name("ml-platform")
    done = subprocess.run(
        [command, "ci", "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    lineage = declarations.load().lineage
    assert {made["asset"]: made["status"] for made in answer["assets"]} == dict.fromkeys(
        lineage.nodes, "passed"
    )
    declared = {(key, check.name) for key, node in lineage.nodes.items() for check in node.checks}
    assert {(made["asset"], v["check"]) for made in answer["assets"] for v in made["verdicts"]} == declared
    root = Xml.parse(tmp_path / ".ml_platform/ci/junit.xml").getroot()
    assert {
        (case.get("classname"), str(case.get("name")).split("[")[0]) for case in root.iter("testcase")
    } == {
        *declared,
        *((key, "materialized") for key, node in lineage.nodes.items() if not node.checks),
    }
    assert (root.get("failures"), root.get("errors"), root.get("skipped")) == ("0", "0", "0")
    assert "## ml-platform ci: passed" in (tmp_path / ".ml_platform/ci/summary.md").read_text()
    assert not forbidden.exists() and list(temporary.glob("ml-platform-*")) == []


def test_a_report_that_cannot_be_written_is_exit_code_2_and_no_failed_check(
    spoilt: Callable[[str, str], Path], tmp_path: Path
) -> None:
    spoilt("fraud/models/fraud/defs.yaml", "type: [")
    done = CliRunner().invoke(
        app, ["ci", "--junit", str(tmp_path), "--summary", str(tmp_path / "summary.md")]
    )
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
    assert f"{tmp_path}: a file that can be written is required" in done.output
    assert "YAML is required" in done.output
