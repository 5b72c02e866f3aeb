"""One run of the demo: what it works on, how long its stages took, and which steps an earlier run has done."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import yaml
from rich.console import Console

from ml_platform import declarations
from ml_platform.cli.instance import Runner, RunReport
from ml_platform.cli.story import Deliveries
from ml_platform.cli.summary import keep_progress, read_progress, require_same_options
from ml_platform.drift_profiles.spec import DriftProfileSpec
from ml_platform.features.spec import FeatureViewSpec
from ml_platform.kernel.catalog import Catalog
from ml_platform.kernel.errors import InputError, PlatformError
from ml_platform.kernel.settings import Settings
from ml_platform.releases.spec import ReleaseSpec
from ml_platform.sources.spec import Feed, SourceSpec


@dataclass(frozen=True)
class Options:
    """What the demo is asked for."""

    scale: float = 1.0
    days: int | None = None
    sources: tuple[str, ...] = ()


@dataclass
class Demo:
    """One demo run: what it works on, and what it has found so far."""

    settings: Settings
    options: Options
    console: Console
    catalog: Catalog = field(default_factory=declarations.load)
    stages: dict[str, float] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_same_options(self.settings, asdict(self.options))
        self.script: Mapping[str, Any] = yaml.safe_load(
            (declarations.defs_folder() / "demo.yaml").read_text()
        )
        self._require_days()
        self.release = self.catalog.get(ReleaseSpec, self.script["release"], wanted_by="demo.yaml")
        self.model = self.release.model_spec(self.catalog)
        self.events = self.catalog.get(SourceSpec, self.script["events"], wanted_by="demo.yaml")
        self.labels = self.catalog.get(SourceSpec, self.script["labels"], wanted_by="demo.yaml")
        feed = self.events.feed or Feed(function="none")
        feed = feed.model_copy(update={"parameters": {**feed.parameters, "scale": self.options.scale}})
        self.deliveries = Deliveries(
            self.events, self.settings.root / "deliveries", feed, self.options.sources
        )
        with self.stage("start"):
            self.runner = Runner.of(self.settings)

    def _require_days(self) -> None:
        """As many days as a first model needs, and no more than there are before the two bad ones."""
        fewest, most = self.script["fewest_days"], self.script["days"]
        if self.options.days is not None and not fewest <= self.options.days <= most:
            raise InputError(
                f"--days requires {fewest} to {most}, by demo.yaml; got {self.options.days}. Nothing was made"
            )

    @contextmanager
    def stage(self, name: str, doing: str = "") -> Iterator[None]:
        """Time a stage, and show what is being done while it is."""
        started = time.perf_counter()
        with self.console.status(f"[bold]{name}[/]  {doing}", spinner="dots"):
            yield
        seconds = time.perf_counter() - started
        self.stages[name] = self.stages.get(name, 0) + seconds
        if doing:
            self.console.print(f"  [green]✓[/] {doing} [dim]{seconds:.1f} s[/]")

    def once(self, step: str, do: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a step found, done only if no earlier, interrupted demo in this home has done it."""
        progress = read_progress(self.settings)
        if step not in progress:
            progress[step] = do()
            keep_progress(self.settings, progress)
        return progress[step]

    def make(
        self, stage: str, assets: Sequence[str], first: str | None = None, last: str | None = None
    ) -> RunReport:
        """Materialize assets in one run; PlatformError with the run's own words when it fails."""
        report = self.attempt(stage, assets, first, last)
        if not report.success:
            raise PlatformError(f"{', '.join(assets)} failed in run {report.run_id}:\n{report.error}")
        return report

    def attempt(
        self, stage: str, assets: Sequence[str], first: str | None = None, last: str | None = None
    ) -> RunReport:
        """Materialize assets in one run, and tell how it ended."""
        days = f" {first}" if last in (None, first) else f" {first} … {last}"
        with self.stage(stage, f"{', '.join(assets)}[dim]{days if first else ''}[/]"):
            return self.runner.run(assets, first, last)

    @property
    def views(self) -> list[FeatureViewSpec]:
        rows = self.model.training_set_spec(self.catalog)
        return rows.service(self.catalog).view_specs(self.catalog)

    @property
    def profiles(self) -> list[DriftProfileSpec]:
        return self.model.profile_specs(self.catalog)
