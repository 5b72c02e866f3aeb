"""What one alias of one model is served by, and what is not as it should be about it."""

import datetime as dt
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from ml_platform.model_registry.registry import Registered
from ml_platform.serving.logged import Role
from ml_platform.serving.versions import Files, Loaded, Origin

log = logging.getLogger(__name__)

_ADDRESS = re.compile(r"0x[0-9a-f]+")
_LONGEST_WAIT = 30.0


@dataclass(frozen=True)
class Status:
    """How one model is served: by which version, since when, and what is wrong.

    `wanted` is the version that the alias pointed at when the registry last answered, `refused` the one that it points
    at and that is not served. `problems` are sentences; without any, everything is as it should be.
    """

    model: str
    role: Role
    version: int | None
    run_id: str | None
    partition: str | None
    origin: Origin | None
    since: dt.datetime | None
    wanted: int | None
    refused: int | None
    registry: bool
    problems: tuple[str, ...]


@dataclass(frozen=True)
class _Refused:
    version: int
    run_id: str
    times: int
    again_at: float


@dataclass
class Slot:
    """One alias of one model: only the thread that follows writes here; everybody may read."""

    model: str
    role: Role
    alias: str
    loaded: Loaded | None = None
    since: dt.datetime | None = None
    wanted: int | None = None
    registry: bool = True
    files: Files | None = None
    copied: bool = True
    doubted_at: float = 0.0
    problems: dict[str, str] = field(default_factory=dict[str, str])
    left_out: Registered | None = None
    _refused: _Refused | None = None

    def status(self) -> Status:
        loaded, refused = self.loaded, self._refused
        return Status(
            model=self.model,
            role=self.role,
            version=loaded.version if loaded else None,
            run_id=loaded.run_id if loaded else None,
            partition=loaded.partition if loaded else None,
            origin=loaded.origin if loaded else None,
            since=self.since if loaded else None,
            wanted=self.wanted,
            refused=refused.version if refused else None,
            registry=self.registry,
            problems=tuple(dict(self.problems).values()),
        )

    def serves(self, registered: Registered) -> bool:
        """Whether it is served as the registry has it."""
        loaded = self.loaded
        return loaded is not None and (loaded.version, loaded.run_id, loaded.origin) == (
            registered.version,
            registered.run_id,
            "registry",
        )

    def take(self, loaded: Loaded | None, files: Files | None) -> None:
        """Serve another version from now on: one assignment, and whoever has the one before finishes with it."""
        before, self.loaded = self.loaded, loaded
        self.left_out = None
        self.since = dt.datetime.now(dt.UTC)
        self.files = files
        self.copied = self.role != "champion" or loaded is None or loaded.origin == "copy"
        was = f"version {before.version}" if before else "nothing"
        now = f"version {loaded.version} (from the {loaded.origin})" if loaded else "nothing"
        log.info("model %s: %s is served as %s, before: %s", self.model, now, self.role, was)
        self.doubt(loaded.doubts if loaded else ())

    def end(self) -> None:
        """Serve nothing any more, because nothing is asked for."""
        if self.loaded is not None:
            self.take(None, None)
        self.accept()

    def leave_out(self, registered: Registered, why: str) -> None:
        """Serve nothing of a model whose champion is not for this service: nothing is wrong about that."""
        self.left_out, self._refused = registered, None
        self.say("alias", None)
        log.info("model %s: version %s is left out: %s", self.model, registered.version, why)

    def leaves_out(self, registered: Registered) -> bool:
        """Whether this very version was left out."""
        found = self.left_out
        return found is not None and (found.version, found.run_id) == (registered.version, registered.run_id)

    def heard(self, wanted: int | None) -> None:
        """The registry answered."""
        self.registry, self.wanted = True, wanted
        self.say("registry", None)

    def unanswered(self, problem: str) -> None:
        """The registry did not answer."""
        self.registry = False
        self.say("registry", problem)

    def lost(self, problem: str) -> None:
        """The alias points nowhere."""
        self._refused = None
        self.say("alias", problem)

    def waits(self, registered: Registered) -> bool:
        """Whether a version was refused so recently that nothing has changed."""
        found = self._refused
        same = found is not None and (found.version, found.run_id) == (registered.version, registered.run_id)
        return same and found is not None and time.monotonic() < found.again_at

    def refuse(self, registered: Registered, why: str, *, pause: float) -> None:
        """Go on with what is served; the version is tried again, ever more rarely."""
        before = self._refused
        same = before is not None and (before.version, before.run_id) == (
            registered.version,
            registered.run_id,
        )
        times = before.times + 1 if same and before is not None else 1
        again_at = time.monotonic() + min(pause * 2**times, _LONGEST_WAIT)
        self._refused, self.left_out = _Refused(registered.version, registered.run_id, times, again_at), None
        self.say("alias", f"the {self.alias} is version {registered.version}, and it is refused: {why}")

    def accept(self) -> None:
        """The alias is followed: nothing about it is wrong."""
        self._refused = None
        self.say("alias", None)

    def doubt(self, doubts: Sequence[str]) -> None:
        """Say whether what is online is what the version was trained on."""
        self.doubted_at = time.monotonic()
        self.say("features", "; ".join(doubts) or None)

    def say(self, about: str, problem: str | None) -> None:
        """Keep a problem in the status, or end it; in the log once for each change."""
        before = self.problems.get(about)
        if problem is None:
            self.problems.pop(about, None)
            if before is not None:
                log.info("model %s: no longer: %s", self.model, before)
            return
        self.problems[about] = problem
        if before is None or _ADDRESS.sub("", before) != _ADDRESS.sub("", problem):
            log.error("model %s: %s. %s", self.model, problem.rstrip("."), self._goes_on())

    def _goes_on(self) -> str:
        if self.loaded is None:
            return f"Nothing is served as {self.role}"
        return f"Version {self.loaded.version} goes on (from the {self.loaded.origin})"
