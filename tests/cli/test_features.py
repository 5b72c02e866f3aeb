"""`ml-platform features sql` prints a query that runs as it stands over relations of the names that it says."""

import json

import duckdb
import pytest
from typer.testing import CliRunner

from ml_platform.cli.main import app

RUNNER = CliRunner()
EVENTS = (
    "SELECT 1::BIGINT AS transaction_id, 7::BIGINT AS customer_id, 2.5::DOUBLE AS amount, "
    "TIMESTAMPTZ '2018-06-01 12:00:00Z' AS event_timestamp, event_timestamp AS created_timestamp"
)


@pytest.mark.parametrize("options", [[], ["--late"]])
def test_the_printed_query_runs_as_it_stands(options: list[str]) -> None:
    asked = ["features", "sql", "customer_spending", "--partition", "2018-06-01", "--last", "2018-06-02"]
    done = RUNNER.invoke(app, [*asked, *options])
    assert done.exit_code == 0, done.output
    with duckdb.connect() as connection:
        for name in ("sources/transactions", "sources/transactions, all days"):
            connection.execute(f'CREATE VIEW "{name}" AS {EVENTS}')
        rows = connection.sql(done.stdout).to_arrow_table().to_pylist()
    counts = sorted((str(row["partition_date"]), row["customer_transactions_1d"]) for row in rows)
    assert counts == [("2018-06-01", 1), ("2018-06-02", 0)]
    assert {(row["customer_id"], row["customer_mean_amount_7d"]) for row in rows} == {(7, 2.5)}


def test_machines_get_one_object() -> None:
    done = RUNNER.invoke(app, ["features", "sql", "terminal_risk", "--json"])
    found = json.loads(done.stdout)
    assert (found["view"], found["first"], found["last"]) == ("terminal_risk", "2018-04-01", "2018-04-01")
    assert found["sql"].startswith("WITH event_rows AS (")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["customer_spendin"], "did you mean customer_spending?"),
        (["customer_spending", "--partition", "2017-01-01"], "partition requires a day of features/"),
        (
            ["customer_spending", "--partition", "2018-06-02", "--last", "2018-06-01"],
            "not before --partition",
        ),
    ],
)
def test_what_is_not_there_is_said(arguments: list[str], said: str) -> None:
    done = RUNNER.invoke(app, ["features", "sql", *arguments])
    assert done.exit_code == 1
    assert said in " ".join((done.stdout + done.stderr).split())
