"""An ingest that dies leaves nothing that a reader would see, and the next one completes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake.exceptions import TableNotFoundError

from ml_platform.sources.feed import write_delivery
from ml_platform.sources.store import LANDED_FILES, landed_days, valid_digests
from tests.sources.deliveries import DAY, Deliveries, Materialized, accounts, everything, payment, payments

FILES = ([payment(1), payment(2, amount=-1)], [payment(1), payment(3, "2018-04-02T10:00:00")])

DIES_BEFORE_THE_LEDGER = """
import os, pathlib, signal, sys
from ml_platform.kernel.settings import settings
from ml_platform.sources import landing
from ml_platform.sources.spec import SourceSpec

class Deadly(type(landing.LANDED_FILES)):
    def append(self, lake, entries):
        os.kill(os.getpid(), signal.SIGKILL)

landing.LANDED_FILES = Deadly(landing.LANDED_FILES.name, landing.LANDED_FILES.columns)
spec = SourceSpec.model_validate_json(sys.argv[1])
landing.ingest(settings(), spec, pathlib.Path(sys.argv[2]))
"""


def block_the_ledger(source: Deliveries) -> Path:
    """Put a file where the ledgers' folder has to be: whatever is appended fails."""
    blocker = Path(source.settings.lake_uri) / "ledgers"
    blocker.parent.mkdir(parents=True, exist_ok=True)
    blocker.touch()
    return blocker


def test_an_ingest_that_fails_before_its_ledger_entry_has_landed_nothing_and_can_be_repeated(
    asset: Materialized,
) -> None:
    source = asset.source
    blocker = block_the_ledger(source)
    with pytest.raises(TableNotFoundError, match="Could not create local directory"):
        source.land(FILES[0])
    blocker.unlink()
    assert len(source.landed()) == len(source.quarantined()) == 1, "written, and not yet valid"
    assert valid_digests(source.lake, "payments") == [] and landed_days(source.lake, "payments") == set()
    assert "landed rows are required" in asset.run().error and asset.published() == {}
    assert not source.land(FILES[0]).unchanged
    assert len(source.landed()) == len(source.quarantined()) == 1, "replaced, not added"
    assert accounts(asset.run())[DAY]["rows_landed"] == 2


def test_rows_of_a_dead_ingest_contradict_nobody(source: Deliveries) -> None:
    blocker = block_the_ledger(source)
    with pytest.raises(TableNotFoundError, match="Could not create local directory"):
        source.land([payment(1, amount=5)])
    blocker.unlink()
    assert source.land([payment(1, amount=6)]).days == (DAY,)


def test_an_ingest_that_is_killed_leaves_nothing_visible_and_the_next_one_completes(
    asset: Materialized,
) -> None:
    source = asset.source
    source.land(FILES[0])
    path = source.file(FILES[1])
    before = LANDED_FILES.entries(source.lake)
    arguments = [source.spec.model_dump_json(by_alias=True), str(path)]
    killed = subprocess.run(
        [sys.executable, "-c", DIES_BEFORE_THE_LEDGER, *arguments], env=dict(os.environ), check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(source.landed()) == 3, "it died after its rows were written"
    assert LANDED_FILES.entries(source.lake) == before
    assert accounts(asset.run())[DAY] == {
        "rows_landed": 2,
        "partition_row_count": 1,
        "rows_unchanged": 0,
        "rows_quarantined": 1,
    }
    assert not source.land(FILES[1]).unchanged
    assert accounts(asset.run())[DAY]["rows_unchanged"] == 1
    state = everything(source.settings)
    assert source.land(FILES[1]).unchanged and everything(source.settings) == state


def test_one_file_that_two_processes_land_at_once_counts_once(asset: Materialized) -> None:
    source = asset.source
    source.land(FILES[0])
    [entry] = LANDED_FILES.entries(source.lake)
    del entry["recorded_at"]
    LANDED_FILES.append(source.lake, [entry])  # what the slower of the two processes adds
    assert valid_digests(source.lake, "payments") == [entry["digest"]]
    assert accounts(asset.run())[DAY]["rows_landed"] == 2


def test_a_feed_that_two_processes_ask_leaves_one_whole_delivery(source: Deliveries) -> None:
    path = source.settings.root / "deliveries" / "day.parquet"
    rows = pa.table({"id": [1]})
    half_written = path.with_suffix(".unfinished")
    path.parent.mkdir()
    half_written.write_bytes(b"half of what another process writes")
    assert pq.read_table(write_delivery(rows, path)).equals(rows)
    assert half_written.exists(), "the other process can still finish"


def test_a_feed_lands_only_the_days_that_no_file_has(asset: Materialized) -> None:
    feed = {
        "function": "ml_platform.defs.fraud.sources.transactions.simulator.simulate",
        "parameters": {"scale": 0.01},
    }
    columns = {
        "id": {"type": "int64", "from": "transaction_id"},
        "event_timestamp": {"type": "timestamp", "from": "tx_datetime"},
        "amount": {"type": "double", "from": "tx_amount"},
    }
    ignore = [
        "customer_id",
        "terminal_id",
        "tx_time_seconds",
        "tx_time_days",
        "tx_fraud",
        "tx_fraud_scenario",
    ]
    asset.source.spec = payments(columns=columns, ignore=ignore, feed=feed, expectations=[])
    first = asset.run("2018-04-02")
    assert first.success, first.error
    assert asset.run("2018-04-01", "2018-04-04").success
    days = [entry["days"] for entry in LANDED_FILES.entries(asset.source.lake)]
    assert days == [["2018-04-02"], ["2018-04-01"], ["2018-04-03", "2018-04-04"]]
    assert sorted(asset.published()) == ["2018-04-01", "2018-04-02", "2018-04-03", "2018-04-04"]
