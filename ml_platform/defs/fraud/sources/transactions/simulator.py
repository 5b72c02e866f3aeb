"""Card transactions with fraud, as the fraud handbook's simulator makes them, one day at a time.

The model is the transaction simulator of Le Borgne, Siblini, Lebichot and Bontempi, "Reproducible Machine
Learning for Credit Card Fraud Detection: Practical Handbook" (2022), chapter 3.2. The numbers below are
theirs. The random streams are ours: theirs run through all days of a customer and cannot give one day alone.

Three scenarios make fraud; where they meet, the later number stands:

1. amounts over 220;
2. two terminals a day are compromised: all their payments in 28 days, that day's included, are fraud;
3. three customers a day are compromised: in 14 days a third of their payments are fraud, amounts times 5.
   Each payment is drawn by itself with probability 1/3, since the handbook's exact third needs all 14 days
   before the first is known. A customer compromised twice at a time counts once (there: amounts times 25).
"""

import datetime
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ml_platform.kernel.errors import InputError

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CUSTOMERS = 5_000
TERMINALS = 10_000
SIDE = 100.0
RADIUS = 5.0
DAY_SECONDS = 86_400
IDS_PER_DAY = 1_000_000
LARGEST_SCALE = 20.0
LARGE_AMOUNT = 220.0
STOLEN_SHARE, STOLEN_FACTOR = 1 / 3, 5

# One random stream for each thing that is drawn, so that a change of one moves none of the others.
CUSTOMER_STREAM, TERMINAL_STREAM, TRANSACTION_STREAM = 0, 1, 2

SCHEMA = pa.schema(
    [
        ("transaction_id", pa.int64()),
        ("tx_datetime", pa.timestamp("us")),
        ("customer_id", pa.int64()),
        ("terminal_id", pa.int64()),
        ("tx_amount", pa.float64()),
        ("tx_time_seconds", pa.int64()),
        ("tx_time_days", pa.int64()),
        ("tx_fraud", pa.int64()),
        ("tx_fraud_scenario", pa.int64()),
    ]
)


@dataclass(frozen=True)
class _Compromise:
    """How many are compromised a day at scale 1, for how many days, drawn from which stream."""

    per_day: int
    days: int
    stream: int


TERMINALS_COMPROMISED = _Compromise(per_day=2, days=28, stream=3)
CUSTOMERS_COMPROMISED = _Compromise(per_day=3, days=14, stream=4)


@dataclass(frozen=True)
class _World:
    """Who can pay what and where: the part of the simulation that no day changes.

    The terminals in reach of customer c are `reach[reach_starts[c] : reach_starts[c] + reach_sizes[c]]`.
    """

    scale: float
    seed: int
    terminals: int
    mean_amount: FloatArray
    mean_per_day: FloatArray
    reach: IntArray
    reach_starts: IntArray
    reach_sizes: IntArray


@dataclass(frozen=True)
class _Rows:
    """Transactions in time order; `seconds` count from midnight of `day`."""

    day: IntArray
    rank: IntArray
    seconds: IntArray
    customer: IntArray
    terminal: IntArray
    amount: FloatArray
    scenario: IntArray


def simulate(
    *,
    first_day: datetime.date,
    last_day: datetime.date,
    start: datetime.date = datetime.date(2018, 4, 1),
    scale: float = 1.0,
    seed: int = 0,
) -> pa.Table:
    """Simulate the card transactions of the days from `first_day` to `last_day`, both included.

    A day's rows depend only on seed, scale and the days since `start`: a day made alone is the day cut from a
    range. At scale 1 a day has about 9,600 rows, 0.8 percent of them fraud. `scale` multiplies customers,
    terminals, the plane's area and the number compromised, so that rates a head and shares of fraud stay.

    The table is in time order and has the handbook's columns: `transaction_id` is 1,000,000 a day since
    `start` plus the rank in the day, `tx_datetime` has whole seconds and no zone (read it as UTC),
    `tx_time_seconds` and `tx_time_days` count from `start`. Equal bytes for equal arguments hold within one
    version of numpy, which may change its distributions.

    Raises InputError for days in the wrong order or before `start`, a scale outside (0, 20], a negative seed.
    """
    first, last = (first_day - start).days, (last_day - start).days
    _refuse_bad_arguments(first=first, last=last, scale=scale, seed=seed)
    world, days = _world(scale=scale, seed=seed), range(first, last + 1)
    terminals = _compromised(world, TERMINALS_COMPROMISED, days=days, of=world.terminals)
    customers = _compromised(world, CUSTOMERS_COMPROMISED, days=days, of=len(world.mean_amount))
    rows = [_day(world, day=day, bad_terminals=terminals[day], bad_customers=customers[day]) for day in days]
    return _table(rows, start=start)


def _refuse_bad_arguments(*, first: int, last: int, scale: float, seed: int) -> None:
    if not 0 <= first <= last:
        raise InputError(
            f"The simulator needs start <= first_day <= last_day; days {first} to {last} since start came. "
            "Nothing was simulated. Ask for days from start on, the first one first."
        )
    if not 0 < scale <= LARGEST_SCALE:
        raise InputError(
            f"The simulator needs a scale above 0 and at most {LARGEST_SCALE:g}, 200,000 transactions a day; "
            f"{scale!r} came. Nothing was simulated. Give a scale in that range."
        )
    if seed < 0:
        raise InputError(
            f"The simulator needs a seed of 0 or more; {seed} came. Nothing was simulated. Give another seed."
        )


def _generator(seed: int, stream: int, day: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream, day])))


def _world(*, scale: float, seed: int) -> _World:
    """Draw customers and terminals; the plane grows with them, so that as many terminals are in reach."""
    customers, terminals = max(1, round(CUSTOMERS * scale)), max(1, round(TERMINALS * scale))
    side = SIDE * float(np.sqrt(scale))
    rng = _generator(seed, CUSTOMER_STREAM, 0)
    homes = rng.uniform(0, side, (customers, 2))
    mean_amount, mean_per_day = rng.uniform(5, 100, customers), rng.uniform(0, 4, customers)
    places = _generator(seed, TERMINAL_STREAM, 0).uniform(0, side, (terminals, 2))
    reach, sizes = terminals_in_reach(homes, places)
    starts = np.cumsum(sizes) - sizes
    return _World(scale, seed, terminals, mean_amount, mean_per_day, reach, starts, sizes)


def terminals_in_reach(homes: FloatArray, places: FloatArray) -> tuple[IntArray, IntArray]:
    """List each customer's terminals closer than RADIUS, customer by customer, and how many each has.

    Terminals are sorted by cells as wide as the radius, row by row: what a customer can reach lies in three
    rows, in each of them in one run of three cells. So 225 distances a customer are computed, not 10,000.

    `homes` is (customers, 2), `places` (terminals, 2), both in the plane's unit and not negative.
    """
    width = (
        int(places.max() // RADIUS) + 4
    )  # one empty cell on either side, and one for homes beyond all terminals
    cells = np.minimum(places // RADIUS, width - 3).astype(np.int64) + 1
    cell = cells[:, 1] * width + cells[:, 0]
    order = np.argsort(cell, kind="stable")
    home = np.minimum(homes // RADIUS, width - 3).astype(np.int64) + 1
    middle = (home[:, 1, None] + np.array([-1, 0, 1])) * width + home[:, 0, None]
    begins = np.searchsorted(cell[order], (middle - 1).ravel(), side="left")
    sizes = np.searchsorted(cell[order], (middle + 1).ravel(), side="right") - begins
    customer = np.repeat(np.repeat(np.arange(len(homes)), 3), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    terminal = order[np.repeat(begins, sizes) + within]
    near = np.square(homes[customer] - places[terminal]).sum(axis=1) < RADIUS**2
    return terminal[near], np.bincount(customer[near], minlength=len(homes))


def _compromised(world: _World, kind: _Compromise, *, days: range, of: int) -> dict[int, BoolArray]:
    """Mark for each day which of the first `of` numbers are compromised on it.

    `per_day * scale` are drawn a day on average, evenly: at a rate of 0.2 one every five days.
    """
    rate = kind.per_day * world.scale
    drawn: dict[int, IntArray] = {}
    for day in range(max(0, days[0] - kind.days + 1), days[-1] + 1):
        count = min(of, int((day + 1) * rate) - int(day * rate))
        drawn[day] = _generator(world.seed, kind.stream, day).choice(of, size=count, replace=False)
    masks: dict[int, BoolArray] = {}
    for day in days:
        masks[day] = np.zeros(of, dtype=np.bool_)
        for since in range(max(0, day - kind.days + 1), day + 1):
            masks[day][drawn[since]] = True
    return masks


def _day(world: _World, *, day: int, bad_terminals: BoolArray, bad_customers: BoolArray) -> _Rows:
    """Draw one day's payments, then mark the fraud among them."""
    rng = _generator(world.seed, TRANSACTION_STREAM, day)
    customer = np.repeat(np.arange(len(world.mean_amount)), rng.poisson(world.mean_per_day))
    rows = len(customer)
    seconds = rng.normal(DAY_SECONDS / 2, 20_000, rows).astype(np.int64)
    mean = world.mean_amount[customer]
    amount = rng.normal(mean, mean / 2)
    amount = np.round(np.where(amount < 0, rng.uniform(0, 2 * mean), amount), 2)
    pick, luck = rng.random(rows), rng.random(rows)

    kept = (seconds > 0) & (seconds < DAY_SECONDS) & (world.reach_sizes[customer] > 0)
    kept = np.flatnonzero(kept)[np.argsort(seconds[kept], kind="stable")]
    customer, seconds, amount = customer[kept], seconds[kept], amount[kept]
    offset = (pick[kept] * world.reach_sizes[customer]).astype(np.int64)
    terminal = world.reach[world.reach_starts[customer] + offset]

    scenario = np.where(amount > LARGE_AMOUNT, 1, 0)
    scenario[bad_terminals[terminal]] = 2
    stolen = bad_customers[customer] & (luck[kept] < STOLEN_SHARE)
    scenario[stolen] = 3
    amount = np.where(stolen, np.round(amount * STOLEN_FACTOR, 2), amount)
    days, rank = np.full(len(kept), day, dtype=np.int64), np.arange(len(kept))
    return _Rows(days, rank, seconds, customer, terminal, amount, scenario)


def _table(days: list[_Rows], *, start: datetime.date) -> pa.Table:
    """Put the days into one table whose columns are one chunk each."""

    def column(name: str) -> npt.NDArray[Any]:
        return np.concatenate([getattr(rows, name) for rows in days])

    day, scenario = column("day"), column("scenario")
    seconds = day * DAY_SECONDS + column("seconds")
    columns = {
        "transaction_id": day * IDS_PER_DAY + column("rank"),
        "tx_datetime": (np.datetime64(start, "s") + seconds.astype("timedelta64[s]")).astype(
            "datetime64[us]"
        ),
        "customer_id": column("customer"),
        "terminal_id": column("terminal"),
        "tx_amount": column("amount"),
        "tx_time_seconds": seconds,
        "tx_time_days": day,
        "tx_fraud": (scenario > 0).astype(np.int64),
        "tx_fraud_scenario": scenario,
    }
    return pa.table(
        {field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA
    )
