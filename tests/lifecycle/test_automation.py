"""What the automation daemon asks for agrees with the gates, per partition, also after a range run."""

import datetime as dt

import dagster as dg
import pytest

from ml_platform.compiler import CRONS, AssetPlan, compile_asset
from ml_platform.gates.acceptances import Acceptance, accept
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.lineage import Node, Upstream
from ml_platform.kernel.settings import Settings
from ml_platform.lake.tables import Lake
from tests.lifecycle.toys import FIRST, LAST, Toys, ToySpec

# Dagster's own evaluate_automation_conditions passes a parameter that Dagster calls beta.
pytestmark = pytest.mark.filterwarnings("ignore:Parameter `include_sources`:dagster.BetaWarning")

TODAY = LAST.isoformat()
YESTERDAY = (LAST - dt.timedelta(days=1)).isoformat()
WINDOW_START = (LAST - dt.timedelta(days=2)).isoformat()
RANGE_START = (LAST - dt.timedelta(days=4)).isoformat()
BEFORE_CRON = dt.datetime(2018, 6, 13, 5, 50, tzinfo=dt.UTC)
AFTER_CRON = dt.datetime(2018, 6, 13, 6, 10, tzinfo=dt.UTC)


class Daemon:
    """Ticks in a row, at the times that a test says."""

    def __init__(self, toys: Toys) -> None:
        self.toys = toys
        self.cursor = None

    def tick(self, at: dt.datetime) -> set[str]:
        """The model's partitions that this tick requests."""
        result = dg.evaluate_automation_conditions(
            self.toys.defs, self.toys.instance, evaluation_time=at, cursor=self.cursor
        )
        self.cursor = result.cursor
        return result.get_requested_partitions(dg.AssetKey(self.toys.model.split("/")))


@pytest.fixture
def daemon(toys: Toys) -> Daemon:
    """A daemon that runs since before the cron time, when nothing had been made."""
    daemon = Daemon(toys)
    assert daemon.tick(BEFORE_CRON) == set()
    assert daemon.tick(AFTER_CRON) == set()
    return daemon


def make_upstream_by_range(toys: Toys) -> None:
    for asset in (toys.raw, toys.features, toys.profiles):
        toys.run(asset, first=RANGE_START, last=TODAY)


def later(minutes: int) -> dt.datetime:
    return AFTER_CRON + dt.timedelta(minutes=minutes)


def test_after_a_good_range_run_the_newest_partition_is_requested_once(toys: Toys, daemon: Daemon) -> None:
    make_upstream_by_range(toys)
    assert daemon.tick(later(1)) == {TODAY}
    assert daemon.tick(later(2)) == set()
    assert toys.make(toys.model, first=TODAY).success


@pytest.mark.parametrize("bad", [WINDOW_START, YESTERDAY, TODAY])
def test_one_failed_partition_of_the_window_keeps_it_from_being_requested(
    toys: Toys, daemon: Daemon, bad: str
) -> None:
    toys.fail(toys.profiles, bad)
    make_upstream_by_range(toys)
    assert daemon.tick(later(1)) == set()
    assert not toys.run(toys.model, first=TODAY).success


def test_a_failed_partition_outside_the_window_keeps_nothing(toys: Toys, daemon: Daemon) -> None:
    toys.fail(toys.profiles, RANGE_START)
    make_upstream_by_range(toys)
    assert daemon.tick(later(1)) == {TODAY}


def test_an_upstream_made_again_without_an_evaluation_is_waited_for(toys: Toys, daemon: Daemon) -> None:
    make_upstream_by_range(toys)
    again = dg.AssetMaterialization(asset_key=toys.profiles.split("/"), partition=YESTERDAY)
    toys.instance.report_runless_asset_event(again)
    assert daemon.tick(later(1)) == set()
    toys.make(toys.profiles, first=YESTERDAY)
    assert daemon.tick(later(2)) == {TODAY}


def test_what_is_accepted_is_requested_at_the_next_tick(home: Settings, toys: Toys, daemon: Daemon) -> None:
    toys.fail(toys.profiles, YESTERDAY)
    make_upstream_by_range(toys)
    assert daemon.tick(later(1)) == set()
    acceptance = Acceptance(toys.profiles, "drift", YESTERDAY, "prices went up", "ada")
    accept(toys.instance, Lake(home.lake_uri), acceptance)
    assert daemon.tick(later(2)) == {TODAY}
    assert toys.make(toys.model, first=TODAY).success


def test_a_failed_grandparent_is_left_to_the_guard_which_refuses(toys: Toys, daemon: Daemon) -> None:
    make_upstream_by_range(toys)
    toys.fail(toys.raw, YESTERDAY)
    toys.run(toys.raw, first=YESTERDAY)
    assert daemon.tick(later(1)) == {TODAY}
    assert f"{toys.raw} [{YESTERDAY}] quality" in toys.run(toys.model, first=TODAY).error


def test_a_crashed_run_is_waited_for_although_a_person_may_go_on(toys: Toys, daemon: Daemon) -> None:
    make_upstream_by_range(toys)
    toys.crash_before_materialization.add((toys.profiles, YESTERDAY))
    toys.run(toys.profiles, first=YESTERDAY)
    assert daemon.tick(later(1)) == set()
    assert toys.make(toys.model, first=TODAY).success


def test_labels_wait_for_no_events_that_were_complete_before_them(toys: Toys) -> None:
    nodes = {
        "events": Node(f"{toys.group}/events", first_day=FIRST),
        "labels": Node(
            f"{toys.group}/labels",
            first_day=FIRST,
            lag=2,
            references=(Upstream(f"{toys.group}/events", keys=("id",)),),
        ),
    }
    specs = [ToySpec(name=name, node=node) for name, node in nodes.items()]
    catalog = Catalog({(ToySpec, spec.name): spec for spec in specs})
    plans = [AssetPlan(s.node, lambda _: (), s, frozenset(), resources=frozenset()) for s in specs]
    defs = dg.Definitions(assets=[compile_asset(plan, catalog) for plan in plans])
    events, labels = (dg.AssetKey([toys.group, name]) for name in nodes)
    for number in range((LAST - FIRST).days + 1):
        made = dg.AssetMaterialization(events, partition=(FIRST + dt.timedelta(days=number)).isoformat())
        toys.instance.report_runless_asset_event(made)
    before = dg.evaluate_automation_conditions(defs, toys.instance, evaluation_time=BEFORE_CRON)
    after = dg.evaluate_automation_conditions(
        defs, toys.instance, evaluation_time=AFTER_CRON, cursor=before.cursor
    )
    assert after.get_requested_partitions(labels) == {(LAST - dt.timedelta(days=2)).isoformat()}


def test_hours_are_made_after_each_hour_and_their_day_waits_for_none_of_them(toys: Toys) -> None:
    group = toys.group
    nodes = {
        "events": Node(f"{group}/events", first_day=LAST, partitions="hourly"),
        "view": Node(
            f"{group}/view",
            first_day=LAST,
            upstream=(Upstream(f"{group}/events", first=-5),),
            partitions="hourly",
        ),
        "profile": Node(f"{group}/profile", first_day=LAST, upstream=(Upstream(f"{group}/view", first=-1),)),
    }
    specs = [ToySpec(name=name, node=node) for name, node in nodes.items()]
    catalog = Catalog({(ToySpec, spec.name): spec for spec in specs})
    plans = [
        AssetPlan(s.node, lambda _: (), s, frozenset(), resources=frozenset(), cron=CRONS[s.node.partitions])
        for s in specs
    ]
    defs = dg.Definitions(assets=[compile_asset(plan, catalog) for plan in plans])
    times = [AFTER_CRON + dt.timedelta(minutes=minutes) for minutes in (-20, -5, 5, 65)]
    cursor, requested = None, []
    for time in times:
        found = dg.evaluate_automation_conditions(defs, toys.instance, evaluation_time=time, cursor=cursor)
        cursor = found.cursor
        requested.append({name: found.get_requested_partitions(dg.AssetKey([group, name])) for name in nodes})
    none: dict[str, set[str]] = {name: set() for name in nodes}
    assert requested == [
        none,
        {**none, "profile": {TODAY}},
        {**none, "events": {"2018-06-13-05:00"}, "view": {"2018-06-13-05:00"}},
        {**none, "events": {"2018-06-13-06:00"}, "view": {"2018-06-13-06:00"}},
    ]
