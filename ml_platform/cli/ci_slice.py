"""Which partitions of which assets a sample slice can make: as many as read nothing from before it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.backfill_policy import BackfillPolicyType

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Lineage


@dataclass(frozen=True)
class Job:
    """One asset to materialize: without partitions, for one, or for a range in one run."""

    key: dg.AssetKey
    checks: tuple[str, ...]
    upstream: frozenset[dg.AssetKey]
    partitions: tuple[str, ...] = ()

    @property
    def asset(self) -> str:
        return self.key.to_user_string()


def jobs(graph: dg.JobDefinition, lineage: Lineage, first: str, last: str) -> list[Job]:
    """Every asset after what it reads, with its partitions in a slice; InputError when the slice has none of one's.

    An asset whose ranges are not made in one run is made for its newest day only, as it is large.
    """
    assets = graph.asset_layer.asset_graph
    found: dict[str, Job] = {}
    for key in assets.toposorted_asset_keys:
        node = assets.get(key)
        if not node.is_materializable:
            continue
        days: Sequence[str] = ()
        if node.partitions_def is not None:
            days = [k for k in node.partitions_def.get_partition_keys() if first <= k[: len(first)] <= last]
            days = _made_from_the_slice(key.to_user_string(), days, found, lineage)
            policy = node.backfill_policy
            if not days:
                raise _too_short(key, first, last)
            if policy is None or policy.policy_type != BackfillPolicyType.SINGLE_RUN:
                days = days[-1:]
        checks = tuple(sorted(check.name for check in assets.get_check_keys_for_assets({key})))
        job = Job(key, checks, frozenset(node.parent_keys), tuple(days))
        found[job.asset] = job
    return list(found.values())


def _made_from_the_slice(
    asset: str, days: Sequence[str], found: Mapping[str, Job], lineage: Lineage
) -> Sequence[str]:
    """Days of an asset that read only what the slice has made; before an upstream asset begins there is nothing."""
    node = lineage.nodes.get(asset)
    for upstream in node.upstream if node is not None else ():
        above, made = lineage.nodes.get(upstream.key), found.get(upstream.key)
        if above is None or above.first is None or made is None or upstream.latest:
            continue
        begins = made.partitions[0]
        if begins > above.first:
            reads = {key: above.cadence.covering(upstream.read_by((key, key))) for key in days}
            days = [key for key in days if reads[key][0] >= begins]
    return days


def _too_short(key: dg.AssetKey, first: str, last: str) -> InputError:
    return InputError(
        f"ci.yaml: a slice with a day of every asset, and all that the day reads, is required; {first} … {last} has "
        f"none of {key.to_user_string()}. Nothing was run; begin earlier or end later: `first`, `last`"
    )
