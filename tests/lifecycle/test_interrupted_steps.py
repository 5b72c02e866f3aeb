"""A step that died between publishing and saying what its checks found opens no gate."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from ml_platform.cli.story import scaled
from ml_platform.gates.guard import closed_gates
from ml_platform.kernel.partitions import day, key_of
from tests.built import NEXT_DAY, Platform
from tests.support import LAST_DAY

PROFILE, TRAINING_SET, MODEL = "drift_profiles/fraud", "training_sets/fraud", "models/fraud"


def dies(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def closed(platform: Platform, asset: str) -> set[str]:
    lineage = platform.catalog.lineage
    found = closed_gates(platform.instance, lineage, MODEL, LAST_DAY, lake=platform.lake)
    return {gate.reason for gate in found if gate.asset == asset}


def test_a_profile_that_died_after_its_drifted_day_was_published_keeps_the_gate_closed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What passed before was about other rows, although it is still the latest that Dagster knows."""
    rows = platform.delivered()
    of_day = pc.equal(pc.cast(rows.column("tx_datetime"), pa.date32()), pa.scalar(day(LAST_DAY)))
    dearer = scaled(rows.filter(of_day), "tx_amount", by=1.5)
    platform.deliver("transactions", dearer, known_at=f"{NEXT_DAY} 00:00:00+00:00")
    platform.make("sources/transactions", LAST_DAY)
    with monkeypatch.context() as patch:
        patch.setattr("ml_platform.drift_profiles.component.write_reports", dies)
        platform.refused(PROFILE, LAST_DAY)
    assert closed(platform, PROFILE) == {"outdated"}
    assert (
        f"{PROFILE} [{LAST_DAY}] drift: was materialized again after its last evaluation"
        in platform.refused(MODEL, LAST_DAY)
    )
    assert "amount: ks" in platform.refused(PROFILE, LAST_DAY)
    assert closed(platform, PROFILE) == {"failed"}


def test_a_training_set_that_died_before_its_labels_were_judged_keeps_the_gate_closed(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = key_of(day(LAST_DAY) - dt.timedelta(days=7))
    platform.relabel(newest, frauds=60, known_at=f"{NEXT_DAY} 00:00:00+00:00")
    with monkeypatch.context() as patch:
        patch.setattr("ml_platform.training_sets.component.label_drift", dies)
        platform.refused(TRAINING_SET, LAST_DAY)
    assert closed(platform, TRAINING_SET) == {"outdated"}
    assert "was materialized again after its last evaluation" in platform.refused(MODEL, LAST_DAY)
