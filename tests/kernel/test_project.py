"""The declarations that count are those of the project that one works in."""

from pathlib import Path

import pytest

from ml_platform import declarations
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.project import OWN, project_of
from ml_platform.kernel.settings import settings
from ml_platform.online.spec import OnlineStoreSpec

PROJECT = """\
[tool.dg.project]
root_module = "shop"
registry_modules = ["ml_platform.*.component"]
"""
STORE = "type: ml_platform.online.component.OnlineStore\nattributes: {name: registry}\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project that declares one thing."""
    declared = tmp_path / "shop" / "defs" / "online" / "registry" / "defs.yaml"
    declared.parent.mkdir(parents=True)
    declared.write_text(STORE)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    monkeypatch.delenv("ML_PLATFORM_HOME")
    return tmp_path


def test_of_a_folder_below_a_project_it_is_that_project(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop / "shop" / "defs" / "online")
    assert [spec.name for spec in declarations.load().all(OnlineStoreSpec)] == ["registry"]
    assert settings().root == shop / ".ml_platform"


def test_of_a_folder_that_is_in_no_project_it_is_the_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert settings().declared_in == OWN


def test_a_setting_names_it_from_anywhere(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_PROJECT_FOLDER", str(shop))
    assert declarations.defs_folder() == shop / "shop" / "defs"
    assert settings().root == shop / ".ml_platform"


def test_a_package_below_src_is_found(shop: Path) -> None:
    (shop / "src").mkdir()
    (shop / "shop").rename(shop / "src" / "shop")
    assert project_of(shop).defs == shop / "src" / "shop" / "defs"


def test_a_project_of_dagster_that_is_none_of_this_platform_is_passed_by(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shop / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text('[tool.dg.project]\nroot_module = "other"\n')
    monkeypatch.chdir(other)
    assert settings().declared_in.package == "shop"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.dg.project]\nroot_module = ", r"pyproject.toml: TOML is required"),
        (PROJECT.replace("shop", "shops"), r"a folder `defs` is required in root_module 'shops'"),
        ("[project]\n", r"ML_PLATFORM_PROJECT_FOLDER: a folder is required whose pyproject.toml has"),
    ],
)
def test_a_folder_that_is_no_project_is_refused(
    shop: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    (shop / "pyproject.toml").write_text(text)
    monkeypatch.setenv("ML_PLATFORM_PROJECT_FOLDER", str(shop))
    with pytest.raises(InputError, match=said):
        settings()


def test_a_project_that_is_not_installed_says_so(shop: Path) -> None:
    with pytest.raises(
        InputError, match="root_module 'shop' with a module `definitions` has to be importable"
    ):
        project_of(shop).definitions()
