"""What a project declares, as plain values: what two versions of it are compared by.

`python -m ml_platform.plan.description` prints it, so that the code of another version can describe itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ml_platform import declarations
from ml_platform.compiler import AssetComponent, component_of
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.spec import (
    DECIDES_NO_VALUE,
    FeatureServiceSpec,
    FeatureViewSpec,
    OnDemandFeaturesSpec,
)
from ml_platform.kernel.catalog import Catalog, DeclaresAssets
from ml_platform.kernel.digest import digest_of, source_digest
from ml_platform.kernel.lineage import Node
from ml_platform.kernel.settings import settings
from ml_platform.kernel.spec import NamedSpec, Spec
from ml_platform.models.spec import ModelSpec
from ml_platform.online.spec import OnlineStoreSpec
from ml_platform.sources.spec import SourceSpec
from ml_platform.training_sets.spec import TrainingSetSpec


class Declaration(Spec):
    """One declaration with everything that it says, defaults included."""

    file: str = Field(description="Where it is declared, below the project's root.")
    content: str = Field(description="Digest of its content, as publications record it.")
    fields: Mapping[str, Any] = Field(description="Its fields as JSON values.")


class Asset(Spec):
    """One asset: where it stands in the graph, and what its rows depend on beside their inputs."""

    declaration: str = Field(description="The declaration that it is made by, such as `FeatureView NAME`.")
    published: bool = Field(
        description="Are its partitions published in the lake, with a line in the ledger?"
    )
    rechecked: bool = Field(description="Can what is published be judged again without being made again?")
    node: Node = Field(description="Its days, what it reads and its blocking checks.")
    columns: Mapping[str, str] = Field(description="Type of each column that it shows.")
    reads: Mapping[str, str] = Field(
        description="Digests of declarations without assets that decide its rows."
    )
    code: Mapping[str, str] = Field(description="Digests of modules and functions that decide its rows.")


class Described(Spec):
    """A feature, as readers see it."""

    type: str = Field(description="Its type.")
    definition: str = Field(default="", description="Digest of what is declared and decides its values.")
    sentence: str = Field(description="What it is, with its window.")


class View(Spec):
    """A feature view, as those who read it online see it."""

    online: bool = Field(description="Is it published online?")
    keys: Mapping[str, str] = Field(description="Type by column of its entities' keys.")
    features: Mapping[str, Described] = Field(description="Its features, in declared order.")


class Description(Spec):
    """Everything that a project declares, at one moment."""

    format: Literal[2] = Field(default=2, description="Version of this form: another one is not understood.")
    has_code: bool = Field(description="Are digests of code known?")
    declarations: Mapping[str, Declaration] = Field(description="By kind and name.")
    assets: Mapping[str, Asset] = Field(description="By key.")
    views: Mapping[str, View] = Field(description="Feature views by name.")
    on_demand: Mapping[str, Mapping[str, str]] = Field(
        description="Type of each output, by on-demand features."
    )
    services: Mapping[str, tuple[str, ...]] = Field(description="Features in order, by feature service.")
    requests: Mapping[str, Mapping[str, str]] = Field(
        default_factory=dict, description="Type of each request value, by feature service."
    )
    on_demand_code: Mapping[str, tuple[str, str]] = Field(
        default_factory=dict, description="Digests of declaration and function, by on-demand features."
    )
    models: Mapping[str, str] = Field(description="Feature service by model.")


def describe(catalog: Catalog, root: Path | None = None, *, with_code: bool = True) -> Description:
    """The description of a catalog whose files are below a root, by default the project's.

    Without code where it is another version's.
    """
    root = root or settings().declared_in.root
    published = {view.name for store in catalog.all(OnlineStoreSpec) for view in store.view_specs(catalog)}
    services = catalog.all(FeatureServiceSpec)
    return Description(
        has_code=with_code,
        declarations={
            name_of(spec): Declaration(
                file=_relative(catalog.origins[key], root),
                content=spec.digest(),
                fields=spec.model_dump(mode="json", by_alias=True),
            )
            for key, spec in catalog.specs.items()
        },
        assets={
            node.key: _asset(spec, node, catalog, with_code=with_code)
            for spec in catalog.specs.values()
            if isinstance(spec, DeclaresAssets)
            for node in spec.nodes(catalog)
        },
        views={v.name: _view(v, catalog, online=v.name in published) for v in catalog.all(FeatureViewSpec)},
        on_demand={spec.name: dict(spec.outputs) for spec in catalog.all(OnDemandFeaturesSpec)},
        services={service.name: tuple(service.feature_names(catalog)) for service in services},
        requests={
            service.name: {name: field.type for name, field in service.request_fields(catalog).items()}
            for service in services
        },
        on_demand_code={
            spec.name: (_without_words(spec), source_digest(spec.function) if with_code else "")
            for spec in catalog.all(OnDemandFeaturesSpec)
        },
        models={
            model.name: model.training_set_spec(catalog).feature_service for model in catalog.all(ModelSpec)
        },
    )


def name_of(spec: NamedSpec) -> str:
    """Kind and name of a declaration: `FeatureView NAME`."""
    return f"{type(spec).__name__.removesuffix('Spec')} {spec.name}"


def _asset(spec: Any, node: Node, catalog: Catalog, *, with_code: bool) -> Asset:
    component = component_of(spec)
    own = component if isinstance(component, AssetComponent) else None
    schema = own.metadata(catalog).get("dagster/column_schema") if own is not None else None
    service = spec.service(catalog) if isinstance(spec, DriftProfileSpec | TrainingSetSpec) else None
    on_demand = service.on_demand_specs(catalog) if service is not None else []
    modules = [f"ml_platform.{name}" for name in own.code] if own is not None else []
    paths = [*modules, *(found.function for found in on_demand)] if with_code else []
    return Asset(
        declaration=name_of(spec),
        published=isinstance(spec, SourceSpec | FeatureViewSpec | DriftProfileSpec | TrainingSetSpec),
        rechecked=own is not None and type(own).rechecked is not AssetComponent.rechecked,
        node=node,
        columns={column.name: column.type for column in schema.columns} if schema is not None else {},
        reads={name_of(found): found.digest() for found in (service, *on_demand) if found is not None},
        code={path: source_digest(path) for path in paths},
    )


def _view(view: FeatureViewSpec, catalog: Catalog, *, online: bool) -> View:
    definitions = view.definitions(catalog)
    return View(
        online=online,
        keys={key: view.row_types(catalog)[key] for key in view.entity_keys},
        features={
            f.name: Described(type=f.type, definition=definitions[f.name], sentence=f.sentence)
            for f in view.features(catalog)
        },
    )


def _without_words(spec: OnDemandFeaturesSpec) -> str:
    return digest_of(spec.model_dump(mode="json", by_alias=True, exclude={*DECIDES_NO_VALUE}))


def _relative(path: str, root: Path) -> str:
    return str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path


if __name__ == "__main__":
    print(describe(declarations.load()).model_dump_json())
