"""The process that serves: it follows the champions, logs predictions, and answers until it is told to stop."""

import gc
import ipaddress
import signal
import socket
import sys
import threading

import uvicorn

from ml_platform.kernel.errors import InputError, StoreError
from ml_platform.kernel.json_logs import log_as_json
from ml_platform.kernel.settings import ServingSettings, Settings
from ml_platform.serving.app import application
from ml_platform.serving.following import Champions
from ml_platform.serving.keys import Keys
from ml_platform.serving.log import PredictionLog
from ml_platform.serving.shadow import Shadow

_TURN_S = 0.0005
"""How long a thread may keep others from running: a request does not wait for what the log or the follower does."""


def run(settings: Settings, *, without_keys: bool = False) -> None:
    """Serve until the process is told to stop; InputError for settings that it may not start with."""
    here = settings.prepare()
    keys = accepted_keys(here.serving, without_keys=without_keys)
    listening = _listen(here.serving)
    log_as_json()
    sys.setswitchinterval(_TURN_S)
    champions, log = Champions(here), PredictionLog(here)
    shadow = Shadow(champions, log) if here.serving.shadow else None
    champions.start()
    threading.Thread(target=_settle, args=(champions,), name="settles", daemon=True).start()
    try:
        served = uvicorn.Config(
            application(here, champions, log, keys=keys, shadow=shadow),
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # nobody here asks where a request came from
            timeout_graceful_shutdown=10,
        )
        host, port = listening.getsockname()[:2]
        print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _ends_in_order)
        uvicorn.Server(served).run(sockets=[listening])
    finally:
        if shadow is not None:
            shadow.close()  # it logs too
        log.close()
        champions.stop()


def _ends_in_order(*_: object) -> None:
    """Nothing more: uvicorn raises what stopped it once more at its end, and what waits is still to be logged."""


def _settle(champions: Champions) -> None:
    """Keep what was loaded at the start out of garbage collections: looking through it would stop requests for long."""
    champions.wait(600)
    gc.collect()
    gc.freeze()


def accepted_keys(serving: ServingSettings, *, without_keys: bool) -> Keys | None:
    """The keys that requests need; None where everybody may ask, which is only ever this machine."""
    if not without_keys:
        keys = Keys(serving)
        if not len(keys):
            raise InputError(
                "API keys are required, in ML_PLATFORM_SERVING__KEYS or ML_PLATFORM_SERVING__KEYS_FILE; "
                "there are none. Nothing was started; make one with `ml-platform serving-key NAME`, or start "
                "with --without-keys on a loopback address"
            )
        return keys
    if not _is_loopback(serving.host):
        raise InputError(
            f"a loopback address is required to serve without keys; {serving.host} is none. Nothing was started"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listen(serving: ServingSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in serving.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((serving.host, serving.port))
    except OSError as err:
        listening.close()
        raise StoreError(
            f"{serving.host}:{serving.port}: an address that can be listened on is required: {err}. Nothing was started"
        ) from err
    return listening
