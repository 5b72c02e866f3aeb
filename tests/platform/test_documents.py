"""The pages below docs/ are followed: their commands are run in order, and what a page shows is what is printed."""

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from ml_platform.cli.main import app
from ml_platform.cli.story import scaled
from ml_platform.kernel.settings import PROJECT_ROOT, Settings
from tests.built import NEXT_DAY, day_of_transactions
from tests.documents import DOCS, blocks, checkout, follow, shell_blocks

pytestmark = pytest.mark.timeout(900)  # commands are processes, and load what they need each time

HOW_TO = sorted((DOCS / "how_to").glob("*.md"))
PAGES = sorted(DOCS.rglob("*.md"))

# Blocks that are not run as they stand, by page: why, and the tests that stand for them.
NOT_RUN = {
    "deploy.md": (3, "needs a cluster; tests/k8s/test_deploy_document.py makes the Secrets"),
    "operations.md": (
        9,
        "needs servers or a cluster; tests/lifecycle/test_cluster_stores.py runs those for a shell",
    ),
    "projects.md": (
        4,
        "makes an environment, or changes a shell; tests/scaffolding and tests/cli/test_completion.py do the same",
    ),
    "runbooks.md": (
        20,
        "needs a cluster and an alert; tests/observability/test_rules.py parses every command",
    ),
    "serving.md": (2, "serves until it is stopped; tests/platform/test_readme.py asks it the same"),
    "tutorial.md": (1, "the test has this checkout and its .venv already"),
}


@pytest.fixture
def folder(tmp_path: Path, built_home: Settings) -> Path:
    """A checkout with the small built home in its place, and files that have come since."""
    found = checkout(tmp_path / "ml-platform")
    (found / ".ml_platform").symlink_to(built_home.root)
    deliver(found / "deliveries")
    return found


def deliver(deliveries: Path) -> None:
    """The next day, with amounts half as much again, and a correction of some rows of the last day."""
    deliveries.mkdir()
    day = scaled(day_of_transactions(NEXT_DAY), "tx_amount", by=1.5)
    pq.write_table(day, deliveries / f"{NEXT_DAY}.parquet")
    last: pa.Table = day_of_transactions("2018-06-26").slice(0, 5)
    pq.write_table(scaled(last, "tx_amount", by=0.5), deliveries / "corrections.parquet")


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_a_guide_is_followed_literally(page: Path, folder: Path) -> None:
    follow(page, folder)


def test_what_is_not_run_is_listed_here_and_nothing_else_is_left_out() -> None:
    followed = {DOCS / "tutorial.md", *HOW_TO}
    left_out = {
        str(page.relative_to(DOCS)): len(
            [block for block in shell_blocks(page) if page not in followed or block.not_run is not None]
        )
        for page in PAGES
    }
    assert {page: count for page, count in left_out.items() if count} == {
        page: count for page, (count, _) in NOT_RUN.items()
    }


@pytest.mark.parametrize("page", [*PAGES, PROJECT_ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_command_that_a_page_names_is_there_with_its_options(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`ml-platform ([^`]+)`", text) + re.findall(
        r"^\$ (?:\S*/)?ml-platform ([^|#&\n\\]+)", text, re.MULTILINE
    )
    for words in map(words_of, named):
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands") and words and not words[0].startswith("--"):
            assert words[0] in command.commands, f"{page.name}: {words}"
            command = command.commands[words.pop(0)]
        known = {
            option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        options = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, f"{page.name}: {sorted(options - known)}"


def words_of(command: str) -> list[str]:
    """A command's words; a text that a page breaks in two lines is one."""
    return shlex.split(" ".join(command.split()))


def test_a_page_that_shows_what_is_not_printed_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\n```\n\n```text\ntwo\n```\n")
    with pytest.raises(AssertionError, match="shows 'two'"):
        follow(page, tmp_path)
    page.write_text("```console\n$ false\n```\n")
    with pytest.raises(AssertionError, match="false"):
        follow(page, tmp_path)


def test_what_a_block_exports_is_there_in_the_next_one(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```console\n$ export TOLD='a b'\n```\n\n<!-- exits with 3 -->\n```bash\necho \\\n  \"$TOLD\"\nexit 3\n```\n"
        "\n```text\na b\n```\n\n<!-- not run: needs a cluster -->\n```console\n$ false\n```\n"
    )
    follow(page, tmp_path)
    assert [block.kind for block in blocks(page)] == ["console", "bash", "text", "console"]


def test_nothing_of_this_checkout_is_written_to(tmp_path: Path) -> None:
    found = checkout(tmp_path / "copy")
    assert (found / ".venv").resolve() == Path(sys.prefix).resolve()
    linked = [path for path in found.rglob("*") if path.is_symlink()]
    assert linked == [found / ".venv"]
    shutil.rmtree(found)
