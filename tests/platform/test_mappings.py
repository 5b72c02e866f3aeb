"""Dagster maps partitions as the lineage does that the gates walk, whether days read hours or hours days."""

import datetime as dt
import warnings
from typing import get_args

import dagster as dg
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.compiler import mapping_of, partitions_of
from ml_platform.kernel.lineage import Lineage, Node, Upstream
from ml_platform.kernel.partitions import CadenceName, key_range

START = dt.date(2018, 6, 1)


@st.composite
def nodes(draw: st.DrawFn, key: str, *upstream: Upstream) -> Node:
    """An asset of some days, by day or by hour."""
    first = START + dt.timedelta(days=draw(st.integers(0, 3)))
    last = first + dt.timedelta(days=draw(st.integers(0, 4)))
    return Node(key, first, last, upstream=upstream, partitions=draw(st.sampled_from(get_args(CadenceName))))


@st.composite
def edges(draw: st.DrawFn) -> Lineage:
    """An asset that reads another at some offsets."""
    first = draw(st.integers(-30, 3))
    edge = Upstream("above", first=first, last=first + draw(st.integers(0, 27)))
    return Lineage({"above": draw(nodes("above")), "below": draw(nodes("below", edge))})


def definition(node: Node) -> dg.TimeWindowPartitionsDefinition:
    found = partitions_of(node)
    assert found is not None
    return found


@settings(max_examples=150, deadline=None)
@given(lineage=edges(), data=st.data())
def test_both_graphs_read_the_same_partitions(lineage: Lineage, data: st.DataObject) -> None:
    above, below = lineage.node("above"), lineage.node("below")
    upper, lower = definition(above), definition(below)
    assert list(lower.get_partition_keys()) == key_range(str(below.first), str(below.last))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)
        mapping = mapping_of(below.upstream[0], above)
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)

    read = {
        key: lineage.direct_partitions("below", (key, key)).get("above") for key in lower.get_partition_keys()
    }
    key = data.draw(st.sampled_from(sorted(read)))
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(
        lower.subset_with_partition_keys([key]), lower, upper
    )
    range_read = read[key]
    assert sorted(found.partitions_subset.get_partition_keys()) == (
        [] if range_read is None else key_range(*range_read)
    )

    key = data.draw(st.sampled_from(sorted(upper.get_partition_keys())))
    reopened = mapping.get_downstream_partitions_for_partitions(
        upper.subset_with_partition_keys([key]), upper, lower
    )
    assert sorted(reopened.get_partition_keys()) == [
        reader for reader, keys in read.items() if keys is not None and keys[0] <= key <= keys[1]
    ]
