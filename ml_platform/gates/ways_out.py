"""The ledger of ways out of closed gates: who opened which gate, how, why and on what evidence."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

import dagster as dg
import pyarrow as pa

from ml_platform.gates.evaluations import told
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.partitions import Range
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake

Way = Literal["accept", "override", "recheck", "dismiss"]

WAYS_OUT = Ledger(
    "ways_out",
    {
        "way": pa.string(),
        "asset": pa.string(),
        "check": pa.string(),
        "partition": pa.string(),
        "judged": pa.string(),
        "new_regime": pa.bool_(),
        "until": pa.string(),
        "reason": pa.string(),
        "actor": pa.string(),
        "evidence": pa.string(),
    },
)

UNTIL = "overridden_until"
"""Under this name the evaluation of an override says when it ends, for people; the ledger decides."""

OVERRIDDEN_RUN = "overridden_run"
"""Under this name it says which run had found what it overrides."""


def require_reason(reason: str, why: str, *, nothing: str) -> None:
    """Raise InputError for a reason without words: `why` is what to say, and nothing was done."""
    if not reason.strip():
        raise InputError(f"reason is required: say why {why}; nothing was {nothing}")


def line(
    way: Way,
    asset: str,
    partition: str,
    *,
    check: str,
    reason: str,
    actor: str,
    evidence: str,
    judged: str = "",
    new_regime: bool = False,
    until: str = "",
) -> dict[str, Any]:
    """One line of the ledger. Raises InputError when no reason is given."""
    require_reason(reason, "this gate may open", nothing="changed")
    return {
        "way": way,
        "asset": asset,
        "check": check,
        "partition": partition,
        "judged": judged,
        "new_regime": new_regime,
        "until": until,
        "reason": reason,
        "actor": actor,
        "evidence": evidence,
    }


def taken(lake: Lake, asked: Mapping[str, Range]) -> list[dict[str, Any]]:
    """Every way out that was taken for some days of some assets, oldest first."""
    return [
        entry
        for entry in WAYS_OUT.entries(lake, asset=list(asked))
        if asked[entry["asset"]][0] <= entry["partition"] <= asked[entry["asset"]][1]
    ]


def override_ended(evaluation: dg.AssetCheckEvaluation, lake: Lake | None, *, now: dt.datetime) -> bool:
    """Whether the override that an evaluation tells of has ended, or never was in the ledger.

    Without a lake, by what the evaluation says.
    """
    until = told(evaluation, UNTIL)
    if lake is not None:
        asset = evaluation.asset_key.to_user_string()
        until = overridden_until(lake, asset, evaluation.check_name, evaluation.partition or "")
    return not until or dt.datetime.fromisoformat(until) <= now


def overridden_until(lake: Lake, asset: str, check: str, partition: str) -> str:
    """When the newest override of a partition ends; empty when there never was one."""
    found = WAYS_OUT.entries(lake, way=["override"], asset=[asset], check=[check], partition=[partition])
    return found[-1]["until"] if found else ""
