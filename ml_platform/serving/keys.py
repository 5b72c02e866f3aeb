"""Who may ask: API keys, of which this side keeps only the digests.

A key is written down as `name:sha256[:last-day]`. Several are taken at once, so that a new one can be handed out
before an old one is taken back. Keys are 256 random bits, so one round of SHA-256 keeps them as well as many would.
"""

import datetime as dt
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import ServingSettings
from ml_platform.serving.problems import Refused

_log = logging.getLogger(__name__)
_PREFIX = "mlp_"
_NAME = re.compile(r"[A-Za-z0-9_.@-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LOOK_AGAIN_S = 1.0
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class Key:
    """One key as it is kept: whose it is, its digest, and the last day (UTC) on which it is taken."""

    name: str
    digest: bytes
    last_day: dt.date | None

    @property
    def line(self) -> str:
        """How it is written down."""
        end = f":{self.last_day}" if self.last_day else ""
        return f"{self.name}:{self.digest.hex()}{end}"


def new_key(name: str, *, last_day: dt.date | None = None) -> tuple[str, Key]:
    """A new key for somebody, which is told once, and what is kept of it; InputError for a name that cannot be one."""
    if not _NAME.fullmatch(name):
        raise InputError(
            f"a name of up to 64 letters, digits or _ . @ - is required; got {name!r}. No key was made"
        )
    if last_day is not None and last_day < dt.datetime.now(dt.UTC).date():
        raise InputError(f"a day that is not over is required; {last_day} is. No key was made")
    key = _PREFIX + secrets.token_urlsafe(32)
    return key, Key(name, _digest(key), last_day)


def parse_keys(text: str, *, of: str) -> list[Key]:
    """Keys as they are written down, one on a line or with commas; InputError for a line that is none."""
    lines = [line.strip() for line in text.replace(",", "\n").splitlines()]
    return [_parse(line, of, i) for i, line in enumerate(lines, start=1) if line and not line.startswith("#")]


class Keys:
    """The keys that are taken now: those of the settings, and those of a file, which is read again when it changes.

    InputError when they cannot be read at the start; later a file that cannot be read leaves its last keys in force.
    """

    def __init__(self, settings: ServingSettings) -> None:
        given = settings.keys.get_secret_value() if settings.keys else ""
        self._given = parse_keys(given, of="ML_PLATFORM_SERVING__KEYS")
        self._file = settings.keys_file
        self._stamp: tuple[int, int, int] | None = None
        self._looked = time.monotonic()
        self._said = ""
        self._of_file = self._read(self._file) if self._file else []

    def __len__(self) -> int:
        return len(self._given) + len(self._of_file)

    def holder(self, headers: Mapping[bytes, bytes]) -> str:
        """The name of the key that a request carries; Refused without one, or with one that is not taken."""
        presented = _presented(headers)
        if presented is None:
            detail = "an API key is required, as `Authorization: Bearer KEY` or `X-API-Key: KEY`; none came"
            raise Refused(401, "no_key", detail, headers=_CHALLENGE)
        self._look_again()
        digest = hashlib.sha256(presented).digest()
        found = [key for key in (*self._given, *self._of_file) if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Refused(
                401,
                "unknown_key",
                "a key of this service is required; the one that came is none",
                headers=_CHALLENGE,
            )
        today = dt.datetime.now(dt.UTC).date()
        for key in found:
            if key.last_day is None or today <= key.last_day:
                return key.name
        expired = f"{found[0].name}'s did after {found[0].last_day}"
        detail = f"a key that has not expired is required; {expired}. Ask for a new one"
        raise Refused(401, "expired_key", detail, headers=_CHALLENGE)

    def _look_again(self) -> None:
        now = time.monotonic()
        if self._file is None or now - self._looked < _LOOK_AGAIN_S:
            return
        self._looked = now
        try:
            if _stamp(self._file) != self._stamp:
                self._of_file = self._read(self._file)
                _log.info("%s has changed: it has %d API keys now", self._file, len(self._of_file))
                self._said = ""
        except InputError as err:
            if str(err) != self._said:
                _log.error("%s. The keys that it had stay in force", err)
            self._said = str(err)

    def _read(self, file: Path) -> list[Key]:
        try:
            stamp = _stamp(file)
            found = parse_keys(file.read_text(encoding="utf-8"), of=str(file))
        except (OSError, UnicodeDecodeError) as err:
            raise InputError(f"{file}: a file of API keys that can be read is required: {err}") from err
        self._stamp = stamp  # of what was read: what could not be is read again, however it looks
        return found


def _stamp(file: Path) -> tuple[int, int, int]:
    try:
        found = file.stat()
    except OSError as err:
        raise InputError(f"{file}: a file of API keys that can be read is required: {err}") from err
    return found.st_mtime_ns, found.st_size, found.st_ino


def _presented(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key that came; an `Authorization` decides alone, so that nobody has to guess which of two counts."""
    given = headers.get(b"authorization")
    if given is None:
        return headers.get(b"x-api-key") or None
    scheme, _, token = given.partition(b" ")
    return token.strip() or None if scheme.lower() == b"bearer" else None


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _parse(line: str, of: str, number: int) -> Key:
    name, digest, *rest = [*line.split(":"), ""]
    last_day = rest[0] if rest else ""
    try:
        if not _NAME.fullmatch(name) or not _DIGEST.fullmatch(digest) or len(rest) > 2:
            raise ValueError
        return Key(name, bytes.fromhex(digest), dt.date.fromisoformat(last_day) if last_day else None)
    except ValueError:
        raise InputError(
            f"{of}: key {number} has to be name:sha256[:last-day], as `ml-platform serving-key NAME` prints it. "
            f"Nothing was taken from it"
        ) from None
