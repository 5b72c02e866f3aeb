"""Databases with the tables of an earlier release of Dagster and MLflow, and the rows that this one has.

No package of an earlier release of the platform is there to be installed. What its databases look like is known all the
same: Dagster and MLflow ship the migrations by which their tables came to be what they are.
"""

import sqlalchemy as sa

from tests.databases import take_over

DAGSTER = "46b412388816"
"""Of December 2023: runs have no column for their backfill yet, nor do backfills have tags or pools default limits."""
MLFLOW = "cbc13b556ace"
"""Of June 2025, MLflow 3.1: without workspaces, and without half of the tables that there are now."""
LATER = "fffffffffff1"
"""A revision that no release of today knows."""


def make_dagster_earlier(url: str) -> None:
    """Take a database of Dagster's back, with all its rows."""
    import dagster_postgres.event_log.event_log as module
    from dagster._core.storage.sql import run_alembic_downgrade
    from dagster_postgres.utils import pg_alembic_config

    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")  # indexes are dropped while others read
    with engine.connect() as connection:
        run_alembic_downgrade(pg_alembic_config(module.__file__), connection, DAGSTER)
    engine.dispose()


def make_mlflow_earlier(url: str, *, rows_of: str) -> None:
    """Give a database the tables of then, and the rows of another: MLflow's migrations do not go back."""
    from alembic import command
    from mlflow.store.db.utils import _get_alembic_config
    from mlflow.store.tracking.dbmodels.initial_models import Base

    engine, config = sa.create_engine(url), _get_alembic_config(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
        Base.metadata.create_all(connection)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, MLFLOW)
    engine.dispose()
    take_over(rows_of, url)


def revision(url: str) -> str:
    """The revision of a database's tables, as it says itself."""
    return _asked(url, "SELECT version_num FROM alembic_version")


def make_later(url: str) -> None:
    """Let a database say that a later release has moved it on."""
    _asked(url, f"UPDATE alembic_version SET version_num = '{LATER}' RETURNING version_num")


def _asked(url: str, statement: str) -> str:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        (answer,) = connection.execute(sa.text(statement)).scalars()
    engine.dispose()
    return answer
