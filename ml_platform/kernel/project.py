"""Which project's declarations count: that of the working folder, or the platform's own.

A project is what dg calls one: a folder whose `pyproject.toml` has `[tool.dg.project]`. Nothing else has to be said
of it; it is one of this platform's when `registry_modules` names the platform's components.
"""

import importlib
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ml_platform.kernel.errors import InputError

_PLATFORM = "ml_platform"
_LAYOUTS = (".", "src")


@dataclass(frozen=True)
class Project:
    """A folder with declarations, and the package that they are in."""

    root: Path
    package: str
    defs: Path

    def definitions(self) -> Any:
        """The code location of the project: its function `defs`.

        Raises InputError when its package cannot be imported.
        """
        module = f"{self.package}.definitions"
        try:
            return importlib.import_module(module).defs()
        except ModuleNotFoundError as err:
            if err.name not in (self.package, module):
                raise
            raise InputError(
                f"{self.root / 'pyproject.toml'}: root_module {self.package!r} with a module `definitions` has to be "
                f"importable by {_PLATFORM}; {err}. Nothing was run; use the project's own .venv, install the project "
                f"(pip install -e .), or put its folder on PYTHONPATH"
            ) from err


OWN = Project(Path(__file__).resolve().parents[2], _PLATFORM, Path(__file__).resolve().parents[1] / "defs")
"""The platform with the use case that it comes with."""


def project_of(folder: Path | None) -> Project:
    """The project of a folder; without one, the nearest above the working folder, or the platform's own.

    Raises InputError for a folder that is given and is no project of this platform, and for a project without `defs`.
    """
    if folder is not None:
        given = _project_at(folder.expanduser().resolve())
        if given is None:
            raise InputError(
                f"ML_PLATFORM_PROJECT_FOLDER: a folder is required whose pyproject.toml has [tool.dg.project] with "
                f"registry_modules of {_PLATFORM}; {folder} is none. Nothing was read; name another folder, or leave "
                f"it out for the project of the working folder"
            )
        return given
    here = Path.cwd()
    return next((found for at in (here, *here.parents) if (found := _project_at(at)) is not None), OWN)


@cache
def _project_at(root: Path) -> Project | None:
    path = root / "pyproject.toml"
    declared = _dg_project(path) if path.is_file() else {}
    package = str(declared.get("root_module", ""))
    if package == _PLATFORM:
        return OWN  # whichever copy of it is running
    if not package or not any(name.startswith(_PLATFORM) for name in declared.get("registry_modules", ())):
        return None
    wanted = [root / layout / Path(*package.split(".")) / "defs" for layout in _LAYOUTS]
    found = next((folder.resolve() for folder in wanted if folder.is_dir()), None)
    if found is None:
        raise InputError(
            f"{path}: a folder `defs` is required in root_module {package!r}: {wanted[0]} or {wanted[1]}; there is "
            f"none. Nothing was read; make it, or mend root_module"
        )
    return Project(root, package, found)


def _dg_project(path: Path) -> dict[str, Any]:
    """What dg is told of a project; nothing where it is told nothing."""
    try:
        return (
            tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("dg", {}).get("project", {})
        )
    except tomllib.TOMLDecodeError as err:
        raise InputError(f"{path}: TOML is required: {err}. Nothing was read; mend it") from err
