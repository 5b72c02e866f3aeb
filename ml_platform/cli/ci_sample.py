"""The declared sample slice: which days continuous integration materializes, and where their rows come from."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from ml_platform.declarations import invalid
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import DeclarationError, InputError
from ml_platform.kernel.settings import Settings
from ml_platform.kernel.spec import Name, Spec
from ml_platform.sources.feed import deliver
from ml_platform.sources.landing import expand, ingest
from ml_platform.sources.spec import SourceSpec


class SampleOfSource(Spec):
    """Where the sample's rows of one source come from; without either, its feed as it is declared."""

    feed: Mapping[str, Any] = Field(
        default_factory=dict,
        description="Arguments of its feed that are others in the sample, such as a scale.",
    )
    files: tuple[str, ...] = Field(
        default=(), description="Files, folders or globs to land instead, from the folder of this file."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.feed and self.files:
            raise ValueError("either `feed` or `files` is required; got both")
        return self


class Sample(Spec):
    """Days that are enough for every declared asset to be made once, and small enough for every change."""

    first: dt.date = Field(description="First day of the slice.")
    last: dt.date = Field(description="Last day: the partition of training sets and models.")
    sources: Mapping[Name, SampleOfSource] = Field(
        default_factory=dict[str, SampleOfSource],
        description="By source; one that is not named asks its feed.",
    )


def load_sample(folder: Path) -> Sample:
    """The sample that `ci.yaml` beside the declarations declares; DeclarationError when it is wrong or not there."""
    path = folder / "ci.yaml"
    if not path.is_file():
        raise DeclarationError(
            f"{path}: the sample slice is required: first and last day, and the sources' feeds or files; there is no "
            f"such file. Nothing was run"
        )
    try:
        return Sample.model_validate(yaml.safe_load(path.read_text()))
    except ValidationError as err:
        raise invalid(path, Sample, err) from err


def given_files(options: Sequence[str]) -> dict[str, list[str]]:
    """Paths by source from options `SOURCE=PATH`; InputError for one of another form."""
    given: dict[str, list[str]] = {}
    for option in options:
        source, equals, path = option.partition("=")
        if not (source and equals and path):
            raise InputError(f"--data requires SOURCE=PATH, such as orders=sample.parquet; got {option!r}")
        given.setdefault(source, []).append(path)
    return given


def land_sample(
    here: Settings, catalog: Catalog, sample: Sample, folder: Path, given: Mapping[str, Sequence[str]]
) -> int:
    """Land the sample's rows of every source; how many. InputError for a source without rows, or an unknown one."""
    sources = catalog.all(SourceSpec)
    for name in (*sample.sources, *given):
        catalog.get(SourceSpec, name, wanted_by="the sample of ci")
    return sum(
        ingest(here, source, path).rows
        for source in sources
        for path in _files(here, source, sample, folder, given.get(source.name, ()))
    )


def _files(
    here: Settings, source: SourceSpec, sample: Sample, folder: Path, given: Sequence[str]
) -> list[Path]:
    declared = sample.sources.get(source.name, SampleOfSource())
    if given or declared.files:
        return expand(given or [str(folder / path) for path in declared.files])
    if source.feed is None:
        raise InputError(
            f"sources/{source.name}: rows for the sample are required; it has no feed, and ci.yaml names no files. "
            f"Nothing was run; declare them, or give them: --data {source.name}=PATH"
        )
    first, last = max(sample.first, source.start), min(sample.last, source.end or sample.last)
    feed = source.feed.model_copy(update={"parameters": {**source.feed.parameters, **declared.feed}})
    return [deliver(here, feed, source.cadence.of_days(first, last))]
