"""What a prediction costs in process: features of two views from Redis, the on-demand function, the model.

`python -m tests.benchmarks.online [--data PATH.parquet] [--json]`

Ours reads and scores as the service does, one row at a time. Beside it stands `FeatureStore.get_online_features` of
the same feature service as a dictionary, which runs the same on-demand function and predicts nothing; and the floor:
one Redis pipeline that fetches the same fields of the same keys and leaves them as bytes, and the model on rows that
are ready. Rows are asked about in turn by all sides; times are medians over all of them. Before, the features of every
row are compared between ours and Feast, to the bit.
"""

import argparse
import gc
import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ml_platform.features.store import quiet_feast
from ml_platform.kernel.settings import PROJECT_ROOT
from ml_platform.model_registry import registry
from ml_platform.serving.compute import Answer, scorer
from ml_platform.serving.store import OnlineFeatures
from tests.benchmarks.measure import report
from tests.benchmarks.released import Released, released, released_arguments
from tests.benchmarks.sides import stock_config

Row = Mapping[str, Any]
WARM, ASKED = 200, 3000


def main() -> None:
    """Build and release a model with its features in Redis, and time one prediction by each side."""
    parser = released_arguments(__doc__)
    parser.add_argument("--requests", type=int, default=ASKED, help=f"of each side (default: {ASKED})")
    options = parser.parse_args()
    with released(options) as platform, quiet_feast():
        result = measure(platform, options)
    rows = [{"side": side, "median, µs": result[f"{side}_us"]} for side in ("ours", "feast", "floor")]
    report(rows, result, as_json=options.json)


def measure(platform: Released, options: argparse.Namespace) -> dict[str, Any]:
    """Compare the values of both, then time all sides in turn."""
    ours, feast = by_ours(platform), by_feast(platform)
    answers = [ours(row) for row in platform.instances]
    names = platform.contract.features
    differ = [
        name
        for row, answer in zip(platform.instances, answers, strict=True)
        for name, value in feast(row).items()
        if name in names and not same(answer.features[0, names.index(name)], value[0])
    ]
    sides = {"ours": ours, "feast": feast, "floor": by_floor(platform, answers)}
    taken = timed(sides, platform, options.requests)
    return {
        **{f"{side}_us": taken[side] for side in sides},
        "ratio": round(taken["ours"] / taken["feast"], 3),
        "store": "redis",
        "equal": not differ,
        "rows_compared": len(answers),
        "differ": sorted(set(differ)),
    }


def by_ours(platform: Released) -> Callable[[Row], Answer]:
    """Read and score, as the service does."""
    model = scorer(platform.contract, registry.load_onnx(platform.settings, platform.version))
    online = OnlineFeatures(platform.settings, platform.contract)
    at = round(platform.at.timestamp() * 1_000_000)
    return lambda row: model.score([row], online.read([row]), at=at)


def by_feast(platform: Released) -> Callable[[Row], dict[str, Any]]:
    """The same features by Feast's own call on Feast's own store, without a prediction."""
    from feast import FeatureStore, RepoConfig

    store = FeatureStore(config=RepoConfig(**stock_config(platform), repo_path=PROJECT_ROOT / "feature_repo"))
    service = store.get_feature_service(platform.contract.feature_service)
    wanted = (*platform.contract.keys, *platform.contract.request)

    def read(row: Row) -> dict[str, Any]:
        asked = {name: row[name] for name in wanted}
        return store.get_online_features(features=service, entity_rows=[asked]).to_dict()

    return read


def by_floor(platform: Released, answers: list[Answer]) -> Callable[[Row], Any]:
    """One pipeline of the same fields, and the model on a row that is ready."""
    from redis import Redis

    client = Redis(host="127.0.0.1", port=platform.redis_port)
    model = scorer(platform.contract, registry.load_onnx(platform.settings, platform.version)).session
    ready = itertools.cycle(
        [{platform.contract.input: answer.features.astype(np.float32)} for answer in answers]
    )
    keys = hashes(platform)

    def fetch(row: Row) -> Any:
        pipeline = client.pipeline(transaction=False)
        for name, (key_of, fields) in keys.items():
            pipeline.hmget(key_of[row[name]], fields)
        return pipeline.execute(), model.run(None, next(ready))

    return fetch


def hashes(platform: Released) -> dict[str, tuple[dict[Any, bytes], list[bytes | str]]]:
    """By join key: the Redis key of every entity that is asked about, and the fields of the views that have it."""
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    def key(join_key: str, value: int) -> bytes:
        entity = EntityKey(join_keys=[join_key], entity_values=[Value(int64_val=value)])
        return _redis_key(platform.settings.project, entity, entity_key_serialization_version=3)

    return {
        name: (
            {row[name]: key(name, row[name]) for row in platform.instances},
            [*(_mmh3(f"{view.name}:{feature}") for feature in view.features), f"_ts:{view.name}"],
        )
        for view in platform.contract.views
        for name in [view.keys[0].name]  # these views have one
    }


def timed(sides: Mapping[str, Callable[[Row], Any]], platform: Released, requests: int) -> dict[str, float]:
    """Median microseconds of one row, sides in turn row by row."""
    taken: dict[str, list[float]] = {side: [] for side in sides}
    rows = itertools.islice(itertools.cycle(platform.instances), WARM + requests)
    gc.collect()
    for number, row in enumerate(rows):
        for side, ask in sides.items():
            start = time.perf_counter()
            ask(row)
            if number >= WARM:
                taken[side].append(time.perf_counter() - start)
    return {side: round(statistics.median(seconds) * 1e6, 1) for side, seconds in taken.items()}


def same(ours: Any, feast: Any) -> bool:
    """Whether two values are one: both missing, or equal to the bit."""
    missing = [value is None or (isinstance(value, float) and math.isnan(value)) for value in (ours, feast)]
    return all(missing) or (not any(missing) and ours == feast)


if __name__ == "__main__":
    main()
