"""What people name on the command line: assets and partitions, understood or refused with what could be meant."""

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Lineage, Node
from ml_platform.kernel.partitions import ONE_DAY, day, key_of

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


def partition_of(node: Node, partition: str | None) -> dt.date:
    """The day that a partition names, by default the newest that can be; InputError when the asset has none such."""
    if partition is None:
        newest = dt.datetime.now(dt.UTC).date() - (1 + node.lag_days) * ONE_DAY
        return min(newest, node.last_day or newest)
    try:
        date = day(partition)
    except ValueError:
        date = None
    if date is None or (node.partitioned and node.clip((date, date)) is None):
        raise InputError(
            f"--partition requires a day of {node.key}, from {node.first_day or 'any'} to "
            f"{node.last_day or 'now'}, such as 2018-08-01; got {partition!r}"
        )
    return date


def partitions_of(
    node: Node,
    named: Sequence[str],
    within: tuple[str | None, str | None],
    *,
    published: Sequence[str],
) -> list[str]:
    """The days that are named, or a range of the published ones, or all of them; InputError when that is none."""
    if named and any(within):
        raise InputError("either days or a range, --from and --to, are required; got both. Nothing was done")
    if named:
        return [key_of(partition_of(node, name)) for name in named]
    first, last = (name if name is None else key_of(partition_of(node, name)) for name in within)
    days = [key for key in published if (first or key) <= key <= (last or key)]
    if not days:
        raise InputError(
            f"published partitions of {node.key} are required{f' from {first}' if first else ''}"
            f"{f' to {last}' if last else ''}; there are none. Nothing was done; materialize it"
        )
    return days
