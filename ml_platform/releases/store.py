"""The promotion ledger: which version became champion, after which, by whom, why and on what evidence."""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from ml_platform.kernel.settings import Settings
from ml_platform.lake.ledger import Ledger
from ml_platform.lake.tables import Lake
from ml_platform.model_registry import registry

PROMOTIONS = Ledger(
    "promotions",
    {
        "release": pa.string(),
        "model": pa.string(),
        "version": pa.int64(),
        "previous": pa.int64(),
        "actor": pa.string(),
        "reason": pa.string(),
        "evidence": pa.string(),
    },
)


def promote(
    settings: Settings,
    release: str,
    candidate: registry.Registered,
    *,
    reason: str,
    evidence: Mapping[str, Any],
) -> registry.Registered | None:
    """Write the promotion to the ledger, then move the champion alias; the champion before, if any."""
    before = registry.champion(settings, candidate.name)
    entry = {
        "release": release,
        "model": candidate.name,
        "version": candidate.version,
        "previous": before.version if before else None,
        "actor": settings.who,
        "reason": reason,
        "evidence": json.dumps(evidence, sort_keys=True),
    }
    PROMOTIONS.append(Lake(settings.lake_uri), [entry])
    registry.set_champion(settings, candidate.name, candidate.version)
    return before


def history(settings: Settings, release: str) -> list[dict[str, Any]]:
    """All promotions of a release, oldest first."""
    entries = PROMOTIONS.entries(Lake(settings.lake_uri))
    return [entry for entry in entries if entry["release"] == release]
