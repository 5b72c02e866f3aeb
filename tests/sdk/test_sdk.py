"""What was made is read by name: the same values as training saw, in whichever library is worked with."""

import json

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner

from ml_platform import Platform
from ml_platform.cli.main import app
from ml_platform.kernel.errors import DeclarationError, InputError, StoreError
from ml_platform.sdk.rows import Rows
from tests.built import NEXT_DAY
from tests.built import Platform as Built
from tests.support import LAST_DAY


@pytest.fixture
def sdk(shared: Built) -> Platform:
    return Platform(shared.settings.root)


def test_features_at_rows_are_those_of_the_training_set(sdk: Platform) -> None:
    trained = sdk.training_set("fraud").rows.arrow().slice(0, 200)
    service = sdk.features("fraud_scoring")
    events = sdk.sql(
        "SELECT transaction_id, customer_id, terminal_id, event_timestamp, amount, "
        "epoch_us(event_timestamp) // 1000000 AS transaction_time FROM sources.transactions"
    ).arrow()
    ids = trained.column("transaction_id")
    asked = events.take(
        pc.call_function("index_in", [ids], pc.SetLookupOptions(events.column("transaction_id")))
    )
    found = service.at(asked).arrow()
    assert found.column("transaction_id").equals(ids), "in the order of the rows"
    for name in service.names:
        assert found.column(name).combine_chunks().equals(trained.column(name).combine_chunks()), name


@pytest.mark.parametrize("library", ["arrow", "pandas", "polars", "dict"])
def test_rows_may_come_from_any_library_and_go_to_any(sdk: Platform, library: str) -> None:
    times = pd.to_datetime([f"{LAST_DAY} 12:00:00"] * 2, utc=True)
    frame = pd.DataFrame({"customer_id": [1, 2], "event_timestamp": times, "note": ["a", "b"]})
    given = {
        "arrow": lambda: pa.Table.from_pandas(frame),
        "pandas": lambda: frame,
        "polars": lambda: pl.from_pandas(frame),
        "dict": lambda: {name: frame[name].tolist() for name in frame},
    }[library]()
    found = sdk.features("customer_spending").at(given)
    assert found.pandas()["note"].tolist() == ["a", "b"], "other columns are carried"
    assert (
        found.polars()["customer_transactions_7d"].to_list()
        == found.pandas()["customer_transactions_7d"].tolist()
    )
    assert pa.table(found).equals(found.arrow()), "who knows Arrow takes it as it is"
    assert "customer_mean_amount_30d" in found._repr_html_()


def test_rows_without_their_keys_say_what_is_required(sdk: Platform) -> None:
    with pytest.raises(
        InputError, match="customer_id, event_timestamp are required; event_timestamp did not come"
    ):
        sdk.features("customer_spending").at({"customer_id": [1]})
    with pytest.raises(
        InputError, match="rows without its features are required; customer_transactions_1d came"
    ):
        sdk.features("customer_spending").at(
            {"customer_id": [1], "event_timestamp": [0], "customer_transactions_1d": [1]}
        )
    with pytest.raises(InputError, match="rows are required as an Arrow table"):
        sdk.features("customer_spending").at(object())
    with pytest.raises(DeclarationError, match="did you mean fraud_scoring"):
        sdk.features("fraud_scorin")


def test_what_a_version_was_trained_on_and_what_it_answers(sdk: Platform) -> None:
    model = sdk.model("fraud")
    trained = sdk.training_set("fraud", f"fraud@{model.version}")
    assert trained.manifest["content_hash"] == sdk.training_set("fraud").manifest["content_hash"]
    scores = model.predict(trained.rows)
    tests = trained.rows.arrow().column("split").to_numpy() == "test"
    alerts = scores[tests] >= (model.contract.threshold or 0)
    labels = trained.rows.arrow().column("label").to_numpy()[tests]
    assert labels[alerts].mean() == pytest.approx(model.metrics["precision"])
    assert model.card.startswith("# fraud, version 1")
    with pytest.raises(InputError, match="rows with its features are required"):
        model.predict({"amount": [1.0]})
    with pytest.raises(InputError, match="a version of fraud is required"):
        sdk.model("fraud", "challenger")
    with pytest.raises(InputError, match="a published partition is required"):
        sdk.training_set("fraud", NEXT_DAY)


def test_a_training_set_that_is_published_no_more_is_built_again(platform: Built) -> None:
    sdk = Platform(platform.settings.root)
    before = sdk.training_set("fraud", "fraud@champion").rows.arrow()
    platform.relabel("2018-06-15", frauds=30, known_at=f"{LAST_DAY} 23:59:00+00")
    platform.make("training_sets/fraud", LAST_DAY)
    now = sdk.training_set("fraud").rows.arrow()
    assert not now.equals(before), "the labels are others now"
    assert sdk.training_set("fraud", "fraud@champion").rows.arrow().equals(before)


def test_drift_is_told_day_by_day_and_feature_by_feature(sdk: Platform) -> None:
    found = sdk.drift("fraud").pandas()
    assert set(found["feature"]) == set(sdk.features("fraud_scoring").names)
    assert (found["statistic"] > 0).sum() > 0
    assert set(found["name"]) == {"fraud"}


def test_sql_reads_tables_at_any_version(platform: Built) -> None:
    sdk = Platform(platform.settings.root)
    count = "SELECT count(*) AS n FROM features.customer_spending"
    now = sdk.sql(count).arrow().to_pylist()
    version = platform.lake.table("features/customer_spending").version()
    platform.make("features/customer_spending", LAST_DAY)
    joined = sdk.sql(
        f"WITH old AS (SELECT * FROM features.customer_spending AT (VERSION => {version})) "
        "SELECT count(*) AS n FROM old o JOIN features.customer_spending f USING (customer_id, partition_date)"
    )
    assert now == joined.arrow().to_pylist() == sdk.sql(count).arrow().to_pylist()
    with pytest.raises(StoreError, match="version 99 is required and is not there"):
        sdk.sql("SELECT * FROM features.customer_spending AT (VERSION => 99)")


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT * FROM features.customer_spendin", "did you mean features.customer_spending"),
        ("DROP TABLE features.customer_spending", "one SQL query is required"),
        ("SELECT 1; SELECT 2", "one SQL query is required"),
        ("SELECT", "SQL that DuckDB can run is required"),
        ("SELECT ((", "this cannot be read"),
        ("SELECT nobody FROM features.customer_spending", "SQL that DuckDB can run is required"),
        (
            "SELECT * FROM features.customer_spending AT (TIMESTAMP => now())",
            "AT \\(VERSION => number\\) is required",
        ),
    ],
)
def test_what_is_no_query_of_the_lake_is_one_clear_error(sdk: Platform, query: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        sdk.sql(query)


def test_the_command_shows_rows_for_people_and_for_machines(
    shared: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ML_PLATFORM_HOME", str(shared.settings.root))
    query = "SELECT partition_date AS day, count(*) AS n FROM sources.transactions GROUP BY 1 ORDER BY 1"
    told = json.loads(CliRunner().invoke(app, ["sql", query, "--json"]).stdout)
    assert told["columns"] == ["day", "n"] and len(told["rows"]) == 87
    shown = CliRunner().invoke(app, ["sql", "-", "--rows", "2"], input=query)
    assert "2018-04-02" in shown.stdout and "2018-04-03" not in shown.stdout
    assert "2 of 87 rows" in shown.stdout
    listed = CliRunner().invoke(app, ["sql", "show tables"]).stdout
    assert "features.customer_spending" in listed
    refused = CliRunner().invoke(app, ["sql", "DELETE FROM features.customer_spending"])
    assert refused.exit_code == 1 and "one SQL query is required" in refused.stdout


def test_rows_say_what_they_are() -> None:
    assert repr(Rows(pa.table({"a": [1, 2]}))) == "2 rows (a: int64)"
