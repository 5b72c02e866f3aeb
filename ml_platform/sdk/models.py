"""A registered version of a model: what it answers, and what is known of it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ml_platform.kernel.errors import InputError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.model_registry.registry import Registered
from ml_platform.models.card import DOCUMENT as CARD
from ml_platform.models.compute import Array, predict_onnx
from ml_platform.models.contract import DOCUMENT as CONTRACT
from ml_platform.models.contract import Contract, read_contract
from ml_platform.sdk.rows import Rows, arrow_of


@dataclass(frozen=True)
class Model:
    """One version; nothing of it is unpickled."""

    settings: Settings
    registered: Registered

    @property
    def name(self) -> str:
        return self.registered.name

    @property
    def version(self) -> int:
        return self.registered.version

    @property
    def metrics(self) -> dict[str, float]:
        """What it was measured by on its test rows, by name."""
        return registry.metrics(self.settings, self.registered)

    @property
    def card(self) -> str:
        """Its model card, as Markdown."""
        return registry.load_text(self.settings, self.registered, CARD)

    @cached_property
    def contract(self) -> Contract:
        """What it reads, in which order, and what becomes of missing values."""
        document = registry.load_document(self.settings, self.registered, CONTRACT)
        return read_contract(document, of=f"model {self.name} version {self.version}")

    @cached_property
    def onnx(self) -> bytes:
        """The model's graph."""
        return registry.load_onnx(self.settings, self.registered)

    def predict(self, frame: Any) -> Array:
        """Scores (n,) of rows with the contract's features, such as `features(…).at(…)` gives; null is missing."""
        rows = arrow_of(frame.table if isinstance(frame, Rows) else frame)
        if missing := [name for name in self.contract.features if name not in rows.column_names]:
            raise InputError(
                f"{self.name}@{self.version}: rows with its features are required ({', '.join(self.contract.features)})"
                f"; {', '.join(missing)} did not come. Nothing was scored"
            )
        columns = [rows.column(name).to_numpy() for name in self.contract.features]
        return predict_onnx(self.onnx, np.column_stack(columns).astype(np.float32))
