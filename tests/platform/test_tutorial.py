"""The first hour is followed literally, from an empty folder; adding a feature is a few lines and one command."""

import pytest

from tests.documents import DOCS, Block, blocks, checkout, follow

pytestmark = pytest.mark.timeout(900)  # a small demo, on a machine that is busy with other tests

TUTORIAL = DOCS / "tutorial.md"
ONE_COMMAND = "ml-platform features publish customer_spending\n"


@pytest.fixture(scope="module")
def took(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Seconds that each block of the tutorial took.

    The checkout is a copy of this one, and what is installed is what runs this test; the demo is really run.
    """
    return follow(TUTORIAL, checkout(tmp_path_factory.mktemp("empty") / "ml-platform"))


def test_the_tutorial_is_followed_literally_and_its_wall_time_is_printed(
    took: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\nthe tutorial took {sum(took.values()):.0f} s:")
        for script, seconds in took.items():
            print(f"  {seconds:5.1f} s  {script.splitlines()[0][:90]}")
    assert len(took) == len([block for block in blocks(TUTORIAL) if is_done(block)])


def test_a_feature_is_online_after_few_lines_and_one_command(took: dict[str, float]) -> None:
    edits = [block.text for block in blocks(TUTORIAL) if block.kind == "diff"]
    changed = [
        line
        for edit in edits
        for line in edit.splitlines()
        if line[0] in "+-" and line[:3] not in ("+++", "---")
    ]
    assert len(changed) <= 10
    (online,) = [
        seconds for script, seconds in took.items() if script.startswith(ONE_COMMAND) and "online" in script
    ]
    assert online < 120


def is_done(block: Block) -> bool:
    """Whether a block is something that the reader does."""
    return bool(block.script) and block.not_run is None
