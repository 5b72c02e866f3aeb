"""What is declared, and so what is told of: how many series there are follows from declarations, never from data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.partitions import Range, shifted


@dataclass(frozen=True)
class Declared:
    """Assets, and their checks by asset and name with whether they block, as they were when the process began."""

    catalog: Catalog
    assets: tuple[str, ...]
    checks: Mapping[tuple[str, str], bool]

    @classmethod
    def now(cls) -> Self:
        """Everything that Dagster is given to run."""
        from ml_platform import declarations
        from ml_platform.kernel.settings import settings

        graph = settings().declared_in.definitions().resolve_asset_graph()
        checks = {
            (key.asset_key.to_user_string(), key.name): graph.get_check_spec(key).blocking
            for key in graph.asset_check_keys
        }
        assets = sorted(key.to_user_string() for key in graph.materializable_asset_keys)
        return cls(declarations.load(), tuple(assets), dict(sorted(checks.items())))

    def partitions_read(self, newest: str) -> Mapping[str, Range]:
        """By asset what is read by whatever is made of the newest partition of all, that itself included."""
        lineage = self.catalog.lineage
        found: dict[str, Range] = {}
        for key, node in lineage.nodes.items():
            made = shifted(node.cadence.covering((newest, newest))[1], -node.lag)
            itself = node.clip((made, made))
            if itself is None:
                continue
            for asset, (first, last) in {key: itself, **lineage.upstream_partitions(key, made)}.items():
                known = found.get(asset, (first, last))
                found[asset] = min(known[0], first), max(known[1], last)
        return found

    def partitioned(self, asset: str) -> bool:
        """Whether an asset has partitions."""
        node = self.catalog.lineage.nodes.get(asset)
        return node is not None and node.partitioned
