"""The simulator makes the handbook's transactions, one day at a time."""

import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_platform.defs.fraud.sources.transactions.simulator import SCHEMA, simulate, terminals_in_reach
from ml_platform.kernel.errors import InputError

START = datetime.date(2018, 4, 1)
DAYS = 120


def day(number: int) -> datetime.date:
    return START + datetime.timedelta(days=number)


def column(table: pa.Table, name: str) -> npt.NDArray[np.generic]:
    return table[name].to_numpy()


@pytest.fixture(scope="module")
def tenth() -> pa.Table:
    """Four months at a tenth of the handbook's size: 500 customers and 1,000 terminals."""
    return simulate(first_day=START, last_day=day(DAYS - 1), scale=0.1)


def spans(table: pa.Table, key: str, scenario: int) -> npt.NDArray[np.int64]:
    """Days from a key's first to its last fraud of a scenario, both included."""
    fraud = table.filter(pc.field("tx_fraud_scenario") == scenario)
    days = fraud.group_by(key).aggregate([("tx_time_days", "min"), ("tx_time_days", "max")])
    return column(days, "tx_time_days_max") - column(days, "tx_time_days_min") + 1


@settings(max_examples=15, deadline=None)
@given(
    first=st.integers(0, 60),
    length=st.integers(1, 40),
    pick=st.integers(0, 39),
    seed=st.integers(0, 2**63),
)
def test_a_day_made_alone_is_the_day_cut_from_a_range(first: int, length: int, pick: int, seed: int) -> None:
    chosen = first + pick % length
    whole = simulate(first_day=day(first), last_day=day(first + length - 1), scale=0.02, seed=seed)
    alone = simulate(first_day=day(chosen), last_day=day(chosen), scale=0.02, seed=seed)
    assert alone.equals(whole.filter(pc.field("tx_time_days") == chosen))


def test_equal_arguments_give_equal_tables_and_another_seed_gives_another() -> None:
    first, again, other = (
        simulate(first_day=START, last_day=day(3), scale=0.02, seed=seed) for seed in (7, 7, 8)
    )
    assert first.equals(again)
    assert not first["tx_amount"].equals(other["tx_amount"])


def test_days_count_from_the_start_whatever_its_date() -> None:
    moved = datetime.date(2024, 1, 1)
    table = simulate(first_day=moved, last_day=moved, start=moved, scale=0.02)
    handbook = simulate(first_day=START, last_day=START, scale=0.02)
    assert table.drop_columns("tx_datetime").equals(handbook.drop_columns("tx_datetime"))
    assert pc.min(pc.cast(table["tx_datetime"], pa.date32())).as_py() == moved


def test_columns_are_the_handbooks_and_agree_with_each_other(tenth: pa.Table) -> None:
    assert tenth.schema == SCHEMA
    assert tenth.schema.field("tx_datetime").type == pa.timestamp("us")
    assert all(table_column.null_count == 0 for table_column in tenth.columns)
    seconds = column(tenth, "tx_time_seconds")
    since = column(tenth, "tx_datetime") - np.datetime64(START)
    assert np.array_equal(since / np.timedelta64(1, "s"), seconds)
    assert np.array_equal(seconds // 86_400, column(tenth, "tx_time_days"))
    assert np.array_equal(column(tenth, "tx_fraud") == 1, column(tenth, "tx_fraud_scenario") > 0)


def test_transaction_ids_are_day_and_rank_in_time_order(tenth: pa.Table) -> None:
    ids, days = column(tenth, "transaction_id"), column(tenth, "tx_time_days")
    assert (np.diff(ids) > 0).all()
    assert (np.diff(column(tenth, "tx_time_seconds")) >= 0).all()
    first_of_day = np.searchsorted(days, days)
    assert np.array_equal(ids, days * 1_000_000 + np.arange(len(ids)) - first_of_day)


def test_amounts_are_whole_cents_and_not_negative(tenth: pa.Table) -> None:
    amounts = column(tenth, "tx_amount")
    assert amounts.min() >= 0
    assert np.array_equal(amounts, np.round(amounts, 2))


def test_amounts_over_220_are_fraud_and_nothing_genuine_is_over(tenth: pa.Table) -> None:
    amounts, scenario = column(tenth, "tx_amount"), column(tenth, "tx_fraud_scenario")
    assert amounts[scenario == 0].max() <= 220
    assert amounts[scenario == 1].min() > 220


def test_a_compromised_terminal_has_nothing_but_fraud_for_28_days(tenth: pa.Table) -> None:
    terminals = column(tenth, "terminal_id")
    days, fraud = column(tenth, "tx_time_days"), column(tenth, "tx_fraud")
    scenario = column(tenth, "tx_fraud_scenario")
    runs = spans(tenth, "terminal_id", 2)
    assert runs[runs < 35].max() == 28, "longer only by a second compromise"
    for terminal in np.unique(terminals[scenario == 2]):
        hit = days[(terminals == terminal) & (scenario == 2)]
        if np.ptp(hit) < 28:
            inside = (terminals == terminal) & (days >= hit.min()) & (days <= hit.max())
            assert (fraud[inside] == 1).all()


def test_a_compromised_customer_pays_five_times_as_much_in_a_third_of_14_days(tenth: pa.Table) -> None:
    customers, days = column(tenth, "customer_id"), column(tenth, "tx_time_days")
    scenario, amounts = column(tenth, "tx_fraud_scenario"), column(tenth, "tx_amount")
    stolen, during, factors = 0, 0, []
    for customer in np.unique(customers[scenario == 3]):
        own = customers == customer
        hit = days[own & (scenario == 3)]
        if np.ptp(hit) >= 14:
            continue  # compromised a second time
        inside = own & (days >= hit.min()) & (days <= hit.max())
        stolen, during = stolen + len(hit), during + inside.sum()
        factors.append(np.mean(amounts[own & (scenario == 3)]) / np.mean(amounts[own & (scenario == 0)]))
    assert len(factors) > 10
    assert stolen / during == pytest.approx(
        1 / 3, abs=0.07
    )  # first and last day are fraud days by construction
    assert np.median(factors) == pytest.approx(5, abs=0.7)
    runs = spans(tenth, "customer_id", 3)
    assert runs[runs < 18].max() == 14, "longer only by a second compromise"


def test_rates_at_a_tenth_of_the_size_are_near_the_published_ones() -> None:
    table = simulate(first_day=START, last_day=day(182), scale=0.1)
    scenario = column(table, "tx_fraud_scenario")
    published = {"rows": 1_754_155, 1: 973, 2: 9_077, 3: 4_631}
    assert table.num_rows * 10 == pytest.approx(published["rows"], rel=0.1)
    assert (scenario > 0).mean() == pytest.approx(14_681 / 1_754_155, rel=0.15)
    for number in (1, 2, 3):
        assert (scenario == number).sum() * 10 == pytest.approx(published[number], rel=0.25)
    quartiles = np.quantile(column(table, "tx_amount"), [0.25, 0.5, 0.75])
    assert quartiles == pytest.approx([21.01, 44.64, 76.95], rel=0.1)
    clock = np.quantile(column(table, "tx_time_seconds") % 86_400, [0.01, 0.25, 0.5, 0.75, 0.99])
    assert clock == pytest.approx([4_075, 30_180, 43_196, 56_206, 82_360], rel=0.03)


def test_the_share_of_fraud_does_not_grow_when_the_simulation_shrinks() -> None:
    small = simulate(first_day=START, last_day=day(182), scale=0.02)
    assert column(small, "tx_fraud").mean() == pytest.approx(14_681 / 1_754_155, rel=0.3)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    side=st.floats(0.5, 40),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 60)),
)
def test_the_terminals_in_reach_are_those_closer_than_five(
    seed: int, side: float, sizes: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    homes, places = rng.uniform(0, side, (sizes[0], 2)), rng.uniform(0, side, (sizes[1], 2))
    reach, counts = terminals_in_reach(homes, places)
    of_customer = np.split(reach, np.cumsum(counts)[:-1])
    for home, terminals in zip(homes, of_customer, strict=True):
        distances = np.hypot(*(places - home).T)
        assert np.array_equal(np.sort(terminals), np.flatnonzero(distances < 5))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"first_day": day(-1), "last_day": day(1)}, "start <= first_day"),
        ({"first_day": day(2), "last_day": day(1)}, "first_day <= last_day"),
        ({"first_day": START, "last_day": START, "scale": 0.0}, "scale above 0"),
        ({"first_day": START, "last_day": START, "scale": float("nan")}, "scale above 0"),
        ({"first_day": START, "last_day": START, "scale": 21.0}, "at most 20"),
        ({"first_day": START, "last_day": START, "seed": -1}, "seed of 0 or more"),
    ],
)
def test_arguments_that_cannot_be_simulated_are_refused(arguments: dict[str, object], text: str) -> None:
    with pytest.raises(InputError, match=text):
        simulate(**arguments)  # pyright: ignore[reportArgumentType]
