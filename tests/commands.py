"""The command as people type it, and what it says."""

import re

from click.testing import Result
from typer.testing import CliRunner

from ml_platform.cli.main import app


def invoke(*arguments: str) -> Result:
    """Run `ml-platform` with these arguments in this process."""
    return CliRunner().invoke(app, list(arguments))


def words(text: str) -> str:
    """Text in one line, without what a terminal is told about colours and boxes."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())
