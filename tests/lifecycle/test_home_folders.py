"""No character of a home's path is read as a pattern, or as the end of a text; what cannot work is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from ml_platform.cli.main import app
from ml_platform.features.store import declared_store
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings, settings
from tests.lifecycle.late_payments import PAYMENTS, SPENDING, World

DAYS = ("2018-04-01", "2018-04-02", "2018-04-03")
NOON = "2018-04-03T12:00:00+00:00"


def lake(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["lake", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def spent(world: World) -> list[float]:
    """What customer 1 had spent within a day and within three, for who asks at noon of the last day."""
    version = world.lake.table(SPENDING).version()
    assert version is not None
    asked = pd.DataFrame({"customer_id": [1], "event_timestamp": [pd.Timestamp(NOON)]})
    names = ["amount_sum_1d", "amount_sum_3d"]
    with declared_store(world.settings, world.catalog, versions={SPENDING: version}) as store:
        answer = store.get_historical_features(asked, [f"spending:{name}" for name in names]).to_arrow()
    assert answer.num_rows == 1
    return [answer.column(name)[0].as_py() for name in names]


def test_a_home_may_be_in_a_folder_of_almost_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = """it's * #1 {x} "q" %"""
    monkeypatch.setenv("ML_PLATFORM_HOME", str(tmp_path / name))
    world = World(settings().prepare())
    world.deliver("payments", [f"{i},{day}T10:00:00,1,5.0," for i, day in enumerate(DAYS)])
    world.make(PAYMENTS, DAYS)
    world.make(SPENDING, DAYS)
    shutil.copytree(tmp_path / name, tmp_path / name.replace("*", "2"))  # it would match, were it a pattern
    assert spent(world) == [5.0, 10.0]

    world.deliver("payments", ["9,2018-04-01T11:00:00,1,2.0,"], known_at="2018-04-02T00:00:00")
    assert world.settle() == {PAYMENTS: {DAYS[0]}, SPENDING: set(DAYS)}
    before = world.hashes()
    assert lake("compact")["compacted"]
    assert lake("vacuum", "--older-than", "0s")["files"] > 0
    assert world.hashes() == before and world.stale_days() == {}
    assert spent(world) == [5.0, 12.0]


@pytest.mark.parametrize("name", ["[1]", "a]", "a^b", "a|b", "a\\b", "really?", "50%20"])
def test_a_home_in_which_a_store_would_fail_or_write_elsewhere_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="ML_PLATFORM_HOME: a folder is required whose path has none of"):
        Settings(home=tmp_path / name).prepare()
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert Settings(home=tmp_path / "home", lake=f"s3://lake/{name}").prepare()
