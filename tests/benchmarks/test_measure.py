"""Sides are timed in turn, where they are said to be."""

import os

from tests.benchmarks.measure import in_turn

SIDES = {"ours": os.getpid, "theirs": os.getpid}


def test_sides_share_this_process_or_have_one_each_that_stays() -> None:
    here = in_turn(SIDES, runs=2)
    assert here.results == dict.fromkeys(SIDES, os.getpid())
    apart = in_turn(SIDES, runs=2, apart=True)
    assert len({os.getpid(), *apart.results.values()}) == 3
