"""`ml-platform sql …`: questions to the tables of the lake."""

import json
import sys
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from ml_platform.cli.output import Json, say, telling_errors


def sql(
    query: Annotated[
        str, typer.Argument(help="One query, such as 'SELECT * FROM features.NAME LIMIT 5'; - reads it.")
    ],
    rows: Annotated[int, typer.Option(min=1, help="How many rows are shown; --json has all.")] = 50,
    as_json: Json = False,
) -> None:
    """Ask one SQL query of the lake with DuckDB. Nothing is written.

    The table of asset `features/NAME` is `features.NAME`; `AT (VERSION => 3)`
    behind it reads an earlier version. `SHOW TABLES` lists all.
    """
    from ml_platform.sdk.platform import Platform

    console = Console(stderr=as_json)
    with telling_errors(console):
        platform = Platform()
        text = sys.stdin.read() if query == "-" else query
        if text.strip().rstrip(";").upper() == "SHOW TABLES":
            found = {"table": platform.tables()}
            total = len(found["table"])
        else:
            answer = platform.sql(text)
            total = len(answer)
            found = answer.arrow().slice(0, None if as_json else rows).to_pydict()
    if as_json:
        print(json.dumps({"columns": list(found), "rows": _rows(found)}, default=str))
        return
    console.print(_shown(found))
    if total > rows:
        say(console, f"{rows:,} of {total:,} rows; --rows shows more")


def _rows(found: dict[str, list[Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*found.values(), strict=True)]


def _shown(found: dict[str, list[Any]]) -> Table:
    table = Table(*found, box=box.SIMPLE_HEAD)
    for row in _rows(found):
        table.add_row(*("" if value is None else str(value) for value in row))
    return table
