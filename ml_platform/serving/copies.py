"""The last champion on this machine: what is served when the registry does not answer, also after a restart.

A version's files are written to a folder beside and renamed to their place; then a pointer, replaced in one step, says
which version was champion, with the digest of every file. Who dies in between leaves the pointer before.
"""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.serving.versions import Files

_POINTER = "champion.json"


class _Pointer(BaseModel):
    """Which version was the last champion, and the SHA-256 of its files."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    model: str
    version: int
    run_id: str
    partition: str
    digests: dict[str, str]


def keep(settings: Settings, files: Files) -> None:
    """Make a version the one that is served without a registry; StoreError when it cannot be written."""
    folder = _folder(settings, files.name)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = _pointed(folder)
        if not _same(folder / str(files.version), files):
            _place(folder, files)
        _point(folder, files)
        _forget(folder, but={str(files.version), str(before.version) if before else ""})
    except OSError as err:
        raise StoreError(
            f"{files.of}: a local copy is required to serve it while the registry does not answer; it cannot be "
            f"written: {err}. It is served, and would not be after a restart without the registry; see to {folder}"
        ) from err


def last(settings: Settings, name: str) -> Files | None:
    """The files of a model's last champion; None when none was kept, StoreError when they are not what was kept."""
    folder = _folder(settings, name)
    try:
        if not (folder / _POINTER).exists():
            return None
        pointer = _Pointer.model_validate_json((folder / _POINTER).read_bytes())
        content = {
            file: (folder / str(pointer.version) / file).read_bytes() for file in sorted(pointer.digests)
        }
    except (OSError, ValidationError) as err:
        raise StoreError(
            f"{folder}: an undamaged copy of the last champion is required; it cannot be read: {err}. It is not "
            f"served; a new one is written as soon as the registry answers"
        ) from err
    files = Files(pointer.model, pointer.version, pointer.run_id, pointer.partition, content)
    damaged = sorted(file for file, digest in pointer.digests.items() if files.digests[file] != digest)
    if damaged or pointer.model != name:
        what = f"{', '.join(damaged)} changed since" if damaged else f"it is of model {pointer.model}"
        raise StoreError(
            f"{folder / str(pointer.version)}: an undamaged copy of the last champion is required; {what}. It is not "
            f"served; a new one is written as soon as the registry answers"
        )
    return files


def kept(settings: Settings) -> list[str]:
    """Names of the models that have a copy."""
    found = (path.parent.name for path in (settings.root / "serving").glob(f"*/{_POINTER}"))
    return sorted(name for name in map(settings.declared_name, found) if name is not None)


def _folder(settings: Settings, name: str) -> Path:
    return settings.root / "serving" / settings.registered_name(name)


def _pointed(folder: Path) -> _Pointer | None:
    try:
        return _Pointer.model_validate_json((folder / _POINTER).read_bytes())
    except (FileNotFoundError, ValidationError):  # a damaged pointer is replaced
        return None


def _same(place: Path, files: Files) -> bool:
    """Whether exactly these files are at their place, undamaged."""
    try:
        found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in place.iterdir()}
    except FileNotFoundError:
        return False
    return found == files.digests


def _place(folder: Path, files: Files) -> None:
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder))
    try:
        for name, content in files.content.items():
            _write(new / name, content)
        place = folder / str(files.version)
        if place.exists():
            place.rename(Path(tempfile.mkdtemp(prefix=".old-", dir=folder)) / place.name)
        new.rename(place)
    except OSError:
        if not _same(folder / str(files.version), files):  # else another worker was faster
            raise
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _point(folder: Path, files: Files) -> None:
    pointer = _Pointer(
        model=files.name,
        version=files.version,
        run_id=files.run_id,
        partition=files.partition,
        digests=files.digests,
    )
    handle, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    os.close(handle)
    try:
        _write(Path(name), pointer.model_dump_json().encode())
        Path(name).replace(folder / _POINTER)
    finally:
        Path(name).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _forget(folder: Path, *, but: set[str]) -> None:
    """Remove copies of champions of the past, and what an interrupted worker left."""
    for path in folder.iterdir():
        if path.is_dir() and path.name not in but and not path.name.startswith(".new-"):
            shutil.rmtree(path, ignore_errors=True)
