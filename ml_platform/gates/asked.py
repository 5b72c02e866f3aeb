"""What people name when they ask about gates, in a command or in the UI: understood, or refused with what is there."""

import datetime as dt
from collections.abc import Sequence

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check, Lineage, Node
from ml_platform.kernel.partitions import Cadence


def node_of(lineage: Lineage, asset: str) -> Node:
    """The declared asset of a key; InputError when there is none."""
    if asset not in lineage.nodes:
        raise InputError(f"a declared asset is required: {', '.join(sorted(lineage.nodes))}; got {asset!r}")
    return lineage.nodes[asset]


def partition_of(node: Node, partition: str | None) -> str:
    """The key that is named, by default that of the newest partition; InputError when the asset has none such."""
    if partition is None:
        newest = node.newest(dt.datetime.now(dt.UTC))
        return min(newest, node.last or newest)
    key = _key_of(node.cadence, partition)
    if key is None or (node.partitioned and node.clip((key, key)) is None):
        raise InputError(
            f"partition requires {node.cadence.one} of {node.key}, from {node.first or 'any'} to "
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


def check_of(node: Node, name: str | None) -> Check:
    """A blocking check of an asset by its name, or its only one; InputError when that is none."""
    known = ", ".join(check.name for check in node.blocking_checks) or "none"
    found = node.check(name) if name else None
    if name is None and len(node.blocking_checks) == 1:
        found = node.blocking_checks[0]
    if found is None:
        raise InputError(f"check requires one of the checks of {node.key}: {known}; got {name or 'none'}")
    return found


def drift_check_of(lineage: Lineage, asset: str) -> str:
    """The drift check of an asset; InputError when it has none."""
    with_drift = {
        key: check.name
        for key, node in lineage.nodes.items()
        for check in node.blocking_checks
        if "drift" in check.name
    }
    if asset not in with_drift:
        raise InputError(
            f"an asset with a drift check is required: {', '.join(sorted(with_drift))}; got {asset!r}"
        )
    return with_drift[asset]


def end_of(until: str | None, hours: float | None, *, now: dt.datetime) -> dt.datetime:
    """When something ends of which a time is said, or how many hours from now on; InputError for neither and both."""
    if (until is None) == (hours is None):
        came = "neither" if until is None else "both"
        raise InputError(f"either until or hours is required; got {came}. Nothing was changed")
    if until is not None:
        return time_of(until)
    try:
        return now + dt.timedelta(hours=hours or 0)
    except (ValueError, OverflowError) as err:
        raise InputError(f"hours requires a number such as 12; got {hours}. Nothing was changed") from err


def time_of(text: str) -> dt.datetime:
    """A time in UTC; InputError for what is none."""
    try:
        found = dt.datetime.fromisoformat(text)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (ValueError, OverflowError) as err:
        raise InputError(f"until requires a time such as 2018-10-05T12:00; got {text!r}") from err
