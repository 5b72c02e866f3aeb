"""A new project that uses this platform: written whole or not at all."""

import importlib.metadata
import importlib.util
import keyword
import shutil
import sys
from pathlib import Path
from uuid import uuid4

from jinja2 import Environment, PackageLoader, StrictUndefined

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.project import OWN

_END = ".j2"
_PACKAGE_FOLDER = "package"


def write_project(folder: Path) -> Path:
    """Write a new project with one small use case into a folder that is empty or not there; the folder.

    Its last part is the project's name, and with underscores that of its package. Raises InputError, with nothing
    written, for a folder with something in it and for a name that no package may have.
    """
    target = folder.expanduser().resolve()
    package = _package(target.name)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(
            f"{target}: a new or an empty folder is required; there is something in it. Nothing was written; name "
            f"another folder"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{uuid4().hex}.unfinished")
    try:
        for path, text in _files(target.name, package).items():
            written = unfinished / path
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(text, encoding="utf-8")
        unfinished.rename(target)  # which takes the place of an empty folder
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return target


def _files(name: str, package: str) -> dict[Path, str]:
    """The text of each file of a new project, by where it is."""
    loader = PackageLoader("ml_platform.scaffolding", "templates/project")
    templates = Environment(
        loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    values = {
        "name": name,
        "package": package,
        "platform": platform(),
        "version": importlib.metadata.version("ml-platform"),
    }
    return {
        Path(
            *(package if part == _PACKAGE_FOLDER else part for part in path.removesuffix(_END).split("/"))
        ): (templates.get_template(path).render(values))
        for path in templates.list_templates()
    }


def platform() -> str:
    """What pip can install this platform from: the checkout that it runs from, or its name and version."""
    if (OWN.root / "pyproject.toml").is_file():
        return str(OWN.root)
    return f"ml-platform=={importlib.metadata.version('ml-platform')}"


def _package(name: str) -> str:
    """The package of a project of a name; InputError where Python could not import it, or has another one."""
    package = name.replace("-", "_")
    if not package.isidentifier() or package != package.lower() or keyword.iskeyword(package):
        raise InputError(
            f"a project name of lower-case letters, digits and - or _ is required, which begins with a letter: it is "
            f"the name of a Python package too; got {name!r}. Nothing was written; take another name"
        )
    found = importlib.util.find_spec(package)
    if package in sys.stdlib_module_names or (found is not None and found.has_location):
        raise InputError(
            f"a project name is required that no installed package has; there is a package {package!r}. Nothing was "
            f"written; take another name"
        )
    return package
