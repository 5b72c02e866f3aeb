"""What people name on the command line, and the component that is meant by it."""

from typing import TYPE_CHECKING, Annotated

import typer

from ml_platform.cli.completing import assets
from ml_platform.gates.asked import node_of
from ml_platform.kernel.catalog import Catalog

if TYPE_CHECKING:  # it loads Dagster
    from ml_platform.compiler import AssetComponent

AssetArgument = Annotated[str, typer.Argument(help="An asset, such as `models/NAME`.", autocompletion=assets)]


def component_named(catalog: Catalog, asset: str) -> "AssetComponent":
    """The component that makes an asset; InputError when there is no such asset."""
    from ml_platform.compiler import AssetComponent, component_of

    node_of(catalog.lineage, asset)
    component = component_of(catalog.declaring(asset))
    assert isinstance(component, AssetComponent)  # only these make assets
    return component
