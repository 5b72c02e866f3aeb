"""What `demo --reset` may remove, and what a second demo in a home may ask for."""

from pathlib import Path

import pytest

from ml_platform.cli.instance import prepare_home, remove_home
from ml_platform.cli.summary import keep_progress, read_progress, require_same_options
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings


def test_a_folder_that_the_platform_did_not_make_is_not_removed(tmp_path: Path) -> None:
    somebodys = tmp_path / "clones"
    for name in ("dagster", "feast", "mlflow"):
        (somebodys / name).mkdir(parents=True)
    (somebodys / "dagster" / "code.py").write_text("precious")
    with pytest.raises(InputError, match="only a home that this platform made"):
        remove_home(Settings(home=somebodys))
    assert (somebodys / "dagster" / "code.py").read_text() == "precious"


def test_of_a_home_only_what_the_platform_keeps_there_is_removed(home: Settings) -> None:
    prepare_home(home)
    (home.root / "lake").mkdir(exist_ok=True)
    (home.root / "notes.txt").write_text("mine")
    remove_home(home)
    assert [path.name for path in home.root.iterdir()] == ["notes.txt"]


def test_a_demo_with_other_options_than_the_one_it_would_go_on_with_is_refused(home: Settings) -> None:
    require_same_options(home, {"scale": 0.1, "days": 90})
    keep_progress(home, {**read_progress(home), "corrupted": {"audit": "said"}})
    require_same_options(home, {"scale": 0.1, "days": 90})
    with pytest.raises(InputError, match="start over with --reset"):
        require_same_options(home, {"scale": 0.2, "days": 90})
    assert read_progress(home)["corrupted"] == {"audit": "said"}
