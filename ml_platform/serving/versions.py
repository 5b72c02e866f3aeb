"""A version as it is served: its files checked against its contract, tested, and never changed again.

Everything that speaks against a version is found here, before a request meets it. Nothing is unpickled: a version is
two JSON documents and a graph of arithmetic; its functions are this installation's own.
"""

import hashlib
import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from ml_platform.kernel.errors import PlatformError, StoreError
from ml_platform.kernel.settings import Settings
from ml_platform.model_registry import registry
from ml_platform.models import contract as contracts
from ml_platform.models.contract import Contract
from ml_platform.serving.compute import Scorer, ViewRows, scorer
from ml_platform.serving.definitions import other_definitions
from ml_platform.serving.store import OnlineFeatures

log = logging.getLogger(__name__)

Origin = Literal["registry", "copy"]
MODEL, CONTRACT, MANIFEST = registry.MODEL_FILE, contracts.DOCUMENT, "manifest.json"
_PARITY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Files:
    """One version as bytes, wherever they were read."""

    name: str
    version: int
    run_id: str
    partition: str
    content: Mapping[str, bytes]

    @property
    def of(self) -> str:
        """How messages call the version."""
        return f"model {self.name} version {self.version}"

    @cached_property
    def digests(self) -> dict[str, str]:
        """SHA-256 of each file, by name."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.content.items()}

    def document(self, name: str) -> Mapping[str, Any]:
        """One of the JSON documents; StoreError when it is none."""
        try:
            found = json.loads(self.content[name])
        except ValueError as err:
            raise StoreError(
                f"{self.of}: its {name} is required and is no JSON: {err}. It is not served"
            ) from err
        if not isinstance(found, dict):
            raise StoreError(f"{self.of}: its {name} is required and is no JSON object. It is not served")
        return found


@dataclass(frozen=True)
class Loaded:
    """A version that is ready to serve: who has it finishes with it, whatever is champion by then.

    `doubts` are what could not be told when it was loaded.
    """

    name: str
    version: int
    run_id: str
    partition: str
    contract: Contract
    scorer: Scorer
    features: OnlineFeatures
    origin: Origin
    doubts: tuple[str, ...] = ()

    @property
    def offline(self) -> list[str]:
        """Views that it reads and that are never online: with any, it is for batch predictions."""
        return [view.name for view in self.contract.views if not view.online]


def load(settings: Settings, registered: registry.Registered) -> Loaded:
    """A registered version, ready to serve; StoreError with what speaks against it."""
    return loaded(settings, fetched(settings, registered), origin="registry")


def fetched(settings: Settings, registered: registry.Registered) -> Files:
    """The files of a registered version; StoreError when the registry does not give them."""
    content = registry.load_files(settings, registered, documents=(CONTRACT, MANIFEST))
    return Files(registered.name, registered.version, registered.run_id, registered.partition, content)


def loaded(settings: Settings, files: Files, *, origin: Origin) -> Loaded:
    """A version of these files, ready to serve; StoreError with what speaks against it."""
    contract = contracts.read_contract(files.document(CONTRACT), of=files.of)
    _require_own(files, contract)
    _require_evidence(files, contract)
    try:
        ready = scorer(contract, files.content[MODEL])
        ready.self_test()
    except PlatformError:
        raise
    except Exception as err:  # ONNX Runtime has errors of its own for each way in which a graph is none
        raise StoreError(
            f"{files.of}: a model that ONNX Runtime can run is required: {type(err).__name__}: {err}. "
            f"It is not served; train it again"
        ) from err
    _require_answers(files, ready)
    return Loaded(
        name=files.name,
        version=files.version,
        run_id=files.run_id,
        partition=files.partition,
        contract=contract,
        scorer=ready,
        features=OnlineFeatures(settings, contract),
        origin=origin,
        doubts=definition_doubts(settings, files, contract),
    )


def warm(found: Loaded) -> Loaded:
    """The version after its first read, which opens connections and is slower than a request may wait.

    Raises StoreError for a version that reads what is never online: it is for batch predictions.
    """
    if found.offline:
        raise StoreError(
            f"model {found.name} version {found.version}: views that are published online are required; "
            f"{', '.join(found.offline)} is declared `online: false`. It is not served; score with batch predictions, "
            f"or train a version whose views are online"
        )
    key = {name: 0 if kind == "int64" else "" for name, kind in found.contract.keys.items()}
    try:
        found.features.read([key])
    except StoreError as err:
        log.warning("model %s version %s: %s", found.name, found.version, err)
    return found


def definition_doubts(settings: Settings, files: Files, contract: Contract) -> tuple[str, ...]:
    """Why it cannot be told that what is online is what the version was trained on; StoreError where it is not."""
    try:
        others = other_definitions(settings, contract, files.document(MANIFEST))
    except StoreError as err:
        return (f"it cannot be told whether the features of version {files.version} are those online: {err}",)
    if others:
        raise StoreError(
            f"{files.of}: online features as defined when it was trained are required; {'; '.join(others)}. It would "
            f"answer from features that it does not know. Declare and publish those of then again, or train a "
            f"version on these: materialize models/{files.name}, then its release"
        )
    return ()


def _require_answers(files: Files, found: Scorer) -> None:
    """Requests would be answered, with values and without: functions give what the model is asked with."""
    contract = found.contract
    asked = {**contract.keys, **contract.request}
    row = {name: "" if kind == "string" else 1 for name, kind in asked.items()}
    there = [ViewRows([0], {name: [1] for name in view.features}) for view in contract.views]
    missing = [ViewRows([None], {name: [None] for name in view.features}) for view in contract.views]
    try:
        for online in (there, missing):
            found.score([row], online, at=0)
    except Exception as err:  # functions are somebody else's
        raise StoreError(
            f"{files.of}: an answer to a made-up row is required before it serves; on-demand functions or columns "
            f"of its contract fail: {type(err).__name__}: {err}. It is not served; see {CONTRACT}, and train it again"
        ) from err


def _require_own(files: Files, contract: Contract) -> None:
    """The contract is this version's, and the model is the one that it was written for."""
    if (contract.model, contract.training.run_id) != (files.name, files.run_id):
        raise StoreError(
            f"{files.of}: a contract of its own run {files.run_id} is required; its contract is of model "
            f"{contract.model}, run {contract.training.run_id}. It is not served; its artifacts in MLflow were changed"
        )
    if files.digests[MODEL] != contract.onnx:
        raise StoreError(
            f"{files.of}: the model that its contract was written for is required (SHA-256 {contract.onnx[:12]}…); "
            f"{MODEL} has {files.digests[MODEL][:12]}…. It is not served; its artifacts were changed or damaged"
        )


def _require_evidence(files: Files, contract: Contract) -> None:
    """The version was trained behind gates, and its ONNX model was shown to score as the estimator does."""
    evidence = contract.gate_evidence
    parity = evidence.get("onnx_parity")
    worst = parity.get("max_difference") if isinstance(parity, Mapping) and parity.get("rows") else None
    close = isinstance(worst, int | float) and math.isfinite(worst) and 0 <= worst <= _PARITY_TOLERANCE
    missing = [] if evidence.get("gates") else ["no gates that were open when it was trained"]
    missing += [] if close else ["no parity of its ONNX model with the estimator"]
    if missing:
        raise StoreError(
            f"{files.of}: evidence that it was trained behind its gates is required; its contract has "
            f"{' and '.join(missing)}. It is not served; train it with the platform: materialize models/{files.name}"
        )
