"""The asset graph as data: `graph.yaml` beside this file is what Dagster is told, for people to review.

After a change that is meant, write it again and read the difference:

    .venv/bin/python -m tests.platform.test_graph
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from tests.support import all_assets

SNAPSHOT = Path(__file__).with_name("graph.yaml")
EVENT_IDS = {"training_sets/fraud": "transaction_id", "training_sets/demand": "slot_id"}


def graph() -> dict[str, Any]:
    """Every asset by key, with all that people and Dagster's own machinery see of it."""
    found = sorted(all_assets().asset_layer.asset_graph.assets_defs, key=lambda made: str(made.keys))
    return {asset.key.to_user_string(): described(asset) for asset in found}


def described(asset: dg.AssetsDefinition) -> dict[str, Any]:
    """One asset as plain values."""
    (spec,) = asset.specs
    schema = column_schema(spec)
    return {
        "description": spec.description,
        "group": spec.group_name,
        "owners": ", ".join(sorted(spec.owners)),
        "kinds": ", ".join(sorted(spec.kinds)),
        "partitions": partitions(asset.partitions_def),
        "range_in_one_run": asset.backfill_policy == dg.BackfillPolicy.single_run(),
        "deps": {dep.asset_key.to_user_string(): mapping(dep.partition_mapping) for dep in spec.deps},
        "checks": {check.name: check_terms(check) for check in sorted(asset.check_specs)},
        "automation": automation(spec.automation_condition),
        "columns": [column.name for column in schema.columns] if schema else None,
        "column_lineage": lineage(spec.metadata),
    }


def check_terms(check: dg.AssetCheckSpec) -> str:
    """What a check holds, and whether it stops what follows."""
    return f"{'blocking' if check.blocking else 'reports'}: {check.description}"


def automation(condition: dg.AutomationCondition | None) -> str | None:
    """When the asset is made without being asked, in the labels of its conditions."""
    if condition is None or condition.get_label():
        return condition and condition.get_label()
    return " and ".join(filter(None, map(automation, condition.children))) or condition.name


def partitions(found: dg.PartitionsDefinition | None) -> str | None:
    """First and last partition, or what is open."""
    if found is None:
        return None
    assert isinstance(found, dg.TimeWindowPartitionsDefinition)
    last = found.get_last_partition_key() if found.end else f"today {found.end_offset:+d}"
    return f"{found.get_first_partition_key()} … {last}"


def mapping(found: dg.PartitionMapping | None) -> str:
    """Which upstream partitions partition `d` reads."""
    if found is None:
        return "all of it"
    if isinstance(found, dg.LastPartitionMapping):
        return "the newest partition"
    assert isinstance(found, dg.TimeWindowPartitionMapping)
    return f"d{found.start_offset:+d} … d{found.end_offset:+d}"


def column_schema(spec: dg.AssetSpec) -> dg.TableSchema | None:
    """The columns that the catalog shows."""
    found = spec.metadata.get("dagster/column_schema")
    return found.schema if isinstance(found, dg.TableSchemaMetadataValue) else found


def lineage(metadata: Mapping[str, Any]) -> dict[str, str] | None:
    """Upstream columns of each column, as `asset.column, asset.column`."""
    found = metadata.get("dagster/column_lineage")
    found = found.column_lineage if isinstance(found, dg.TableColumnLineageMetadataValue) else found
    if found is None:
        return None
    return {
        column: ", ".join(f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps)
        for column, deps in found.deps_by_column.items()
    }


def recorded() -> dict[str, Any]:
    return yaml.safe_load(SNAPSHOT.read_text())


def test_the_graph_has_the_assets_that_are_recorded() -> None:
    assert sorted(graph()) == sorted(recorded()), f"if this is meant: {__doc__}"


@pytest.mark.parametrize("key", sorted(recorded()) if SNAPSHOT.exists() else [])
def test_an_asset_is_as_recorded(key: str) -> None:
    assert graph()[key] == recorded()[key], f"if this is meant: {__doc__}"


def test_every_asset_has_an_owner_a_description_kinds_and_a_code_version() -> None:
    for asset in all_assets().asset_layer.asset_graph.assets_defs:
        (spec,) = asset.specs
        assert spec.owners, spec.key
        assert spec.description, spec.key
        assert spec.kinds, spec.key
        assert spec.code_version, spec.key


def test_every_asset_is_a_pool_of_its_own() -> None:
    pools = {
        asset.key.to_user_string(): asset.op.pool
        for asset in all_assets().asset_layer.asset_graph.assets_defs
    }
    assert pools == {key: key for key in recorded()}


def test_every_feature_and_every_training_column_says_where_it_comes_from() -> None:
    for key, asset in graph().items():
        if key.startswith(("features/", "training_sets/")):
            assert set(asset["column_lineage"]) <= set(asset["columns"]), key
            bare = set(asset["columns"]) - set(asset["column_lineage"])
            assert bare <= {EVENT_IDS.get(key), "event_timestamp", "created_timestamp", "split"}, key


def test_every_column_lineage_ends_at_a_column_that_exists() -> None:
    assets = graph()
    for key, asset in assets.items():
        for column, origins in (asset["column_lineage"] or {}).items():
            for origin in origins.split(", "):
                upstream, _, name = origin.rpartition(".")
                assert name in assets[upstream]["columns"], f"{key}.{column}: {origin}"


if __name__ == "__main__":
    SNAPSHOT.write_text(yaml.safe_dump(graph(), sort_keys=False, allow_unicode=True, width=110))
