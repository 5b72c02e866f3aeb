"""SQL over the tables of the lake: `features.NAME` is the table of the asset `features/NAME`.

A table is read at its newest version, or at another one with DuckDB's own `AT (VERSION => 3)`. Nothing is written.
"""

import difflib
from dataclasses import dataclass

import duckdb
import pyarrow as pa
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect
from ml_platform.lake.tables import Lake


def query(settings: Settings, text: str) -> pa.Table:
    """The answer to one query over tables of the lake.

    Raises InputError for what is no query, for a table that the lake does not have, and for what the engine refuses;
    StoreError for a version that is not there.
    """
    lake = Lake(settings.lake_uri)
    asked = _parsed(text)
    with connect(settings) as connection:
        for i, found in enumerate(_tables(asked, lake)):
            connection.execute(f"CREATE OR REPLACE TEMP VIEW _read_{i} AS {found.sql(lake)}")
            found.replace(f"_read_{i}")
        try:
            return connection.sql(asked.sql(dialect="duckdb")).to_arrow_table()
        except duckdb.Error as err:
            raise InputError(f"SQL that DuckDB can run is required: {err}. Nothing was read") from err


@dataclass(frozen=True)
class _Table:
    """One mention of a table in a query."""

    node: exp.Table

    @property
    def asked(self) -> str:
        """The table as the query has it."""
        return f"{self.node.db}.{self.node.name}" if self.node.db else self.node.name

    def sql(self, lake: Lake) -> str:
        """What selects the table's rows, at the version that is asked for."""
        table, version = lake.table(self.asked.replace(".", "/", 1)), self._version()
        if table.version() is None:
            known = [name.replace("/", ".") for name in lake.table_names()]
            near = difflib.get_close_matches(self.asked, known, n=3)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known) or 'none'}"
            )
            raise InputError(f"a table of the lake is required; got {self.asked}; {hint}")
        return table.scan(version=version)

    def replace(self, name: str) -> None:
        alias = self.node.args.get("alias") or exp.TableAlias(this=exp.to_identifier(self.node.name))
        self.node.replace(
            exp.Table(this=exp.to_identifier(name), alias=alias, joins=self.node.args.get("joins"))
        )

    def _version(self) -> int | None:
        when = self.node.args.get("when")
        if when is None:
            return None
        number = when.args.get("expression")
        if when.args.get("kind") != "VERSION" or not isinstance(number, exp.Literal) or number.is_string:
            raise InputError(f"{self.asked}: AT (VERSION => number) is required; got {when.sql('duckdb')}")
        return int(number.this)


def _parsed(text: str) -> exp.Expr:
    try:
        found = sqlglot.parse(text, dialect="duckdb")
    except SqlglotError as err:
        raise InputError(f"one SQL query is required; this cannot be read: {err}") from err
    if len(found) != 1 or not isinstance(found[0], exp.Query):
        raise InputError(
            "one SQL query is required, such as SELECT …; got other statements. Nothing was done"
        )
    return found[0]


def _tables(asked: exp.Expr, lake: Lake) -> list[_Table]:
    """Every mention of a table of the lake; a name alone may also be the query's own."""
    own = {cte.alias for cte in asked.find_all(exp.CTE)}
    found = [_Table(node) for node in list(asked.find_all(exp.Table)) if node.name not in own or node.db]
    return [one for one in found if one.node.db or lake.table(one.asked).version() is not None]
