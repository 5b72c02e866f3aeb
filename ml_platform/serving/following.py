"""Follows the champion alias: who is champion in the registry is served seconds later, and nobody waits for it.

A version that cannot be served is refused and the one before goes on. What goes wrong is an error in the log once for
each change, and stays in the status for as long as it lasts.
"""

import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ml_platform.kernel.addresses import without_password
from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.process import set_service_defaults
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.connection import quiet_imports
from ml_platform.model_registry.registry import CHAMPION, Registered
from ml_platform.serving import copies
from ml_platform.serving.logged import Role
from ml_platform.serving.patience import Patience
from ml_platform.serving.slots import Slot, Status
from ml_platform.serving.versions import Loaded, definition_doubts, fetched, loaded, warm

log = logging.getLogger(__name__)

Aliases = Mapping[str, Mapping[str, int]]
"""Version by alias, by name of the model."""

_REGISTRY_SECONDS = 5.0
_DOUBT_SECONDS = 30.0
_SETTLED_NS = 1_000_000_000


class Champions:
    """The versions that this process serves: each model's champion, and one in shadow where that is asked for.

    `current` and `shadow` never wait, and what they give never changes. A thread looks at the registry every
    `follow_seconds`; `look` does it once.
    """

    def __init__(self, settings: Settings) -> None:
        set_service_defaults()
        self._settings = settings
        self._registry = Patience(without_password(settings.tracking_uri), seconds=_REGISTRY_SECONDS)
        self._roles: dict[Role, str] = {"champion": CHAMPION}
        if settings.serving.shadow:
            self._roles["shadow"] = settings.serving.shadow
        self._slots: dict[tuple[str, Role], Slot] = {}
        self._stamp: object = None
        self._nothing: str | None = None
        self._stopped, self._looked = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Follow in the background from now on."""
        self._thread = threading.Thread(target=self._follow, name="follows the champion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Follow no more; what is served goes on."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * _REGISTRY_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait until everything was looked at once; False when that takes longer."""
        return self._looked.wait(seconds)

    def current(self, name: str) -> Loaded | None:
        """The version of a model that answers now; None for a model that is not served."""
        return self._served(name, "champion")

    def shadow(self, name: str) -> Loaded | None:
        """The version that is scored beside a model's champion; None for none, or when it is the champion."""
        found, champion = self._served(name, "shadow"), self._served(name, "champion")
        same = found is not None and champion is not None and found.version == champion.version
        return None if same else found

    def status(self) -> list[Status]:
        """How each model is served, and what is not as it should be."""
        return self._status("champion")

    def shadows(self) -> list[Status]:
        """The same of what is scored in shadow; empty when nothing is asked to be."""
        return self._status("shadow")

    def ready(self) -> bool:
        """Whether everything that is to be served is, after the first look: by the right version or the one before."""
        champions = self.status()
        served = bool(champions) and all(found.version is not None for found in champions)
        return self._looked.is_set() and served

    def look(self) -> None:
        """Ask the registry once, and follow it; without an answer, serve on, if need be from local copies."""
        stamp = _stamp(self._settings)
        if stamp is None or stamp != self._stamp or any(slot.problems for slot in self._slots.values()):
            self._stamp = stamp if self._ask() else None
        for slot in list(self._slots.values()):
            self._doubt(slot)
        self._looked.set()

    def _ask(self) -> bool:
        """Whether the registry answered, and everything is as it says."""
        kept = copies.kept(self._settings)
        try:
            aliases = self._registry.ask(lambda: _aliases(self._settings))
        except StoreError as err:
            slots = self._slots_of(self._named() or kept)
            for slot in slots:
                self._unanswered(slot, err)
            self._say_nothing_is_served(None if slots else str(err))
            return False
        found = [name for name, of_model in aliases.items() if CHAMPION in of_model]
        slots = self._slots_of(self._named() or [*found, *kept])
        failed = [slot for slot in slots if not self._follow_alias(slot, aliases)]
        why = "every champion is for batch predictions" if slots else "no registered model has a champion"
        self._say_nothing_is_served(None if any(not slot.left_out for slot in slots) else why)
        return not failed

    def _follow_alias(self, slot: Slot, aliases: Aliases) -> bool:
        try:
            self._look_at(slot, aliases.get(slot.model, {}).get(slot.alias))
        except StoreError as err:
            self._unanswered(slot, err)
            return False
        return True

    def _say_nothing_is_served(self, why: str | None) -> None:
        """In the log once for each change: without a model there is no status that could have it."""
        if why is not None and why != self._nothing:
            log.error("%s. Nothing is served", why.rstrip("."))
        self._nothing = why

    def _follow(self) -> None:
        _warm_up(self._settings)
        while not self._stopped.is_set():
            try:
                self.look()
            except BaseException:  # the next look may be a better one; until then everything goes on
                log.exception("the registry could not be followed; what is served goes on")
            self._stopped.wait(self._settings.serving.follow_seconds)

    def _look_at(self, slot: Slot, number: int | None) -> None:
        """Follow one alias to the version that it points at; StoreError when the registry stops answering."""
        wanted = number and self._registry.ask(lambda: registry.version(self._settings, slot.model, number))
        slot.heard(wanted.version if wanted else None)
        if not wanted:
            self._nobody(slot)
        elif slot.serves(wanted) or slot.leaves_out(wanted):
            slot.accept()
        elif not slot.waits(wanted):
            self._try(slot, wanted)
        self._copy(slot)

    def _try(self, slot: Slot, wanted: Registered) -> None:
        try:
            files = self._registry.ask(lambda: fetched(self._settings, wanted))
            version = loaded(self._settings, files, origin="registry")
            if self._is_for_batch(slot, version):
                slot.leave_out(wanted, f"{', '.join(version.offline)} is never online")
                return
            slot.take(warm(version), files)
        except StoreError as err:
            self._fall_back(slot)
            slot.refuse(wanted, str(err), pause=self._settings.serving.follow_seconds)
        else:
            slot.accept()

    def _is_for_batch(self, slot: Slot, version: Loaded) -> bool:
        """Whether a version is for batch predictions, of a model that was neither named nor served before."""
        if not version.offline or slot.model in self._named():
            return False
        self._fall_back(slot)
        return slot.loaded is None

    def _nobody(self, slot: Slot) -> None:
        """No version has the alias: of the champion nobody says so on purpose; a shadow ends that way."""
        if slot.role == "shadow":
            slot.end()
            return
        self._fall_back(slot)
        slot.lost(f"no version of it has the alias {slot.alias}: it was removed, or its version was deleted")

    def _unanswered(self, slot: Slot, err: StoreError) -> None:
        if slot.left_out:
            return
        self._fall_back(slot)
        slot.unanswered(str(err))

    def _fall_back(self, slot: Slot) -> None:
        """Serve the last champion's copy where nothing is served yet, after a restart."""
        if slot.loaded is not None or slot.role != "champion":
            return
        try:
            files = copies.last(self._settings, slot.model)
            if files is not None:
                slot.take(warm(loaded(self._settings, files, origin="copy")), files)
                slot.say("copy", None)
        except StoreError as err:
            slot.say("copy", str(err))

    def _copy(self, slot: Slot) -> None:
        """Keep what is served for a day without the registry; tried again until it is kept."""
        if slot.copied or slot.files is None:
            return
        try:
            copies.keep(self._settings, slot.files)
        except StoreError as err:
            slot.say("copy", str(err))
        else:
            slot.copied = True
            slot.say("copy", None)

    def _doubt(self, slot: Slot) -> None:
        """Ask now and then whether the features of what is served are still those online."""
        if slot.loaded is None or slot.files is None or time.monotonic() < slot.doubted_at + _DOUBT_SECONDS:
            return
        try:
            slot.doubt(definition_doubts(self._settings, slot.files, slot.loaded.contract))
        except StoreError as err:
            slot.doubt([str(err)])

    def _status(self, role: Role) -> list[Status]:
        slots = list(self._slots.values())
        return [slot.status() for slot in slots if slot.role == role and not slot.left_out]

    def _served(self, name: str, role: Role) -> Loaded | None:
        slot = self._slots.get((name, role))
        return slot.loaded if slot is not None else None

    def _named(self) -> list[str]:
        return [name.strip() for name in self._settings.serving.models.split(",") if name.strip()]

    def _slots_of(self, names: list[str]) -> list[Slot]:
        """The slots of models and of all that were followed before, each role of each model."""
        for name in names:
            for role, alias in self._roles.items():
                self._slots.setdefault((name, role), Slot(name, role, alias))
        return list(self._slots.values())


def _warm_up(settings: Settings) -> None:
    """Import what asks the registry: that takes seconds, which are not the registry's."""
    with quiet_imports():
        import mlflow

        if _file(settings) is not None:
            import mlflow.store.model_registry.sqlalchemy_store
            import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


def _aliases(settings: Settings) -> Aliases:
    """What the registry says; StoreError for a SQLite file that is gone, which MLflow would make anew, empty."""
    file = _file(settings)
    if file is not None and not file.exists():
        raise StoreError(f"{file}: the model registry is required and is gone")
    return registry.aliases(settings)


def _stamp(settings: Settings) -> object:
    """What stays equal as long as nobody writes to an embedded registry, which then need not be asked; else None.

    Asking takes tens of milliseconds of this process, every time that it looks. What was written a moment ago may be
    written to again under the same time.
    """
    file = _file(settings)
    if file is None:
        return None
    found: list[tuple[int, int, int]] = []
    for path in (file, file.with_name(f"{file.name}-wal")):
        try:
            state = path.stat()
        except FileNotFoundError:
            continue
        found.append((state.st_ino, state.st_mtime_ns, state.st_size))
    settled = found and max(modified for _, modified, _ in found) < time.time_ns() - _SETTLED_NS
    return tuple(found) if settled else None


def _file(settings: Settings) -> Path | None:
    scheme, _, path = settings.tracking_uri.partition(":///")
    return Path(path) if scheme == "sqlite" else None
