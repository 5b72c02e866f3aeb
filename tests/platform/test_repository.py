"""What the repository holds, and what it must not."""

import re
import subprocess
from pathlib import Path

from ml_platform.kernel.settings import PROJECT_ROOT

ALLOWED = {
    ".ci",
    ".dockerignore",
    ".github",
    ".gitignore",
    "Makefile",
    "README.md",
    "dagster_cloud.yaml",
    "docs",
    "feature_repo",
    "k8s",
    "mkdocs.yml",
    "ml_platform",
    "pyproject.toml",
    "requirements.lock",
    "tests",
    "workspace.yaml",
}
PINNED = re.compile(
    r"[a-z0-9][a-z0-9._-]*(\[[a-z0-9,_-]+\])?==[^\s;]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+"
)
# A home, a mount or a checkout of somebody; pieced together, or this file would be found too.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$}])/(?:" + "|".join(["home", "root", "Users", "work", "farm", "mnt"]) + r")/[\w.-]+/"
)


def tracked() -> list[Path]:
    """Files that git has, or would take with the next `git add`."""
    command = ["git", "-c", "safe.directory=*", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT_ROOT, check=True).stdout
    return [Path(name) for name in listed.splitlines() if (PROJECT_ROOT / name).is_file()]


def test_the_top_level_holds_what_everybody_expects_there_and_nothing_else() -> None:
    assert sorted({path.parts[0] for path in tracked()} - ALLOWED) == []


def test_every_requirement_is_one_version_with_hashes() -> None:
    joined = (PROJECT_ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [" ".join(line.split()) for line in joined.splitlines() if line and not line.startswith("#")]
    assert [line for line in lines if not PINNED.fullmatch(line)] == []
    assert len(lines) > 100


def test_the_lock_file_names_no_place_to_download_from() -> None:
    text = (PROJECT_ROOT / "requirements.lock").read_text()
    assert re.findall(r"\S+://\S+|^-.*| @ \S+", text, flags=re.MULTILINE) == []


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    texts = {path: (PROJECT_ROOT / path).read_bytes().decode(errors="ignore") for path in tracked()}
    assert {str(path): found for path, text in texts.items() if (found := MACHINE_PATH.findall(text))} == {}


def test_scripts_can_be_run() -> None:
    assert (PROJECT_ROOT / ".ci" / "run").stat().st_mode & 0o111
