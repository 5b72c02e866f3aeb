"""Published partitions are judged again by what is declared now; until then, a changed declaration closes gates."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from ml_platform.gates.guard import closed_gates, ways_out
from ml_platform.gates.outcomes import Evaluation, Outcome
from ml_platform.gates.recheck import Recheck, recheck
from ml_platform.gates.ways_out import WAYS_OUT
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError
from ml_platform.kernel.lineage import Check
from ml_platform.lake.tables import Lake
from tests.lifecycle.toys import Toys, ToySpec, materializations_of

A, B, C = "2018-06-02", "2018-06-03", "2018-06-04"


@pytest.fixture
def redeclared(toys: Toys) -> Toys:
    """All was made and passed; then the profiles' drift was declared otherwise."""
    toys.make(toys.raw, toys.features, toys.profiles, first="2018-06-01", last=C)
    node = toys.catalog.node(toys.profiles)
    changed = ToySpec(name="profiles", node=replace(node, blocking_checks=(Check("drift", "another"),)))
    toys.catalog = Catalog({**toys.catalog.specs, (ToySpec, "profiles"): changed})
    return toys


def closed(toys: Toys, partition: str = C) -> str:
    found = closed_gates(toys.instance, toys.catalog.lineage, toys.model, partition)
    return "\n".join(gate.in_words() for gate in found)


def asked(toys: Toys, *partitions: str, asset: str = "", reason: str = "a new bound") -> Recheck:
    return Recheck(toys.catalog.node(asset or toys.profiles), partitions, reason, "ada")


def all_passed(partitions: Sequence[str]) -> list[Outcome]:
    return [Outcome(key, True, (Evaluation("drift", True),)) for key in partitions]


def all_but_b(partitions: Sequence[str]) -> list[Outcome]:
    seen = {True: "within bounds", False: "amount: ks 0.05"}
    return [
        Outcome(key, True, (Evaluation("drift", key != B, seen[key != B], "0.04"),)) for key in partitions
    ]


def test_what_was_judged_by_other_expectations_closes_the_gate_and_names_the_recheck(
    redeclared: Toys,
) -> None:
    assert closed(redeclared) == (
        f"{redeclared.profiles} [{A} … {C}] drift: was evaluated by other expectations than those declared now"
    )
    (gate,) = closed_gates(redeclared.instance, redeclared.catalog.lineage, redeclared.model, C)
    (way,) = ways_out(gate)
    assert f"ml-platform gate recheck {redeclared.profiles} --from {A} --to {C} --reason" in way


def test_a_recheck_of_many_partitions_opens_those_that_pass_and_closes_those_that_fail(
    lake: Lake, redeclared: Toys
) -> None:
    outcomes = recheck(redeclared.instance, lake, asked(redeclared, A, B, C), all_but_b)
    assert [outcome.passed for outcome in outcomes] == [True, False, True]
    assert closed(redeclared, A).startswith(
        f"{redeclared.profiles} [2018-06-01] drift: was evaluated by other"
    )
    assert A not in closed(redeclared, A)
    assert f"{redeclared.profiles} [{B}] drift: amount: ks 0.05 (required: 0.04" in closed(redeclared)


def test_a_recheck_makes_nothing_and_is_recorded_partition_by_partition(lake: Lake, redeclared: Toys) -> None:
    recheck(redeclared.instance, lake, asked(redeclared, A, B), all_but_b)
    assert len(materializations_of(redeclared.instance, redeclared.profiles)[A]) == 1
    told = [(e["way"], e["partition"], e["actor"], e["evidence"]) for e in WAYS_OUT.entries(lake)]
    assert sorted(told) == [
        ("recheck", A, "ada", "passed: within bounds"),
        ("recheck", B, "ada", "failed: amount: ks 0.05"),
    ]


def test_a_recheck_cannot_hide_a_refused_delivery_behind_the_version_that_is_published(
    lake: Lake, toys: Toys
) -> None:
    toys.make(toys.raw, first=A, last=B)
    toys.fail(toys.raw, B)
    toys.run(toys.raw, first=B)
    with pytest.raises(InputError, match=f"{B} have some, which wait for a decision") as refusal:
        recheck(toys.instance, lake, asked(toys, A, B, asset=toys.raw), all_passed)
    assert f"ml-platform refused dismiss {toys.raw} {B}" in str(refusal.value)
    assert WAYS_OUT.entries(lake) == []


def test_what_was_never_made_cannot_be_judged_again(lake: Lake, redeclared: Toys) -> None:
    with pytest.raises(InputError, match="2018-06-09 have no materialization"):
        recheck(redeclared.instance, lake, asked(redeclared, A, "2018-06-09"), all_passed)
    assert WAYS_OUT.entries(lake) == []


def test_a_recheck_without_a_reason_is_refused_before_anything_is_judged(
    lake: Lake, redeclared: Toys
) -> None:
    def judge(partitions: Sequence[str]) -> list[Outcome]:
        raise AssertionError(f"{partitions} must not be judged")

    with pytest.raises(InputError, match="reason is required"):
        recheck(redeclared.instance, lake, asked(redeclared, A, reason=" "), judge)
