"""What the README shows is run, in its order, as a newcomer would run it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml

from ml_platform import declarations
from ml_platform.cli.instance import open_instance
from ml_platform.defs.fraud.sources.transactions.simulator import simulate
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.gates.outcomes import Evaluation
from ml_platform.gates.recording import evaluation_event, materialization_targets
from ml_platform.kernel.partitions import day
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from ml_platform.models.spec import ModelSpec
from tests.documents import DOCS, blocks, checkout, fenced, masked, run

pytestmark = pytest.mark.timeout(900)  # the demo at its full size, on a machine that is busy with other tests

README = (PROJECT_ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^\$ (.+)$", README, re.MULTILINE)
ASK = """curl -s localhost:8471/v1/models/fraud:predict -H "X-API-Key: $KEY" -H "content-type: application/json" \
-d '{"instance": {"customer_id": 296, "terminal_id": 758, "amount": 60.97, "transaction_time": 1538528400}}'"""


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that looks like the checkout, with files of its own and a home of its own."""
    assert run("make .venv", PROJECT_ROOT).returncode == 0  # so that the newcomer's make finds it finished
    folder = tmp_path_factory.mktemp("newcomer")
    for path in PROJECT_ROOT.iterdir():
        if path.name not in (".ml_platform", ".git", ".pytest_cache"):
            (folder / path.name).symlink_to(path)
    small = simulate(first_day=day("2018-04-01"), last_day=day("2018-06-30"), scale=0.1)
    pq.write_table(small, folder / "transactions.parquet")
    yield folder
    shutil.rmtree(folder / ".ml_platform", ignore_errors=True)


@pytest.fixture(scope="module")
def demo(newcomer: Path) -> str:
    """What `make demo` printed, in a terminal of the README's width."""
    done = run("make demo", newcomer)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shown(part: str) -> str:
    """One block of demo output as the README shows it."""
    found = re.search(rf"<!-- demo: {part} -->\n```text\n(.*?)```", README, re.DOTALL)
    assert found, part
    return found[1]


def test_every_command_that_the_readme_shows_is_run_by_a_test_here() -> None:
    source = Path(__file__).read_text()
    assert len(COMMANDS) >= 8
    unshown = [c for c in COMMANDS if c not in source and c.replace('"', '\\"') not in source]
    assert unshown == []


def test_make_test_runs_the_tests() -> None:
    planned = run("make -n test", PROJECT_ROOT).stdout  # `make test` itself is what runs this
    assert "make test" in COMMANDS
    assert "pytest" in planned


@pytest.mark.parametrize("part", ["corrupted", "drifted", "summary"])
def test_make_demo_prints_what_the_readme_shows(demo: str, part: str) -> None:
    assert "make demo" in COMMANDS
    assert masked(shown(part)) in masked(demo)


def test_make_dev_shows_in_the_ui_what_the_demo_did(demo: str, newcomer: Path) -> None:
    assert "make dev" in COMMANDS
    environment = {**os.environ, "ML_PLATFORM_HOME": str(newcomer / ".ml_platform")}
    port = 3990
    ui = subprocess.Popen(
        ["make", "dev", f"ARGS=--port {port}"],
        cwd=newcomer,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        question = "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { partition } } }"
        assets = ask_until_answered(f"http://localhost:{port}/graphql", question)
    finally:
        stop(ui)
    newest = {"/".join(a["assetKey"]["path"]): a["assetMaterializations"] for a in assets["assetNodes"]}
    assert newest["models/fraud"] == [{"partition": "2018-10-02"}]
    assert newest["releases/fraud"] == [{"partition": None}]


def stop(ui: subprocess.Popen[bytes]) -> None:
    """Stop the UI as Control-C does, and for good if that takes longer than half a minute."""
    os.killpg(ui.pid, signal.SIGINT)
    try:
        ui.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(ui.pid, signal.SIGKILL)
        ui.wait(30)


def ask_until_answered(url: str, question: str) -> dict[str, list[dict[str, object]]]:
    """Ask the UI's GraphQL until it answers with data; AssertionError after a minute and a half."""
    body = json.dumps({"query": question}).encode()
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(url, body, {"content-type": "application/json"})
            with urllib.request.urlopen(request, timeout=10) as answer:
                data = json.loads(answer.read())["data"]
        except OSError:
            time.sleep(0.5)  # the server is not up yet; the deadline decides
            continue
        if data["assetNodes"]:
            return data
    raise AssertionError(f"{url} did not answer in time")


def test_the_small_demo_and_the_demo_on_a_file_work(newcomer: Path) -> None:
    small = run(".venv/bin/ml-platform demo --scale 0.1 --days 90", newcomer, home="small")
    assert small.returncode == 0, small.stdout + small.stderr
    again = run(".venv/bin/ml-platform demo --scale 0.1 --days 90", newcomer, home="small")
    assert "A finished demo is in" in again.stdout
    of_file = run(".venv/bin/ml-platform demo --source transactions.parquet --json", newcomer, home="file")
    assert of_file.returncode == 0, of_file.stdout + of_file.stderr
    summary = json.loads(of_file.stdout.splitlines()[-1])
    assert summary["partitions"] == 91
    assert summary["corrupted"]["champion_unchanged"]
    assert summary["drifted"]["champion_unchanged"]
    assert {"total_s", "stages", "peak_mb", "rows"} <= set(summary)


def test_the_daily_commands_work_on_the_demos_home(demo: str, newcomer: Path) -> None:
    deliveries = newcomer / "deliveries"
    deliveries.mkdir()
    landed = newcomer / ".ml_platform" / "deliveries" / "2018-10-01-good.parquet"
    shutil.copy(landed, deliveries / "2018-10-01.parquet")
    ingest = run(".venv/bin/ml-platform ingest transactions deliveries/2018-10-01.parquet", newcomer)
    assert (ingest.returncode, "nothing changed" in ingest.stdout) == (0, True), ingest.stdout + ingest.stderr
    status = run(".venv/bin/ml-platform gate status models/fraud --partition 2018-10-01", newcomer)
    assert (status.returncode, "the gate is open" in status.stdout) == (0, True), (
        status.stdout + status.stderr
    )
    fail_again(Settings(home=newcomer / ".ml_platform"), "drift_profiles/fraud", "2018-10-02")
    closed = run(".venv/bin/ml-platform gate status models/fraud --partition 2018-10-02", newcomer)
    assert closed.returncode == 1
    accepted = run(
        '.venv/bin/ml-platform drift accept drift_profiles/fraud 2018-10-02 --reason "prices went up"',
        newcomer,
    )
    assert accepted.returncode == 0, accepted.stdout + accepted.stderr
    opened = run(".venv/bin/ml-platform gate status models/fraud --partition 2018-10-02", newcomer)
    assert opened.returncode == 0
    report = run(".venv/bin/ml-platform drift report fraud 2018-10-02", newcomer)
    assert report.returncode == 0, report.stdout + report.stderr
    assert "Let through</strong>\naccepted by " in Path(report.stdout.strip()).read_text()
    card = run(".venv/bin/ml-platform models card fraud@champion", newcomer)
    assert (card.returncode, card.stdout.startswith("# fraud, version ")) == (0, True), card.stderr
    week = run(
        ".venv/bin/ml-platform drift profile fraud --from 2018-09-24 --to 2018-09-30",
        newcomer,
    )
    assert (week.returncode, "2018-09-24 … 2018-09-30" in week.stdout) == (0, True), week.stdout + week.stderr
    stale = run(".venv/bin/ml-platform stale", newcomer)
    assert (stale.returncode, stale.stdout) == (0, "nothing is stale\n"), stale.stdout + stale.stderr
    told = run(".venv/bin/ml-platform notifications list", newcomer)
    assert (told.returncode, told.stdout) == (0, "nothing was told yet\n"), told.stdout + told.stderr


def test_what_was_made_is_read_with_sql_and_from_a_notebook(demo: str, newcomer: Path) -> None:
    query = (
        '.venv/bin/ml-platform sql "SELECT partition_date, count(*) FROM features.terminal_risk GROUP BY 1"'
    )
    asked = run(f"{query} --rows 200", newcomer)
    assert asked.returncode == 0 and "2018-04-03" in asked.stdout, asked.stdout + asked.stderr
    notebook = next(block for block in fenced(README, "python") if "Platform()" in block)
    frame = 'frame = {"customer_id": [1], "event_timestamp": [__import__("datetime").datetime(2018, 9, 1)]}\n'
    (newcomer / "notebook.py").write_text(f"{frame}{notebook}\nprint(len(rows), scores.shape)\n")
    done = run(".venv/bin/python notebook.py", newcomer)
    assert (done.returncode, done.stdout[:4]) == (0, "1 (3"), done.stdout + done.stderr


def test_the_champion_answers_whoever_has_a_key(demo: str, newcomer: Path) -> None:
    made = run(".venv/bin/ml-platform serving-key shop", newcomer)
    key, kept = made.stdout.splitlines()
    serve = ".venv/bin/ml-platform serve --port 8471 --at 2018-10-03T01:00:00"
    home = {"ML_PLATFORM_HOME": str(newcomer / ".ml_platform"), "ML_PLATFORM_SERVING__KEYS": kept}
    service = subprocess.Popen(["bash", "-c", f"exec {serve}"], cwd=newcomer, env={**os.environ, **home})
    try:
        deadline = time.monotonic() + 300
        while run("curl -sf localhost:8471/readyz", newcomer).returncode != 0:
            assert service.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        asked = run(f"KEY={key}; {ASK}", newcomer)
        (prediction,) = json.loads(asked.stdout)["predictions"]
        assert [view["state"] for view in prediction["views"].values()] == ["fresh", "fresh"]
        assert prediction["decision"] in ("alert", "no_alert")
    finally:
        service.terminate()
        assert service.wait(60) == 0


def test_the_champion_before_is_champion_again_in_one_command(demo: str, newcomer: Path) -> None:
    back = run('.venv/bin/ml-platform releases rollback fraud --reason "too many alerts"', newcomer)
    assert back.returncode == 0, back.stdout + back.stderr
    assert "rolled back from version 3 to version 2" in back.stdout
    listed = run(".venv/bin/ml-platform releases list fraud", newcomer)
    assert listed.returncode == 0 and "2 ◀ champion" in masked(listed.stdout), listed.stdout + listed.stderr


def test_what_the_champion_was_trained_on_is_rebuilt_also_after_upkeep(demo: str, newcomer: Path) -> None:
    printed = run(".venv/bin/ml-platform features sql customer_spending", newcomer)
    assert printed.stdout.startswith("WITH event_rows AS ("), printed.stderr
    assert run(".venv/bin/ml-platform lake compact", newcomer).returncode == 0
    assert run(".venv/bin/ml-platform lake vacuum", newcomer).returncode == 0
    rebuilt = run(".venv/bin/ml-platform training-sets rebuild --model fraud@champion", newcomer)
    assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
    assert "identical" in rebuilt.stdout and "NOT identical" not in rebuilt.stdout


def fail_again(here: Settings, asset: str, partition: str) -> None:
    """Report a failed evaluation of a partition, as an evaluation after an acceptance would."""
    key = dg.AssetKey(asset.split("/"))
    with open_instance(here) as instance:
        target = materialization_targets(instance, key, [partition])[partition]
        check = declarations.load().node(asset).check("drift")
        assert check is not None
        failed = Evaluation(
            "drift", passed=False, observed="moved again", bound="as before", declared=check.digest
        )
        instance.report_runless_asset_event(evaluation_event(key, partition, failed, target))


def test_the_feature_that_the_readme_adds_is_a_feature(tmp_path: Path) -> None:
    snippet = next(block for block in fenced(README, "yaml") if "customer_spent" in block)
    defs = tmp_path / "defs"
    shutil.copytree(PROJECT_ROOT / "ml_platform" / "defs", defs, ignore=shutil.ignore_patterns("__pycache__"))
    path = defs / "fraud" / "features" / "customer_spending" / "defs.yaml"
    path.write_text(path.read_text().replace("  online: true\n", f"{snippet}  online: true\n"))
    catalog = declarations.load(defs)
    view = catalog.get(FeatureViewSpec, "customer_spending", wanted_by="README")
    names = [feature.name for feature in view.features(catalog)]
    assert names[-3:] == ["customer_spent_1d", "customer_spent_7d", "customer_spent_30d"]


def test_the_model_that_the_readme_shows_is_a_valid_declaration() -> None:
    snippet = next(block for block in fenced(README, "yaml") if "estimator" in block)
    assert ModelSpec.model_validate(yaml.safe_load(snippet)["attributes"]).key == "models/fraud"


def test_a_feature_is_added_to_the_demos_data_in_one_command_within_two_minutes(
    demo: str, newcomer: Path, tmp_path: Path
) -> None:
    """The last one here: the home has another declaration of the view afterwards."""
    folder = checkout(tmp_path / "edited")
    (folder / ".ml_platform").symlink_to(newcomer / ".ml_platform")
    (edit,) = [block for block in blocks(DOCS / "how_to" / "add_a_feature.md") if block.kind == "diff"]
    assert run(edit.script, folder).returncode == 0
    started = time.monotonic()
    published = run(
        ".venv/bin/ml-platform features publish customer_spending", folder, PYTHONPATH=str(folder)
    )
    assert published.returncode == 0, published.stdout + published.stderr
    assert time.monotonic() - started < 120
    shown = run(
        ".venv/bin/ml-platform features online customer_spending customer_id=296",
        folder,
        PYTHONPATH=str(folder),
    )
    assert "customer_spent_30d: " in shown.stdout, shown.stdout + shown.stderr
