"""Logs as JSON: one object on a line, with the ids by which a request, or a run, is found again.

Neither keys nor features are in it. Errors of Python's own may quote a value, so of those only kind and place are told.
"""

import datetime as dt
import json
import logging
import sys
import traceback
from typing import Any

_FIELDS = (
    *("request_id", "trace_id", "caller", "method", "route", "status", "reason"),
    *("model", "version", "milliseconds"),
)
_MAY_QUOTE_VALUES = (ValueError, TypeError, LookupError, ArithmeticError, AssertionError, Warning)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        at = dt.datetime.fromtimestamp(record.created, dt.UTC)
        document: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        document |= self.about(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            document["error"] = _error(error)
        return json.dumps(document, default=str)

    def about(self, record: logging.LogRecord) -> dict[str, Any]:
        """What a record is about, by name."""
        return {name: value for name in _FIELDS if (value := getattr(record, name, None)) is not None}


def log_as_json(level: int = logging.INFO) -> None:
    """Let everything that this process logs be JSON on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("ml_platform").setLevel(level)
    logging.captureWarnings(True)


def _error(error: BaseException) -> dict[str, Any]:
    places = traceback.extract_tb(error.__traceback__)
    told: dict[str, Any] = {
        "type": type(error).__name__,
        "stack": [f"{place.filename}:{place.lineno} {place.name}" for place in places],
    }
    if not isinstance(error, _MAY_QUOTE_VALUES):
        told["message"] = str(error)
    if error.__cause__ is not None:
        told["cause"] = _error(error.__cause__)
    return told
