"""The small platform that tests share: each test's copy is its own."""

from pathlib import Path

from ml_platform.features.store import feature_store
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry


def test_a_copy_reads_and_writes_nothing_of_the_home_it_was_copied_from(
    built_home: Settings, built_once: Path
) -> None:
    stored = [path for part in ("feast", "mlflow") for path in (built_home.root / part).rglob("*.db")]
    assert len(stored) == 3
    for path in [*stored, *(built_home.root / "mlflow").rglob("MLmodel")]:
        assert str(built_once).encode() not in path.read_bytes(), path
    views = feature_store(built_home).list_feature_views()
    assert {Path(view.batch_source.path).parents[2] for view in views} == {built_home.root}


def test_a_copy_has_a_champion_with_its_model(built_home: Settings) -> None:
    champion = registry.champion(built_home, "fraud")
    assert champion is not None
    assert registry.load_onnx(built_home, champion)
