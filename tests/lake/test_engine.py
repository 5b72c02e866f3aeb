"""Steps of one process share a database and nothing else, and one that broke is not met again."""

from pathlib import Path

import duckdb
import pytest

from ml_platform.kernel.settings import Settings
from ml_platform.lake.engine import connect


@pytest.fixture
def here(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path).prepare()


def test_what_one_step_stages_another_does_not_see_and_nothing_stays(here: Settings) -> None:
    with connect(here) as first, connect(here) as second:
        first.execute("CREATE TEMP TABLE staged AS SELECT 1 AS x")
        second.execute("CREATE TEMP TABLE staged AS SELECT 2 AS x")
        assert [c.execute("FROM staged").fetchall() for c in (first, second)] == [[(1,)], [(2,)]]
    with connect(here) as third, pytest.raises(duckdb.CatalogException, match="staged"):
        third.execute("FROM staged")


def test_every_connection_has_the_declared_limits_and_utc(here: Settings, tmp_path: Path) -> None:
    small = here.model_copy(update={"memory_limit": "200MB", "threads": 1})
    with connect(here) as first, connect(small) as second:
        settings = ("memory_limit", "temp_directory", "threads", "TimeZone")
        query = "SELECT " + ", ".join(f"current_setting('{name}')" for name in settings)
        limit, folder, threads, zone = second.execute(query).fetchall()[0]
        assert (limit, threads, zone) == ("190.7 MiB", 1, "UTC") and folder == str(tmp_path / "spill")
        assert first.execute(query).fetchall()[0][0] != limit


@pytest.mark.parametrize("fatal", [duckdb.FatalException, duckdb.InternalException])
def test_after_a_fatal_error_the_next_step_has_a_database_of_its_own(
    here: Settings, fatal: type[duckdb.Error]
) -> None:
    with connect(here) as before:
        before.execute("ATTACH ':memory:' AS mark")
    with connect(here) as same:
        assert ("mark",) in same.execute("SELECT database_name FROM duckdb_databases()").fetchall()
    with pytest.raises(fatal, match="broken"), connect(here):
        raise fatal("broken")
    with connect(here) as after:
        assert ("mark",) not in after.execute("SELECT database_name FROM duckdb_databases()").fetchall()
