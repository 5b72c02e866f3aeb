"""Where Dagster keeps runs and events of one environment of several that share a Postgres."""

from collections.abc import Mapping
from typing import Any, Self

import sqlalchemy as sa
from dagster._config.config_schema import UserConfigSchema
from dagster._serdes import ConfigurableClassData
from dagster_postgres import DagsterPostgresStorage
from dagster_postgres.utils import create_pg_engine, get_token_provider_from_config, pg_url_from_config

from ml_platform.kernel.settings import DEVELOPMENT, settings


class PostgresStorage(DagsterPostgresStorage):
    """Dagster's own, in the schema `dagster_<environment>` of its database, which is made when it is first opened.

    Development has the database's default schema; so has everybody whose address brings `options` of its own.
    """

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        """That of Dagster's own: `postgres_url`, or `postgres_db` in parts."""
        return super().config_type()

    @classmethod
    def from_config_value(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls, inst_data: ConfigurableClassData | None, config_value: Mapping[str, Any]
    ) -> Self:
        token_provider = get_token_provider_from_config(config_value)
        schema = _schema(sa.make_url(pg_url_from_config(config_value)))
        if schema is not None:
            engine = create_pg_engine(pg_url_from_config(config_value), token_provider, poolclass=sa.NullPool)
            _make(engine, schema)
        return cls(
            inst_data=inst_data,
            postgres_url=url_of(config_value),
            should_autocreate_tables=config_value.get("should_autocreate_tables", True),
            token_provider=token_provider,
        )


def url_of(config: Mapping[str, Any]) -> str:
    """The address by which this environment's storage is reached, password included; nobody is connected to."""
    given = pg_url_from_config(config)
    url = sa.make_url(given)
    schema = _schema(url)
    if schema is None:
        return given
    apart = url.update_query_dict({"options": f"-csearch_path={schema}"})
    return apart.render_as_string(hide_password=False)


def _schema(url: sa.URL) -> str | None:
    """The schema of this environment; None where the address alone says it."""
    environment = settings().environment
    return None if environment == DEVELOPMENT or "options" in url.query else f"dagster_{environment}"


def _make(engine: sa.Engine, schema: str) -> None:
    """Make a schema that is not there; of several processes that open it first, one does."""
    with engine.begin() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": schema})
        if not sa.inspect(connection).has_schema(schema):
            connection.execute(sa.schema.CreateSchema(schema))
