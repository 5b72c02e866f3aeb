"""The ledger of refused partitions: rows that failed their checks and were kept apart."""

import datetime as dt
from collections.abc import Collection
from typing import Any

import pyarrow as pa

from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake

QUALITY = "quality"

REFUSALS = Ledger(
    "refusals",
    {
        "asset": pa.string(),
        "partition": pa.string(),
        "rows": pa.int64(),
        "observed": pa.string(),
        "bound": pa.string(),
        "run_id": pa.string(),
    },
)


def newest_refusals(
    lake: Lake, assets: Collection[str] | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    """The newest refusal of each asset and partition, dismissed or not."""
    wanted = {} if assets is None else {"asset": assets}
    return {(entry["asset"], entry["partition"]): entry for entry in REFUSALS.entries(lake, **wanted)}


def dismissals(lake: Lake, assets: Collection[str] | None = None) -> dict[tuple[str, str], dt.datetime]:
    """When each asset's partition was dismissed last."""
    wanted = {} if assets is None else {"asset": assets}
    entries = WAYS_OUT.entries(lake, way=["dismiss"], **wanted)
    return {(entry["asset"], entry["partition"]): entry["recorded_at"] for entry in entries}


def waiting(lake: Lake, assets: Collection[str]) -> dict[tuple[str, str], dict[str, Any]]:
    """The newest refusals that nobody has dismissed since."""
    done = dismissals(lake, assets)
    return {
        case: entry
        for case, entry in newest_refusals(lake, assets).items()
        if case not in done or done[case] < entry["recorded_at"]
    }
