"""A declared feed delivers partitions of which nothing has landed, through the same ingest as a file."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from ml_platform.kernel.digest import digest_of
from ml_platform.kernel.errors import DeclarationError
from ml_platform.kernel.partitions import DAILY, Range, cadence_of, contiguous, day, start_of
from ml_platform.kernel.settings import Settings
from ml_platform.sources.landing import Landed, ingest
from ml_platform.sources.spec import Feed, SourceSpec


def land_from_feed(settings: Settings, spec: SourceSpec, keys: Sequence[str]) -> list[Landed]:
    """Ask the source's feed for partitions and land what it delivers; one file per unbroken range of them."""
    if spec.feed is None:
        return []
    return [
        ingest(settings, spec, deliver(settings, spec.feed, (run[0], run[-1]))) for run in contiguous(keys)
    ]


def deliver(settings: Settings, feed: Feed, keys: Range) -> Path:
    """The Parquet file with a feed's events of a range of partitions; made once, shared by the sources that read it."""
    folder = settings.root / "deliveries"
    path = folder / f"{digest_of(feed.model_dump())}_{keys[0]}_{keys[1]}.parquet"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        rows = _function(feed)(**_asked(keys), **feed.parameters)
        write_delivery(rows, path)
    return path


def _asked(keys: Range) -> dict[str, Any]:
    """What a feed's function is asked for: the days, or the hours by when they begin."""
    first, last = keys
    if cadence_of(first) == DAILY:
        return {"first_day": day(first), "last_day": day(last)}
    return {"first_hour": start_of(first), "last_hour": start_of(last)}


def write_delivery(rows: pa.Table, path: Path) -> Path:
    """Write rows to a Parquet file that appears only when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(
        f"{path.name}.{uuid4().hex}.unfinished"
    )  # two processes may make the same file
    pq.write_table(rows, unfinished)
    return unfinished.replace(path)


def _function(feed: Feed) -> Any:
    module, _, name = feed.function.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as err:
        raise DeclarationError(f"feed.function must be importable; {feed.function!r} is not: {err}") from err
