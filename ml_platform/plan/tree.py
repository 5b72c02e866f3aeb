"""The project as it was at a git commit: its files in a folder of their own, and what they declared."""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ml_platform import declarations
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.project import OWN
from ml_platform.kernel.settings import settings
from ml_platform.plan.description import Description, describe

_MODULE = "ml_platform.plan.description"


@dataclass(frozen=True)
class Base:
    """What a change is compared with: the commit where it left a ref, and what was declared there.

    `note` says what could not be read as the commit itself would have.
    """

    commit: str
    description: Description
    note: str = ""


def base(ref: str, root: Path) -> Base:
    """What was declared where the current commit left a ref; InputError when git cannot tell or nothing can be read."""
    commit = fork_point(ref, root)
    with files_at(commit, root) as folder:
        own, failure = described_by_itself(folder)
        if own is not None:
            return Base(commit, own)
        return Base(
            commit,
            _described_by_us(folder, commit, root),
            f"{commit[:10]} cannot describe itself ({failure}): its declarations were read by the code of now, and "
            f"changes of code versions are not told",
        )


def fork_point(ref: str, root: Path) -> str:
    """The commit at which the current one left a ref: what others have merged since is no part of the change."""
    commit = _git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", root=root)
    if not commit:
        raise InputError(
            f"--against: a git ref is required, such as origin/main; {root} has no commit {ref!r}. Nothing was "
            f"compared; fetch it (git fetch origin), or name another"
        )
    fork = _git("merge-base", "HEAD", commit, root=root)
    if not fork:
        raise InputError(
            f"--against {ref}: a commit is required that the current one comes from; they have none in common here. "
            f"Nothing was compared; fetch the whole history (git fetch --unshallow)"
        )
    return fork


@contextmanager
def files_at(commit: str, root: Path) -> Iterator[Path]:
    """The project's files at a commit, in a folder that is removed at the end; git's own state is not touched."""
    archived = _run_git("archive", "--format=tar", commit, root=root)
    if archived.returncode != 0:
        raise InputError(
            f"{commit}: {archived.stderr.decode(errors='replace').strip()}. Nothing was compared"
        )
    with tempfile.TemporaryDirectory(prefix="ml-platform-plan-") as folder:
        with tarfile.open(fileobj=io.BytesIO(archived.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


def described_by_itself(folder: Path) -> tuple[Description | None, str]:
    """What a version of the code says of itself, in a process of its own; None with the reason when it cannot."""
    own = (folder / Path(*_MODULE.split("."))).with_suffix(".py")
    project = settings().declared_in
    if project == OWN and not own.exists():  # of another project, what is installed describes every commit
        return None, f"it has no {_MODULE}"
    done = subprocess.run(
        [sys.executable, "-m", _MODULE],
        cwd=folder,
        env={
            **_not_elsewhere(),
            "PYTHONPATH": str(folder / project.defs.parents[1].relative_to(project.root)),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stdout.splitlines()[-1:] if done.returncode == 0 else []
    try:
        return Description.model_validate_json("".join(last)), ""
    except ValidationError:
        said = done.stderr.strip().splitlines()[-1:] or ["it answered in another form"]
        return None, said[0]


def _not_elsewhere() -> dict[str, str]:
    """The environment without the name of a project: it is that of the working folder."""
    return {name: value for name, value in os.environ.items() if name != "ML_PLATFORM_PROJECT_FOLDER"}


def _described_by_us(folder: Path, commit: str, root: Path) -> Description:
    try:
        catalog = declarations.load(folder / declarations.defs_folder().relative_to(root))
        return describe(catalog, folder, with_code=False)
    except DeclarationError as err:
        raise InputError(
            f"{commit[:10]}: declarations that can be read are required; neither its code nor that of now reads them: "
            f"{err}. Nothing was compared; compare with a later commit"
        ) from err


def _git(*arguments: str, root: Path) -> str:
    """What git answers; empty when it has no answer, InputError where there is no repository."""
    done = _run_git(*arguments, root=root)
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 128 and "not a git repository" in said:
        raise InputError(f"{root}: a git repository is required; git says: {said}. Nothing was compared")
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def _run_git(*arguments: str, root: Path) -> subprocess.CompletedProcess[bytes]:
    # A checkout that somebody else owns, as in a container, is only read here.
    command = ["git", "-c", "safe.directory=*", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, check=False)
    except FileNotFoundError as err:
        raise InputError("git is required to compare with another version; it is not installed") from err
