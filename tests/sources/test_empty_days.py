"""A day on which nothing happened has no file: a person says so, and it is materialized and judged like any other."""

import pytest

from ml_platform.kernel.errors import InputError
from ml_platform.sources.landing import land_nothing
from ml_platform.sources.store import LANDED_FILES
from tests.commands import invoke, words
from tests.sources.deliveries import DAY, NEXT_DAY, Materialized, payment
from tests.support import LAST_DAY

REASON = "bank holiday"


def quiet(asset: Materialized, day: str = NEXT_DAY, reason: str = REASON) -> None:
    land_nothing(asset.source.settings, asset.source.spec, day, reason=reason)


@pytest.fixture
def begun(asset: Materialized) -> Materialized:
    """One day has landed, and rows are not required of every day."""
    asset.source.spec = asset.source.spec.model_copy(update={"expectations": ()})
    asset.source.land([payment(1)])
    return asset


def test_an_empty_day_is_published_without_rows(begun: Materialized) -> None:
    assert f"landed rows are required for {NEXT_DAY}" in begun.run(DAY, NEXT_DAY).error
    quiet(begun)
    assert begun.run(DAY, NEXT_DAY).success
    assert begun.published() == {DAY: [(1, 5.0)]}
    (entry,) = [e for e in LANDED_FILES.entries(begun.source.lake) if not e["rows"]]
    assert (entry["days"], entry["path"]) == ([NEXT_DAY], f"no events: {REASON}")
    assert entry["actor"] == begun.source.settings.who


def test_a_file_that_comes_later_counts(begun: Materialized) -> None:
    quiet(begun)
    begun.source.land([payment(2, f"{NEXT_DAY}T10:00:00")])
    assert begun.run(DAY, NEXT_DAY).success
    assert begun.published() == {DAY: [(1, 5.0)], NEXT_DAY: [(2, 5.0)]}


def test_what_is_declared_of_every_day_is_required_of_an_empty_one_too(asset: Materialized) -> None:
    asset.source.land([payment(1)])
    quiet(asset)
    assert "0 rows (required: at least 1 rows" in asset.run(DAY, NEXT_DAY).error


@pytest.mark.parametrize(
    ("day", "reason", "said"),
    [
        (NEXT_DAY, " ", "reason is required"),
        (DAY, REASON, "a day without rows is required; 1 have landed"),
        ("2018-05-01", REASON, "a day of sources/payments is required, from 2018-04-01 to 2018-04-30"),
        ("tomorrow", REASON, "a day of sources/payments is required"),
    ],
)
def test_what_is_no_empty_day_is_refused_and_changes_nothing(
    begun: Materialized, day: str, reason: str, said: str
) -> None:
    with pytest.raises(InputError, match=said):
        quiet(begun, day, reason)
    assert len(LANDED_FILES.entries(begun.source.lake)) == 1


def test_files_and_an_empty_day_are_not_landed_at_once(begun: Materialized) -> None:
    for arguments in (
        [],
        ["x.parquet", "--empty-day", LAST_DAY],
        ["--empty-day", LAST_DAY, "--known-at", DAY],
    ):
        refused = invoke("ingest", "transactions", *arguments)
        assert refused.exit_code == 1
        assert "either files, perhaps with --known-at and --replaces, or --empty-day DAY" in words(
            refused.output
        )
