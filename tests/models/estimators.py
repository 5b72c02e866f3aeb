"""Estimators that end badly, each in its own way, named by import path in changed declarations."""

import os
import signal
import time
from typing import Any, Self

from sklearn.linear_model import LogisticRegression


class Failing(LogisticRegression):
    """Raises what a library raises when its arithmetic fails."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        raise FloatingPointError("the solver diverged")


class Interrupted(LogisticRegression):
    """Is interrupted from the keyboard while it trains."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        raise KeyboardInterrupt


class Signalled(LogisticRegression):
    """Trains for a minute in a process that somebody asks to stop at once."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
        raise AssertionError("nobody stopped it")
