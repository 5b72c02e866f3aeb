"""A change is compared with where it left its base, in a real repository, before it is merged."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ml_platform import declarations
from ml_platform.cli.main import app
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from ml_platform.plan.changes import compare
from ml_platform.plan.description import describe
from ml_platform.plan.destroyed import Champion
from ml_platform.plan.here import champions_here, published_here
from ml_platform.plan.tree import described_by_itself, files_at, fork_point
from tests.built import Platform
from tests.support import LAST_DAY

SPENDING = "ml_platform/defs/fraud/features/customer_spending/defs.yaml"
RISK = "ml_platform/defs/fraud/features/terminal_risk/defs.yaml"
WINDOW = "    - {column: amount, function: sum, windows: [14d], named: customer_spent}\n"


class Repository:
    """A git repository with a copy of the platform, in which tests commit changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(PROJECT_ROOT / "ml_platform", folder / "ml_platform", ignore=ignored)
        shutil.copy(PROJECT_ROOT / "pyproject.toml", folder)
        self.git("init", "--quiet", "--initial-branch=main")
        self.commit()

    def git(self, *arguments: str) -> str:
        who = (
            "-c",
            "user.name=A Person",
            "-c",
            "user.email=person@example.org",
            "-c",
            "commit.gpgsign=false",
        )
        command = ["git", *who, *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=change")
        return self.git("rev-parse", "HEAD")

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert old in text, f"{name} has no {old!r}"
        path.write_text(text.replace(old, new, 1))

    def branch(self, name: str, start: str = "main") -> None:
        self.git("checkout", "--quiet", "--force", "-B", name, start)
        self.git("clean", "--quiet", "--force", "-d")

    def plan(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the command as the copy has it, with a home of its own in which nothing is published."""
        program = "from ml_platform.cli.main import app; app()"
        return subprocess.run(
            [sys.executable, "-c", program, "plan", *options],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "PYTHONDONTWRITEBYTECODE": "1",
                "ML_PLATFORM_HOME": str(self.folder.parent / "home"),
            },
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    folder = tmp_path_factory.mktemp("plan") / "repository"
    folder.mkdir()
    return Repository(folder)


def told(answer: dict[str, Any], kind: str) -> list[str]:
    return [f"{found['change']} {found['what']}" for found in answer[kind]]


def test_a_change_is_what_its_branch_did_since_it_left_main(repository: Repository, tmp_path: Path) -> None:
    """Declarations, and code, which the base describes itself; what main has got since is not taken away by it."""
    repository.branch("adds")
    repository.edit(SPENDING, "  online: true\n", f"{WINDOW}  online: true\n")
    repository.edit("ml_platform/features/measures.py", '"""', '"""Another word. ')
    repository.commit()
    repository.branch("ahead")
    repository.edit(
        RISK,
        "[1d, 7d, 30d], delay: 7d, named: terminal_transactions",
        "[1d, 7d, 30d, 60d], delay: 7d, named: terminal_transactions",
    )
    repository.commit()
    repository.git("checkout", "--quiet", "adds")
    summary = tmp_path / "out" / "plan.md"

    done = repository.plan("--against", "ahead", "--summary", str(summary), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["against"] == f"ahead at {repository.git('rev-parse', 'main')[:10]}"
    assert told(answer, "declarations") == ["changed FeatureView customer_spending"]
    assert told(answer, "features") == ["added customer_spending.customer_spent_14d"]
    assert told(answer, "code") == ["changed ml_platform.features.measures"]
    reasons = {found["asset"]: found["reason"] for found in answer["stale"]}
    code = "code of ml_platform.features.measures changed"
    views = [view.key for view in declarations.load().all(FeatureViewSpec)]
    assert {"features/terminal_risk", "features/place_demand"} <= set(views), "of every use case"
    assert reasons == {
        **dict.fromkeys(views, code),
        "features/customer_spending": f"declared otherwise: aggregations; {code}",
    }
    assert answer["destroyed"] == []
    assert "## ml-platform plan: nothing online is destroyed" in summary.read_text()
    assert "all days that are declared: nothing is published here" in summary.read_text()
    assert "nothing online is destroyed, compared with ahead" in done.stderr
    assert not (repository.folder.parent / "home").exists(), "nothing is changed anywhere"


def test_what_is_lost_online_is_exit_code_3_also_before_it_is_committed(repository: Repository) -> None:
    repository.branch("removes")
    repository.edit(SPENDING, "function: mean, windows: [1d, 7d, 30d]", "function: mean, windows: [1d, 30d]")
    done = repository.plan("--against", "main")
    assert done.returncode == 3, done.stdout + done.stderr
    words = " ".join(done.stdout.replace("│", " ").split())
    assert "FeatureView customer_spending loses customer_mean_amount_7d" in words
    assert "destructive, compared with main at" in words


def test_a_base_from_before_it_could_describe_itself_is_read_by_the_code_of_now(
    repository: Repository,
) -> None:
    repository.branch("old")
    repository.git("rm", "--quiet", "-r", "ml_platform/plan")
    repository.commit()
    repository.branch("newer", "old")
    repository.git("checkout", "main", "--", "ml_platform/plan")
    repository.edit(SPENDING, "  online: true\n", f"{WINDOW}  online: true\n")
    repository.edit("ml_platform/features/measures.py", '"""', '"""Another word. ')
    repository.commit()
    done = repository.plan("--against", "old", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert told(answer, "features") == ["added customer_spending.customer_spent_14d"]
    assert answer["code"] == []
    assert "cannot describe itself (it has no ml_platform.plan.description)" in done.stderr
    assert "changes of code versions are not told" in done.stderr


def test_declarations_that_do_not_load_are_exit_code_2_with_the_error_in_the_summary(
    repository: Repository, tmp_path: Path
) -> None:
    repository.branch("broken")
    repository.edit(SPENDING, "ttl: 3d", "ttl: soon")
    summary = tmp_path / "plan.md"
    done = repository.plan("--against", "main", "--summary", str(summary))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "attributes.ttl: Value error, must be a whole number" in done.stdout
    assert summary.read_text().startswith("## ml-platform plan: could not run\n\n```text\n")
    assert "attributes.ttl" in summary.read_text()
    unwritable = repository.plan("--against", "main", "--summary", str(tmp_path))
    assert unwritable.returncode == 2 and "Traceback" not in unwritable.stderr
    assert f"{tmp_path}: a file that can be written is required" in unwritable.stdout


def test_a_base_whose_code_answers_in_another_form_is_not_believed(repository: Repository) -> None:
    repository.branch("strange")
    description = repository.folder / "ml_platform" / "plan" / "description.py"
    description.write_text("print('{\"format\": 2}')\n")
    commit = repository.commit()
    with files_at(commit, repository.folder) as folder:
        assert described_by_itself(folder) == (None, "it answered in another form")
        assert (folder / "pyproject.toml").exists()
    assert not folder.exists()
    repository.git("checkout", "--quiet", "--force", "main")


def test_a_base_that_git_does_not_have_or_that_has_no_common_past_is_told(repository: Repository) -> None:
    repository.branch("main")
    with pytest.raises(InputError, match=r"has no commit 'origin/nowhere'.*git fetch origin"):
        fork_point("origin/nowhere", repository.folder)
    orphan = repository.git("commit-tree", "HEAD^{tree}", "-m", "another beginning")
    with pytest.raises(InputError, match=r"they have none in common here.*--unshallow"):
        fork_point(orphan, repository.folder)
    with pytest.raises(InputError, match="a git repository is required"):
        fork_point("main", repository.folder.parent)


def test_the_default_base_is_named_when_it_is_not_there(tmp_path: Path) -> None:
    summary = tmp_path / "plan.md"
    result = CliRunner().invoke(app, ["plan", "--against", "no/such/ref", "--summary", str(summary)])
    assert result.exit_code == 2, result.output
    assert "no/such/ref" in result.output and "no/such/ref" in summary.read_text()


def test_what_is_published_and_who_is_champion_come_from_the_home(shared: Platform, tmp_path: Path) -> None:
    folder = tmp_path / "defs"
    shutil.copytree(declarations.defs_folder(), folder)
    path = folder / "fraud" / "features" / "customer_spending" / "defs.yaml"
    path.write_text(path.read_text().replace("mean, windows: [1d, 7d, 30d]", "mean, windows: [1d, 30d]"))
    before, now = describe(declarations.load()), describe(declarations.load(folder), tmp_path)
    published = published_here(shared.settings, now)
    champions = champions_here(shared.settings, before, now)
    assert champions == {"fraud": Champion(1, before.services["fraud_scoring"])}
    changes = compare(before, now, published, champions)
    assert days(changes.stale) == {"features/customer_spending": ("2018-04-01", LAST_DAY, 87)}
    assert days(changes.follows) == {
        "drift_profiles/fraud": ("2018-05-09", LAST_DAY, 49),
        "training_sets/fraud": (LAST_DAY, LAST_DAY, 1),
    }
    assert changes.destroyed[1] == (
        "FeatureService fraud_scoring loses customer_mean_amount_7d, which the champion of fraud, version 1, reads"
    )
    assert compare(before, before, published_here(shared.settings, before)).nothing


def test_a_home_without_anything_has_no_publications_and_no_champions(home: Settings) -> None:
    before = describe(declarations.load())
    now = before.model_copy(update={"services": {"fraud_scoring": ()}})
    assert published_here(home, before) == {}
    assert champions_here(home, before, now) == {}


def days(affected: Sequence[Any]) -> dict[str, tuple[str, str, int]]:
    """First and last partition of each asset, and how many there are."""
    return {
        found.asset: (found.partitions[0], found.partitions[-1], len(found.partitions)) for found in affected
    }
