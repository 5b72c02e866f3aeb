"""`ml-platform init`: a new project that uses this platform."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ml_platform.cli.output import Json, say, telling_errors


def init(
    folder: Annotated[
        Path, typer.Argument(help="A new or empty folder; its last part is the project's name.")
    ],
    as_json: Json = False,
) -> None:
    """Write a new project with one small use case, from simulated deliveries to a release.

    It has declarations, a Makefile, tests and a code location of its own, and uses
    this platform as a package. What is half written is never left behind.
    """
    from ml_platform.scaffolding.project import write_project

    console = Console(stderr=as_json)
    with telling_errors(console):
        written = write_project(folder)
    files = sorted(str(path.relative_to(written)) for path in written.rglob("*") if path.is_file())
    for name in files:
        say(console, f"  {name}")
    say(console, f"{written}: a project of {len(files)} files. Next: cd {folder} && make demo")
    if as_json:
        print(json.dumps({"folder": str(written), "files": files}))
