"""What landed is accounted for against the ledger of files, and contradictions are found when days are made."""

import pytest
from deltalake import DeltaTable

from ml_platform.sources import landing
from tests.sources.deliveries import DAY, Materialized, payment, rows_of


def test_rows_that_are_gone_from_landing_are_missed(asset: Materialized) -> None:
    asset.source.land([payment(1), payment(2), payment(3)])
    DeltaTable(asset.source.lake.table("landing/payments").uri).delete("id = 2")
    lost = asset.run(DAY)
    assert not lost.success
    assert "says that 3 good rows landed, and 2 are there" in lost.error
    assert asset.source.lake.table("sources/payments").version() is None


def test_files_that_contradict_each_other_and_landed_at_once_refuse_their_day(
    asset: Materialized, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset.source.land([payment(1, amount=1.0), payment(2)])
    assert asset.run(DAY).success
    monkeypatch.setattr(
        landing, "_require_consistent", lambda *_, **__: None
    )  # it ran before the other was there
    asset.source.land([payment(1, amount=2.0)])
    refused = asset.run(DAY)
    assert not refused.success
    assert "1 of 3 rows break it (required: one content per (id, created))" in refused.error
    assert [row["amount"] for row in rows_of(asset.source.lake.table("sources/payments"))] == [1.0, 5.0]
