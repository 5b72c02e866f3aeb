"""What the manifests make of an empty Postgres."""

import subprocess
from collections.abc import Mapping

import sqlalchemy as sa

from tests.k8s.cluster import config_map
from tests.postgres_server import with_programs

PASSWORDS = {name: f"{name}-of-a-test" for name in ("dagster", "mlflow", "feast")}
"""By the name of a database and of who owns it."""


def make_databases(postgres: str) -> None:
    """Run `databases.sh` as the entry point of Postgres's image runs it."""
    address = sa.make_url(postgres)
    environment: Mapping[str, str] = {
        **with_programs(),
        "PGHOST": str(address.query.get("host", address.host)),
        **({"PGPORT": str(address.query["port"])} if "port" in address.query else {}),
        "POSTGRES_USER": str(address.username),
        **{f"{name.upper()}_PASSWORD": password for name, password in PASSWORDS.items()},
    }
    script = config_map("production", "postgres-databases")["databases.sh"]
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], env=environment, check=True, capture_output=True
    )
