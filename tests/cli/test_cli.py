"""The command says what it did in one message, exits as scripts expect, and talks JSON when asked."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer

from ml_platform.cli.main import app
from ml_platform.cli.story import scaled
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from ml_platform.sources.store import LANDED_FILES, landed_days
from tests.built import NEXT_DAY, Platform, changed_column, day_of_transactions
from tests.commands import invoke, words
from tests.support import LAST_DAY

PROFILE, MODEL = "drift_profiles/fraud", "models/fraud"


def written(folder: Path, rows: pa.Table, name: str = "day.parquet") -> str:
    path = folder / name
    pq.write_table(rows, path)
    return str(path)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group of commands, by the words that name it."""
    pending: list[tuple[tuple[str, ...], Any]] = [((), typer.main.get_command(app))]
    while pending:
        name, command = pending.pop()
        yield name, command
        pending += [((*name, child), found) for child, found in getattr(command, "commands", {}).items()]


@pytest.mark.parametrize(
    ("name", "command"), list(commands()), ids=[" ".join(name) for name, _ in commands()]
)
def test_help_says_in_a_sentence_what_a_command_does_and_what_each_option_is(
    name: tuple[str, ...], command: Any
) -> None:
    result = invoke(*name, "--help")
    assert result.exit_code == 0
    sentence = command.help.splitlines()[0]
    assert sentence[0].isupper() and sentence.endswith(".")
    assert sentence in words(result.output)
    told = {param.name: param.help for param in command.params}
    assert all(told.values()), told


def test_ingest_lands_a_file_once_and_says_so_both_times(home: Settings, tmp_path: Path) -> None:
    path = written(tmp_path, rows := day_of_transactions(LAST_DAY))
    first, again = invoke("ingest", "transactions", path), invoke("ingest", "transactions", path)
    assert (first.exit_code, again.exit_code) == (0, 0), first.output
    assert f"{path}: {rows.num_rows:,} rows, 0 quarantined, 1 days" in words(first.output)
    assert "had landed before; nothing changed" in words(again.output)
    assert len(LANDED_FILES.entries(Lake(home.lake_uri))) == 1


def test_a_refused_file_is_one_message_exit_code_1_and_no_landed_row(home: Settings, tmp_path: Path) -> None:
    path = written(tmp_path, day_of_transactions(LAST_DAY).drop_columns(["tx_amount"]), "[amount].parquet")
    result = invoke("ingest", "transactions", path)
    assert result.exit_code == 1
    assert len(result.output.strip().splitlines()) == 1, "one message, which no terminal width breaks"
    assert result.output.startswith(f"input: {path}: source 'transactions' requires columns ")
    assert "missing: ['tx_amount']" in result.output, "brackets are no markup"
    assert "The file was refused whole; map columns with `from:`" in result.output
    assert landed_days(Lake(home.lake_uri), "transactions") == set()


@pytest.mark.parametrize(
    ("source", "path", "said"),
    [
        (
            "transaction",
            "day.parquet",
            "'transaction' is required and is not declared; did you mean transactions?",
        ),
        (
            "transactions",
            "data/[a-z]*.parquet",
            "data/[a-z]*.parquet: a Parquet or CSV file, a folder or a glob",
        ),
    ],
)
def test_what_cannot_be_ingested_is_told_with_its_name(
    home: Settings, source: str, path: str, said: str
) -> None:
    result = invoke("ingest", source, path)
    assert (result.exit_code, said in result.output) == (1, True), result.output
    assert "Traceback" not in result.output


def test_json_is_one_line_on_standard_output_and_words_go_to_standard_error(
    home: Settings, tmp_path: Path
) -> None:
    rows = day_of_transactions(LAST_DAY)
    path = written(
        tmp_path, changed_column(rows, "tx_amount", [-1.0, *rows.column("tx_amount").to_pylist()[1:]])
    )
    result = invoke("ingest", "transactions", path, "--json")
    (line,) = result.stdout.splitlines()
    (landed,) = json.loads(line)["landed"]
    assert (landed["rows"], landed["quarantined"], landed["days"]) == (rows.num_rows, 1, [LAST_DAY])
    assert "1 quarantined" in words(result.stderr)


def test_an_open_gate_is_exit_code_0_and_no_reason(shared: Platform) -> None:
    result = invoke("gate", "status", MODEL, "--partition", LAST_DAY, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"asset": MODEL, "partition": LAST_DAY, "closed": [], "own": []}
    assert result.stderr == f"{MODEL} [{LAST_DAY}]: the gate is open\n"


@pytest.mark.parametrize(
    ("asset", "partition", "said"),
    [
        (
            "models/fruad",
            LAST_DAY,
            "a declared asset is required: drift_profiles/demand, drift_profiles/fraud, ",
        ),
        (MODEL, "yesterday", f"partition requires a day of {MODEL}, from 2018-06-26 to 2018-10-02"),
        (MODEL, "2018-04-05", "got '2018-04-05'"),
    ],
)
def test_the_gate_of_what_does_not_exist_is_neither_open_nor_closed(
    home: Settings, asset: str, partition: str, said: str
) -> None:
    result = invoke("gate", "status", asset, "--partition", partition)
    assert result.exit_code == 1
    assert result.output.startswith("input: ") and said in result.output


def test_nothing_stale_is_exit_code_0(shared: Platform) -> None:
    result = invoke("stale", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"stale": [], "may_follow": {}, "run": []}
    assert result.stderr == "nothing is stale\n"


def test_what_is_stale_is_told_with_the_reason_and_what_to_run(platform: Platform) -> None:
    late = changed_column(day_of_transactions("2018-06-20").slice(0, 1), "transaction_id", [999_999_999])
    platform.deliver("transactions", late, known_at="2018-06-21T12:00:00")
    listed = invoke("stale")
    assert listed.exit_code == 1
    assert "sources/transactions │ 2018-06-20 │ 1 file landed since" in " ".join(listed.stdout.split())
    assert "\n  dg launch --assets sources/transactions --partition 2018-06-20\n" in listed.stdout
    assert f"may follow: features/customer_spending [2018-06-20 … {LAST_DAY}]" in listed.stdout
    platform.make("sources/transactions", "2018-06-20")
    found = json.loads(invoke("stale", "--json").stdout)
    customers = "features/customer_spending"
    assert [(entry["asset"], entry["reason"]) for entry in found["stale"]] == [
        (customers, "late or corrected rows of sources/transactions [2018-06-20]")
    ]
    assert found["run"] == [f"dg launch --assets {customers} --partition-range 2018-06-21...{LAST_DAY}"]
    assert min(found["may_follow"][PROFILE]) == "2018-06-22"
    assert invoke("stale", "features/terminal_risk").exit_code == 0


def test_what_is_stale_is_asked_of_published_assets(home: Settings) -> None:
    result = invoke("stale", "models/fraud")
    assert result.exit_code == 1
    assert (
        "an asset with published partitions is required: drift_profiles/demand, drift_profiles/fraud, "
        in words(result.output)
    )


def test_the_command_that_a_closed_gate_names_lets_the_drifted_day_through(platform: Platform) -> None:
    platform.deliver("transactions", scaled(day_of_transactions(NEXT_DAY), "tx_amount", by=1.5))
    platform.make("sources/transactions", NEXT_DAY)
    platform.refused(PROFILE, NEXT_DAY)
    closed = invoke("gate", "status", MODEL, "--partition", NEXT_DAY)
    assert closed.exit_code == 1
    assert f"{PROFILE} [{NEXT_DAY}] drift: " in closed.stdout
    as_json = invoke("gate", "status", MODEL, "--partition", NEXT_DAY, "--json")
    assert as_json.exit_code == 1
    reasons = {(gate["asset"], gate["reason"]) for gate in json.loads(as_json.stdout)["closed"]}
    assert reasons == {(PROFILE, "failed"), ("training_sets/fraud", "missing")}

    (way_out,) = re.findall(r"ml-platform (drift accept .*'…')", closed.stdout)
    accepted = invoke(*shlex.split(way_out.replace("…", "prices went up")))
    assert accepted.exit_code == 0, accepted.output
    assert f"{PROFILE} [{NEXT_DAY}] drift: accepted by {platform.settings.who}; was: " in accepted.output
    (entry,) = WAYS_OUT.entries(platform.lake)
    assert (entry["partition"], entry["reason"], entry["actor"]) == (
        NEXT_DAY,
        "prices went up",
        platform.settings.who,
    )
    after = json.loads(invoke("gate", "status", MODEL, "--partition", NEXT_DAY, "--json").stdout)
    assert {gate["asset"] for gate in after["closed"]} == {"training_sets/fraud"}


@pytest.mark.parametrize(
    ("asset", "partition", "reason", "said"),
    [
        (PROFILE, LAST_DAY, "real", "a failed evaluation is required to accept; it passed"),
        (PROFILE, NEXT_DAY, "real", "a failed evaluation is required to accept; it was never evaluated"),
        (PROFILE, LAST_DAY, "  ", "reason is required: say why this change is real; nothing was accepted"),
        (
            "sources/transactions",
            LAST_DAY,
            "real",
            f"an asset with a drift check is required: drift_profiles/demand, {PROFILE}, training_sets/demand",
        ),
    ],
)
def test_where_there_is_nothing_to_accept_nothing_is(
    shared: Platform, asset: str, partition: str, reason: str, said: str
) -> None:
    result = invoke("drift", "accept", asset, partition, "--reason", reason)
    assert result.exit_code == 1
    assert result.output.startswith("input: ") and said in result.output
    assert WAYS_OUT.entries(shared.lake) == []


def test_drift_is_not_accepted_without_a_reason(shared: Platform) -> None:
    result = invoke("drift", "accept", PROFILE, LAST_DAY)
    assert result.exit_code == 2
    assert "Missing option '--reason'" in words(result.output)
