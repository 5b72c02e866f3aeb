"""A spec becomes a Dagster component: its YAML schema, one asset, its checks, automation and guard.

The graph that Dagster shows and the graph that the gates walk come from the same `kernel.lineage.Node`.
"""

import datetime as dt
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
from pydantic import BaseModel

from ml_platform import declarations
from ml_platform.gates import guard
from ml_platform.gates.actors import actor_of
from ml_platform.gates.conditions import upstream_checks_passed
from ml_platform.gates.outcomes import Outcome
from ml_platform.gates.recording import record
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.digest import digest_of, source_digest
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check, Node, Upstream
from ml_platform.kernel.partitions import DAILY, CadenceName, shifted
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import NamedSpec
from ml_platform.kernel.telemetry import step_span
from ml_platform.lake.tables import Lake
from ml_platform.scaffolding.scaffolder import scaffolder_of

CRONS: dict[CadenceName, str] = {"daily": "0 6 * * *", "hourly": "10 * * * *"}
"""When the chain of days or hours runs, in UTC: each asset once what it reads was updated since."""

CHECK_DESCRIPTIONS = {
    "quality": "The rows fulfil every declared expectation.",
    "drift": "The day's feature rows are distributed as those of the accepted days before.",
    "label_drift": "The newest matured day has the label rate of the accepted matured days before.",
    "onnx_parity": "The registered ONNX model answers what the trained estimator answers, on every test row.",
    "not_worse_than_champion": "The new version is not worse than the champion on the same test rows.",
    "calibrated": "The new version's scores can be read as probabilities.",
    "within_latency_budget": "The new version scores a single row as fast as it has to.",
    "online_offline_consistency": "The features of logged predictions are what the offline tables give for them.",
    "prediction_drift": "The day's scores are distributed as those of the days before.",
    "training_drift": "The day's logged features are distributed as those that the version was trained on.",
    "concept_drift": "The version is as good on matured labels as it was when it was evaluated.",
}


@dataclass(frozen=True)
class Step:
    """What a running step is given: Dagster's context, the partitions to make, the declarations."""

    context: dg.AssetExecutionContext
    partitions: tuple[str, ...]
    catalog: Catalog

    @property
    def resources(self) -> Any:
        return self.context.resources

    @property
    def log(self) -> Any:
        return self.context.log

    @property
    def run_id(self) -> str:
        return self.context.run.run_id

    @property
    def actor(self) -> str:
        return actor_of(self.context.run.tags, self.resources.environment)


Work = Callable[[Step], Sequence[Outcome]]


@dataclass(frozen=True)
class AssetPlan:
    """One asset to compile: where it stands in the graph, what it does and how it is shown."""

    node: Node
    work: Work
    spec: NamedSpec
    kinds: frozenset[str]
    resources: frozenset[str] = frozenset({"environment"})
    one_run_per_range: bool = True
    gated: bool = False
    cron: str | None = CRONS["daily"]
    code_version: str = ""
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


class SpecComponent(dg.Component):
    """Base of the platform's components: the frozen spec is the YAML schema."""

    spec_type: ClassVar[type[NamedSpec]]

    def __init__(self, spec: Any) -> None:
        self.spec = spec

    def __init_subclass__(cls, **given: Any) -> None:
        """What declares a component also says how `dg scaffold defs` writes a new declaration of it."""
        super().__init_subclass__(**given)
        if "spec_type" in cls.__dict__:
            dg.scaffold_with(scaffolder_of(cls.spec_type))(cls)

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        return cls.spec_type

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        return cls(attributes)

    @abstractmethod
    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        """The assets of this declaration; none for a declaration that others only refer to."""

    def sensors(self, catalog: Catalog) -> Sequence[dg.SensorDefinition]:
        """The sensors of this declaration; most have none."""
        return []

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        catalog = declarations.load(Path(context.defs_module_path))
        # The catalog's has the text of the files beside it.
        self.spec: Any = catalog.get(self.spec_type, self.spec.name, wanted_by="its component")
        return dg.Definitions(
            assets=[compile_asset(plan, catalog) for plan in self.plans(catalog)],
            sensors=list(self.sensors(catalog)),
        )


class AssetComponent(SpecComponent):
    """Base of the components that become one asset: what differs between stages, and nothing else."""

    kinds: ClassVar[frozenset[str]]
    resources: ClassVar[frozenset[str]] = frozenset({"environment"})
    one_run_per_range: ClassVar[bool] = True
    gated: ClassVar[bool] = False
    code: ClassVar[tuple[str, ...]] = ()
    """Modules of the platform that decide what the asset's values are."""

    @abstractmethod
    def work(self, step: Step) -> Sequence[Outcome]:
        """What the asset does for the partitions of one step."""

    def code_version(self, catalog: Catalog) -> str:
        """Changes when what the asset computes from the same data may change."""
        modules = [source_digest(f"ml_platform.{name}") for name in self.code]
        return digest_of([self.spec.digest(), *modules]) if modules else self.spec.digest()

    def rechecked(self, catalog: Catalog, settings: Settings, partitions: Sequence[str]) -> Sequence[Outcome]:
        """What is published of some partitions, judged by what is declared now; no rows are written."""
        raise InputError(
            f"{self.spec.key}: its checks judge how it is made, so it cannot be judged again as it is. Nothing was "
            f"evaluated; materialize it"
        )

    def forget_delivery(
        self, settings: Settings, partition: str, *, since: str, reason: str, actor: str
    ) -> None:
        """Let what was delivered for a partition after its published version count no more; nothing by default."""

    def cron(self, catalog: Catalog) -> str:
        """When the asset is made on its own, in UTC."""
        return CRONS[self.spec.nodes(catalog)[0].partitions]

    def metadata(self, catalog: Catalog) -> Mapping[str, Any]:
        """What the definition itself shows: column schema, column lineage."""
        return {}

    def plans(self, catalog: Catalog) -> Sequence[AssetPlan]:
        return [
            AssetPlan(
                node=self.spec.nodes(catalog)[0],
                work=self.work,
                spec=self.spec,
                kinds=self.kinds,
                resources=self.resources,
                one_run_per_range=self.one_run_per_range,
                gated=self.gated,
                cron=self.cron(catalog),
                code_version=self.code_version(catalog),
                metadata=self.metadata(catalog),
            )
        ]


def component_of(spec: NamedSpec) -> SpecComponent:
    """The component of a declaration: of the same name without `Spec`, in the stage's `component.py`."""
    module = importlib.import_module(f"{type(spec).__module__.removesuffix('.spec')}.component")
    return getattr(module, type(spec).__name__.removesuffix("Spec"))(spec)


def compile_asset(plan: AssetPlan, catalog: Catalog) -> dg.AssetsDefinition:
    """The Dagster asset of a plan: partitions, dependencies, checks, guard and automation."""
    node = plan.node
    with warnings.catch_warnings():
        # Partitioned checks, range runs and lookback mappings are preview or beta in Dagster 1.13.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        warnings.simplefilter("ignore", dg.BetaWarning)
        partitions = partitions_of(node)

        @dg.asset(
            key=dg.AssetKey(node.key.split("/")),
            deps=[_dependency(upstream, catalog) for upstream in node.dependencies],
            partitions_def=partitions,
            backfill_policy=_backfill_policy(plan),
            group_name=catalog.use_case(plan.spec) or node.key.split("/")[0],
            tags=_tags(plan, catalog),
            owners=list(plan.spec.owners),
            kinds=set(plan.kinds),
            description=plan.description or plan.spec.description or None,
            code_version=plan.code_version or plan.spec.digest(),
            metadata=dict(plan.metadata),
            op_tags=_pod_tags(plan.spec),
            pool=node.key,
            automation_condition=_automation(plan, catalog),
            output_required=False,
            required_resource_keys=set(plan.resources),
            check_specs=[_check_spec(node, check, partitions) for check in node.checks],
        )
        def compiled(context: dg.AssetExecutionContext):  # noqa: ANN202 - Dagster would read it as an output type
            keys = tuple(context.partition_keys) if partitions is not None else ()
            with _traced(plan, context, keys):
                if plan.gated:
                    _require_open_gates(plan, context, keys, catalog)
                outcomes = plan.work(Step(context, keys, catalog))
                yield from record(context, [outcome.judged_by(node.checks) for outcome in outcomes])

    return compiled


def _tags(plan: AssetPlan, catalog: Catalog) -> dict[str, str]:
    """What the UI can search assets by: their stage, and the use case that they are of."""
    use_case = catalog.use_case(plan.spec)
    tags = {"ml_platform/stage": plan.node.key.split("/")[0]}
    return {**tags, "ml_platform/use_case": use_case} if use_case else tags


def _pod_tags(spec: NamedSpec) -> dict[str, Any]:
    """What dagster-k8s gives the pod of the asset's step; it means nothing to other executors."""
    return {"dagster-k8s/config": {"container_config": spec.compute.container()}} if spec.compute else {}


def _traced(
    plan: AssetPlan, context: dg.AssetExecutionContext, keys: Sequence[str]
) -> AbstractContextManager[None]:
    """The span of a step, where a collector is set."""
    endpoint = context.resources.environment.otlp_endpoint if "environment" in plan.resources else None
    return step_span(endpoint, asset=plan.node.key, partitions=keys, run_id=context.run.run_id)


def _check_spec(
    node: Node, check: Check, partitions: dg.TimeWindowPartitionsDefinition | None
) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        name=check.name,
        asset=dg.AssetKey(node.key.split("/")),
        blocking=check in node.blocking_checks,
        partitions_def=partitions,
        description=CHECK_DESCRIPTIONS.get(check.name),
    )


def _require_open_gates(
    plan: AssetPlan, context: dg.AssetExecutionContext, keys: Sequence[str], catalog: Catalog
) -> None:
    """Raise Dagster's Failure at the first partition that a gate upstream closes."""
    lake = Lake(context.resources.environment.lake_uri) if "environment" in plan.resources else None
    for key in keys:
        guard.require_open(context.instance, catalog.lineage, plan.node.key, key, lake=lake)


def partitions_of(node: Node) -> dg.TimeWindowPartitionsDefinition | None:
    """The Dagster partitions of a node; the last day is included."""
    if node.first is None:
        return None
    kind = dg.DailyPartitionsDefinition if node.cadence == DAILY else dg.HourlyPartitionsDefinition
    if node.last is None:
        return kind(node.first, end_offset=-node.lag)
    return kind(node.first, end_date=shifted(node.last, 1))


def _backfill_policy(plan: AssetPlan) -> dg.BackfillPolicy | None:
    if not plan.node.partitioned:
        return None
    return dg.BackfillPolicy.single_run() if plan.one_run_per_range else dg.BackfillPolicy.multi_run(1)


def _automation(plan: AssetPlan, catalog: Catalog) -> dg.AutomationCondition | None:
    """Once a day or an hour after what it reads was updated; what is gated also waits for every gate upstream.

    An upstream of which only days before the newest are read was complete long ago, and so was one of which a day
    reads the hours: nobody waits for it, nor for one that is declared so.
    """
    if plan.cron is None:
        return None
    condition = dg.AutomationCondition.on_cron(plan.cron)
    node = plan.node
    complete = [
        dg.AssetKey(upstream.key.split("/"))
        for upstream in node.dependencies
        if not upstream.awaited or _complete_before(catalog.node(upstream.key), upstream, node)
    ]
    if complete:
        condition = condition.ignore(dg.AssetSelection.assets(*complete))
    return condition & upstream_checks_passed() if plan.gated else condition


def _complete_before(above: Node, upstream: Upstream, node: Node) -> bool:
    """Whether all that a partition reads of an upstream was complete before the partition itself is."""
    mine, theirs = node.cadence.period, above.cadence.period if above.partitioned else node.cadence.period
    ends = upstream.last * mine + max(theirs - mine, dt.timedelta(0))
    return not upstream.latest and (ends < dt.timedelta(0) or above.delay < node.delay or theirs < mine)


def _dependency(upstream: Upstream, catalog: Catalog) -> dg.AssetDep:
    mapping = mapping_of(upstream, catalog.node(upstream.key))
    return dg.AssetDep(dg.AssetKey(upstream.key.split("/")), partition_mapping=mapping)


def mapping_of(upstream: Upstream, above: Node) -> dg.PartitionMapping | None:
    """Dagster's word for what is read of an upstream, whose offsets are in the reader's periods as well."""
    if not above.partitioned:
        return None
    if upstream.latest:
        return dg.LastPartitionMapping()
    return dg.TimeWindowPartitionMapping(
        start_offset=upstream.first, end_offset=upstream.last, allow_nonexistent_upstream_partitions=True
    )
