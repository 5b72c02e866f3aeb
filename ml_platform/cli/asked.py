"""What people name on the command line: assets and partitions, understood or refused with what could be meant."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.partitions import Cadence

if TYPE_CHECKING:  # it loads Dagster
    from ml_platform.compiler import AssetComponent

AssetArgument = Annotated[str, typer.Argument(help="An asset, such as `models/NAME`.")]


def node_of(lineage: Lineage, asset: str) -> Node:
    """The declared asset of a key; InputError when there is none."""
    if asset not in lineage.nodes:
        raise InputError(f"a declared asset is required: {', '.join(sorted(lineage.nodes))}; got {asset!r}")
    return lineage.nodes[asset]


def component_named(catalog: Catalog, asset: str) -> "AssetComponent":
    """The component that makes an asset; InputError when there is no such asset."""
    from ml_platform.compiler import AssetComponent, component_of

    node_of(catalog.lineage, asset)
    component = component_of(catalog.declaring(asset))
    assert isinstance(component, AssetComponent)  # only these make assets
    return component


def partition_of(node: Node, partition: str | None) -> str:
    """The key that is named, by default that of the newest partition; InputError when the asset has none such."""
    if partition is None:
        newest = node.newest(dt.datetime.now(dt.UTC))
        return min(newest, node.last or newest)
    key = _key_of(node.cadence, partition)
    if key is None or (node.partitioned and node.clip((key, key)) is None):
        raise InputError(
            f"--partition requires {node.cadence.one} of {node.key}, from {node.first or 'any'} to "
            f"{node.last or 'now'}, such as {node.cadence.example}; got {partition!r}"
        )
    return key


def _key_of(cadence: Cadence, partition: str) -> str | None:
    """What is named, as a key; None for what is none of this cadence."""
    try:
        return cadence.key(cadence.start(partition))
    except ValueError:
        return None


def partitions_of(
    node: Node,
    named: Sequence[str],
    within: tuple[str | None, str | None],
    *,
    published: Sequence[str],
) -> list[str]:
    """The partitions that are named, or a range of the published ones, or all; InputError when that is none."""
    if named and any(within):
        raise InputError("either days or a range, --from and --to, are required; got both. Nothing was done")
    if named:
        return [partition_of(node, name) for name in named]
    first, last = (name if name is None else partition_of(node, name) for name in within)
    found = [key for key in published if (first or key) <= key <= (last or key)]
    if not found:
        raise InputError(
            f"published partitions of {node.key} are required{f' from {first}' if first else ''}"
            f"{f' to {last}' if last else ''}; there are none. Nothing was done; materialize it"
        )
    return found
