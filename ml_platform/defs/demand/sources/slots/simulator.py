"""A simulator of how many units places sell in each hour: shops of regions, with weather, notices and weekly rhythm.

Made up for this project; every day depends only on seed, number of places and date.
"""

import datetime as dt

import numpy as np
import pyarrow as pa

KINDS = ("station", "mall", "corner")
WEATHER = ("sunny", "cloudy", "rain", "snow")
PLACES_A_REGION = 6
RHYTHM = {  # of a kind, when in the day it sells: peak hours, and what is left on a weekend
    "station": ((8, 18), 0.5),
    "mall": ((13, 17), 1.6),
    "corner": ((10, 20), 1.1),
}
NOTICES = {"closed for works": 0.2, "street festival": 1.8, "discount on all drinks": 1.3}
EFFECT = {"sunny": 1.15, "cloudy": 1.0, "rain": 0.8, "snow": 0.55}


def simulate(*, first_day: dt.date, last_day: dt.date, places: int = 24, seed: int = 0) -> pa.Table:
    """Hours of all places on the days from `first_day` to `last_day`, both included: places times 24 rows a day.

    `slot_id` is the hour since 1970 UTC times 10,000 plus the place.
    """
    days = range(first_day.toordinal(), last_day.toordinal() + 1)
    return pa.concat_tables([_day(dt.date.fromordinal(day), places, seed) for day in days])


def _day(day: dt.date, places: int, seed: int) -> pa.Table:
    random = np.random.default_rng([seed, day.toordinal()])
    hour, place = (axis.ravel() for axis in np.meshgrid(np.arange(24), np.arange(places), indexing="ij"))
    region, kind = place // PLACES_A_REGION, np.array(KINDS)[place % len(KINDS)]
    sky = random.choice(len(WEATHER), size=region.max() + 1, p=_sky(day))[region]
    temperature = (
        12 - 10 * np.cos(2 * np.pi * day.timetuple().tm_yday / 365) + random.normal(0, 2, len(place))
    )
    notice = np.array([None, *NOTICES])[random.choice(4, size=places, p=[0.94, 0.02, 0.02, 0.02])[place]]
    mean = _mean(place, kind, hour, day) * np.array([EFFECT[WEATHER[found]] for found in sky])
    mean *= np.array([NOTICES.get(found, 1.0) for found in notice])
    start = dt.datetime.combine(day, dt.time(), tzinfo=dt.UTC)
    hours = int(start.timestamp()) // 3600 + hour
    return pa.table(
        {
            "slot_id": hours * 10_000 + place,
            "starts_at": pa.array(hours * 3_600_000_000, pa.timestamp("us", "UTC")),
            "place_id": place,
            "region_id": region,
            "kind": kind,
            "weather": np.array(WEATHER)[sky],
            "notice": pa.array(notice.tolist(), pa.string()),
            "temperature": pa.array(temperature, mask=random.random(len(place)) < 0.05),
            "units": random.poisson(mean).astype(np.float64),
        }
    )


def _mean(place: np.ndarray, kind: np.ndarray, hour: np.ndarray, day: dt.date) -> np.ndarray:
    """Units that a place sells in an hour on average, in any weather."""
    base = 8 + 5 * (place * 7 % 11)
    shape, week = np.zeros(len(place)), np.ones(len(place))
    for name, (peaks, weekend) in RHYTHM.items():
        mine = kind == name
        shape[mine] = sum(np.exp(-(((hour[mine] - peak) / 2.5) ** 2)) for peak in peaks)
        week[mine] = weekend if day.weekday() >= 5 else 1.0
    return base * (0.05 + shape) * week


def _sky(day: dt.date) -> list[float]:
    """How likely each weather is: snow in winter alone."""
    winter = day.month in (12, 1, 2)
    return [0.3, 0.3, 0.2, 0.2] if winter else [0.45, 0.3, 0.25, 0.0]
