"""Feast's own commands in the cluster meet the stores that the platform meets."""

import os
from typing import Any

import pytest
import yaml

from ml_platform.features.store import store_config
from ml_platform.kernel.settings import Settings
from tests.k8s.cluster import OVERLAYS, config_map

SECRETS = {
    "ML_PLATFORM_FEAST_REGISTRY": "postgresql+psycopg2://feast:of-a-test@postgres:5432/feast",
    "ML_PLATFORM_ONLINE_STORE": "redis://:of-a-test@redis:6379/0",
}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_file_that_is_mounted_says_what_the_platform_builds_from_its_settings(
    overlay: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**config_map(overlay, "ml-platform"), **SECRETS}.items():
        monkeypatch.setenv(name, value)
    mounted: dict[str, Any] = yaml.safe_load(
        os.path.expandvars(config_map(overlay, "feature-store")["feature_store.yaml"])
    )
    built = store_config(Settings())
    for field in ("project", "provider", "registry", "offline_store", "entity_key_serialization_version"):
        assert mounted[field] == built[field]
    online = mounted["online_store"]
    assert online["type"] == built["online_store"]["type"]
    assert online["url"] == built["online_store"]["url"].get_secret_value()
    assert online["timeout_seconds"] > 1, "people wait longer than requests"
