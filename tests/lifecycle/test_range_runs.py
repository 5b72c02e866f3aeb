"""A range run is recorded day by day, as if each day had had a run of its own."""

import pytest

from ml_platform.gates.outcomes import Evaluation, Outcome
from tests.lifecycle.toys import BOUND, Toys, evaluations_of, materializations_of

DAYS = [f"2018-06-0{number}" for number in range(1, 6)]
FIRST, LAST = DAYS[0], DAYS[-1]
BAD = {"2018-06-02", "2018-06-04"}
GOOD = [partition for partition in DAYS if partition not in BAD]
VERSION_TAGS = ("dagster/data_version", "dagster/data_version_is_user_provided", "dagster/code_version")


def tags_of(toys: Toys, asset: str, partition: str) -> dict[str, str]:
    """Dagster's version tags of the newest materialization: data, code, and every input."""
    record = materializations_of(toys.instance, asset)[partition][-1]
    assert record.asset_materialization is not None
    tags = record.asset_materialization.tags or {}
    return {name: value for name, value in tags.items() if name.startswith(("dagster/input", *VERSION_TAGS))}


def judged(toys: Toys, asset: str, check: str, run_id: str) -> dict[str, tuple[bool, int | None]]:
    """By partition, in one run: whether it passed, and which materialization was judged."""
    found = {}
    for evaluation, run in evaluations_of(toys.instance, asset, check):
        if run == run_id and evaluation.partition is not None:
            target = evaluation.target_materialization_data
            assert evaluation.partition not in found, "one evaluation per partition"
            found[evaluation.partition] = (evaluation.passed, target.storage_id if target else None)
    return found


def latest_ids(toys: Toys, asset: str) -> dict[str, int]:
    return {
        str(key): records[-1].storage_id for key, records in materializations_of(toys.instance, asset).items()
    }


def test_a_good_range_materializes_and_judges_each_day_once(toys: Toys) -> None:
    run = toys.make(toys.raw, first=FIRST, last=LAST)
    made = materializations_of(toys.instance, toys.raw)
    assert sorted(map(str, made)) == DAYS and {len(records) for records in made.values()} == {1}
    ids = latest_ids(toys, toys.raw)
    assert judged(toys, toys.raw, "quality", run.run_id) == {key: (True, ids[key]) for key in DAYS}


def test_a_good_day_alone_is_judged_once_and_told_as_in_a_range(toys: Toys) -> None:
    toys.make(toys.raw, first=FIRST, last=LAST)
    [in_range] = [e for e, _ in evaluations_of(toys.instance, toys.raw, "quality") if e.partition == FIRST]
    alone = toys.make(toys.raw, first=FIRST)
    [told] = [e for e, run in evaluations_of(toys.instance, toys.raw, "quality") if run == alone.run_id]
    ids = latest_ids(toys, toys.raw)
    assert judged(toys, toys.raw, "quality", alone.run_id) == {FIRST: (True, ids[FIRST])}
    for name in ("passed", "metadata", "severity", "description", "blocking", "partition"):
        assert getattr(told, name) == getattr(in_range, name), name


def test_a_mixed_range_materializes_the_good_days_judges_all_and_names_the_bad_ones(toys: Toys) -> None:
    toys.fail(toys.raw, *BAD)
    run = toys.run(toys.raw, first=FIRST, last=LAST)
    assert not run.success
    assert f"{toys.raw}: blocking checks failed for 2018-06-02, 2018-06-04." in run.error
    assert f"  2018-06-02: quality: 7 of 100 rows break it (required: {BOUND})" in run.error
    assert not any(partition in run.error for partition in GOOD)
    assert sorted(map(str, materializations_of(toys.instance, toys.raw))) == GOOD
    ids = latest_ids(toys, toys.raw)
    assert judged(toys, toys.raw, "quality", run.run_id) == {
        key: (key not in BAD, ids.get(key)) for key in DAYS
    }


def test_bad_days_that_are_published_all_the_same_are_materialized_and_judged(toys: Toys) -> None:
    toys.make(toys.raw, first=FIRST, last=LAST)
    toys.fail(toys.profiles, *BAD)
    run = toys.run(toys.profiles, first=FIRST, last=LAST)
    assert not run.success and "last good version" not in run.error
    ids = latest_ids(toys, toys.profiles)
    assert sorted(ids) == DAYS
    assert judged(toys, toys.profiles, "drift", run.run_id) == {
        key: (key not in BAD, ids[key]) for key in DAYS
    }


def test_a_refused_day_leaves_the_materialization_of_its_last_good_version(toys: Toys) -> None:
    toys.make(toys.raw, first=FIRST, last=LAST)
    before = latest_ids(toys, toys.raw)
    toys.fail(toys.raw, *BAD)
    toys.run(toys.raw, first=FIRST, last=LAST)
    after = latest_ids(toys, toys.raw)
    assert {key for key in DAYS if after[key] == before[key]} == BAD


def test_a_day_has_the_same_version_tags_from_a_run_of_its_own_a_good_range_and_a_mixed_one(
    toys: Toys,
) -> None:
    toys.make(toys.raw, first=FIRST, last=LAST)
    toys.make(toys.profiles, first=FIRST)
    alone = tags_of(toys, toys.profiles, FIRST)
    toys.make(toys.profiles, first=FIRST, last=LAST)
    in_range = tags_of(toys, toys.profiles, FIRST)
    toys.fail(toys.profiles, *BAD)
    toys.run(toys.profiles, first=FIRST, last=LAST)
    mixed = tags_of(toys, toys.profiles, FIRST)
    versions = [{name: tags[name] for name in VERSION_TAGS} for tags in (alone, in_range, mixed)]
    assert versions[0]["dagster/data_version"] == f"content of {FIRST}"
    assert versions[0]["dagster/data_version_is_user_provided"] == "true"
    assert versions[0] == versions[1] == versions[2]
    assert in_range == mixed, "inputs of a range are those that MaterializeResult records"
    assert any(name.startswith("dagster/input_data_version/") for name in mixed)


def test_a_mixed_range_of_a_downstream_in_the_same_run_is_not_begun(toys: Toys) -> None:
    toys.fail(toys.raw, *BAD)
    toys.run(toys.raw, toys.profiles, first=FIRST, last=LAST)
    assert toys.was_made(toys.raw, LAST) and not toys.was_made(toys.profiles, FIRST)


def test_a_good_range_of_two_assets_is_made_in_one_run(toys: Toys) -> None:
    toys.make(toys.raw, toys.profiles, first=FIRST, last=LAST)
    assert sorted(map(str, materializations_of(toys.instance, toys.profiles))) == DAYS
    assert toys.make(toys.features, first=FIRST, last=LAST).success
    assert toys.make(toys.model, first=LAST).success


def test_a_step_that_is_silent_about_a_declared_check_has_not_passed_it(toys: Toys) -> None:
    toys.silent.add(toys.profiles)
    run = toys.run(toys.profiles, first=FIRST)
    assert not run.success and "one evaluation of each of ['drift'] is required; got []" in run.error
    assert not materializations_of(toys.instance, toys.profiles)


def test_what_is_not_published_has_a_failed_evaluation_that_says_why() -> None:
    with pytest.raises(ValueError, match="has a failed evaluation"):
        Outcome(FIRST, published=False, evaluations=(Evaluation("quality", passed=True),))
