"""Train a declared estimator, turn it into ONNX, and prove that both agree."""
# The libraries used here have no types, so strict checking would only repeat that on every line.
# pyright: standard

import difflib
import importlib
import inspect
import json
import pkgutil
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ml_platform.kernel.errors import DeclarationError, InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Array = npt.NDArray[Any]
Declared = Mapping[str, Any]
INPUT_NAME = "features"
# ONNX and scikit-learn round their float32 arithmetic differently: values cross the thresholds of trees.
FLOAT64_STEPS = frozenset({"MaxAbsScaler", "MinMaxScaler", "PCA", "RobustScaler", "StandardScaler"})


@dataclass(frozen=True)
class ParityReport:
    """How far the ONNX model's scores are from the estimator's own; from one beyond 1, as a share of it."""

    rows: int
    max_difference: float
    rows_over_tolerance: int
    tolerance: float

    @property
    def passed(self) -> bool:
        """True if no row differs by more than the tolerance."""
        return self.rows_over_tolerance == 0


def build_estimator(
    import_path: str,
    parameters: Declared,
    *,
    preprocessing: Sequence[Declared] = (),
    numbers: bool = False,
) -> Any:
    """Build the scikit-learn estimator that a declaration names, not yet trained.

    `preprocessing` lists transformers `{estimator: import.path, parameters: {...}}` in order. Those of
    FLOAT64_STEPS compute in float64 and round to float32 once, so that training and ONNX see equal values.
    `numbers` are forecast by a regressor alone; classes by a classifier, or by a regressor's score.
    Raises DeclarationError if a class, a parameter or its value cannot be used, with close names that can.
    """
    from sklearn.base import is_classifier
    from sklearn.pipeline import make_pipeline

    model = _instance(import_path, parameters, methods=("fit", "predict"))
    if numbers and is_classifier(model):
        raise DeclarationError(
            f"A regressor is required to forecast numbers; {import_path} is a classifier. No estimator was built. "
            "Declare one such as sklearn.ensemble.HistGradientBoostingRegressor, or compare by a metric of classes."
        )
    if is_classifier(model) and not hasattr(model, "predict_proba"):
        raise DeclarationError(
            f"A classifier must give probabilities; {import_path} {dict(parameters)} has no predict_proba. "
            "No estimator was built. Declare one that does, or set its parameter that turns probabilities on."
        )
    steps = [part for step in preprocessing for part in _transformers(step)]
    return make_pipeline(*steps, model) if steps else model


def _transformers(step: Declared) -> list[Any]:
    if "estimator" not in step or not step.keys() <= {"estimator", "parameters"}:
        raise DeclarationError(
            f"A preprocessing step needs `estimator` and may have `parameters`; {sorted(step)} came. "
            "No estimator was built. Name the transformer's import path under `estimator`."
        )
    transformer = _instance(step["estimator"], step.get("parameters") or {}, methods=("fit", "transform"))
    if type(transformer).__name__ not in FLOAT64_STEPS:
        return [transformer]
    from skl2onnx.sklapi import CastTransformer

    cast: Any = CastTransformer
    return [cast(dtype=np.float64), transformer, cast(dtype=np.float32)]


def _instance(import_path: str, parameters: Declared, *, methods: tuple[str, str]) -> Any:
    """Import a class and build it from parameters that it knows and allows."""
    cls = _estimator_class(import_path, methods=methods)
    known = inspect.signature(cls).parameters
    if unknown := [name for name in parameters if name not in known]:
        hint = _suggest(unknown[0], known)
        raise DeclarationError(
            f"{import_path} has no parameter {unknown[0]!r}. No estimator was built. {hint}"
        )
    try:
        estimator = cls(**parameters)
        if hasattr(estimator, "_parameter_constraints"):  # what scikit-learn itself asks, but only in fit
            estimator._validate_params()
    except (TypeError, ValueError) as err:
        raise DeclarationError(
            f"{import_path} refuses {dict(parameters)}: {err} No estimator was built. Correct the parameters."
        ) from err
    return estimator


def _estimator_class(import_path: str, *, methods: tuple[str, str]) -> type[Any]:
    from sklearn.base import BaseEstimator

    def usable(value: object) -> bool:
        is_class = inspect.isclass(value) and issubclass(value, BaseEstimator)
        return is_class and all(hasattr(value, method) for method in methods)

    module_name, _, name = import_path.rpartition(".")
    module = _module(module_name, import_path=import_path)
    found: Any = getattr(module, name, None)
    if not usable(found):
        came = "no such name is there" if found is None else f"{name} is not that"
        valid = [key for key, value in vars(module).items() if usable(value)]
        raise DeclarationError(
            f"{import_path} must be a scikit-learn estimator class with {' and '.join(methods)}; {came}. "
            f"No estimator was built. {_suggest(name, valid)}"
        )
    return found


def _module(module_name: str, *, import_path: str) -> Any:
    """Import a module, or say which part of its path is wrong."""
    try:
        return importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as err:
        parent, _, child = (getattr(err, "name", None) or "").rpartition(".")
        hint = "Write the full path of an installed class, such as sklearn.linear_model.Ridge."
        if parent and f"{module_name}.".startswith(f"{parent}.{child}."):
            package = getattr(importlib.import_module(parent), "__path__", [])
            hint = _suggest(child, [found.name for found in pkgutil.iter_modules(package)])
        what = f"{import_path!r} must be an importable class; it is not: {err}."
        raise DeclarationError(f"{what} No estimator was built. {hint}") from err


def _suggest(name: str, valid: Collection[str]) -> str:
    close = difflib.get_close_matches(name, valid, n=3)
    public = sorted(known for known in valid if not known.startswith("_"))
    return f"Did you mean {' or '.join(close)}?" if close else f"Valid names: {', '.join(public) or 'none'}."


def train(estimator: Any, features: Array, labels: Array) -> Any:
    """Fit a copy of the estimator on float32 features (n, k) and labels (n,), and return the copy.

    A classifier needs labels 0 and 1, both of them. Raises InputError if the rows cannot be learnt from.
    """
    from sklearn.base import clone, is_classifier

    _refuse_bad_features(features)
    if labels.shape != features.shape[:1]:
        raise InputError(
            f"Training needs one label per row; rows {features.shape} and labels {labels.shape} came. "
            "Nothing was trained. Build both from the same table."
        )
    if is_classifier(estimator):
        labels = binary_labels(labels, what="Training")
    copy: Any = clone(estimator)
    try:
        return copy.fit(features, labels)
    except (TypeError, ValueError) as err:
        raise InputError(
            f"{type(estimator).__name__} refuses the training rows {features.shape}: {err} "
            "Nothing was trained. Correct the training set, or add preprocessing such as an imputer."
        ) from err


def to_onnx(fitted: Any, features: Array, feature_names: Sequence[str]) -> bytes:
    """Convert a trained estimator to ONNX: input `features` float32 [None, k], probabilities as a tensor.

    The names stand in the model's metadata under `feature_names`, as JSON. Equal estimators give equal bytes
    under one skl2onnx. A conversion that succeeds can still be another model: ask `parity` before use.
    Raises DeclarationError if there is no conversion that runs, InputError if names and columns do not match.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, NotImplemented

    _refuse_bad_features(features)
    if len(set(feature_names)) != len(feature_names) or len(feature_names) != features.shape[1]:
        raise InputError(
            f"A model needs one name, used once, per feature; {features.shape[1]} columns and names "
            f"{list(feature_names)} came. Nothing was converted. Give the names in the order of the columns."
        )
    try:
        model = _convert(fitted, columns=features.shape[1])
        model.opset_import.sort(key=lambda opset: opset.domain)  # skl2onnx takes them from a set
        model.metadata_props.add(key="feature_names", value=json.dumps(list(feature_names)))
        converted = model.SerializeToString(deterministic=True)
        predict_onnx(converted, features[:10_000])  # some fail only on the path of some rows
    except (RuntimeError, Fail, InvalidGraph, NotImplemented) as err:
        raise DeclarationError(
            f"A model is kept as ONNX, and {fitted!r} has no conversion that runs: {str(err).strip()[:300]} "
            "Nothing was converted. Declare an estimator and preprocessing that skl2onnx supports."
        ) from err
    return converted


def _convert(fitted: Any, *, columns: int) -> Any:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.base import is_classifier

    with warnings.catch_warnings():
        # skl2onnx 1.20 itself writes False for 0 in the leaves of HistGradientBoosting trees.
        warnings.filterwarnings("ignore", "Field onnx.AttributeProto.ints: Exp", DeprecationWarning)
        return convert_sklearn(
            fitted,
            name="model",
            initial_types=[(INPUT_NAME, FloatTensorType([None, columns]))],
            options={id(fitted): {"zipmap": False}} if is_classifier(fitted) else None,
        )


def onnx_session(model: bytes) -> "InferenceSession":
    """Load an ONNX model to score on one thread, as a request or a step with few cores wants it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised; without this they are printed too
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def predict_onnx(model: "bytes | InferenceSession", features: Array) -> Array:
    """Score float32 features (n, k) with an ONNX model: probabilities of 1, or a regressor's values, (n,).

    Raises InputError if the features are not what the model takes, or it is not a model of two classes.
    """
    session = onnx_session(model) if isinstance(model, bytes) else model
    _refuse_bad_features(features, columns=session.get_inputs()[0].shape[1])
    output: Any = session.run([session.get_outputs()[-1].name], {INPUT_NAME: features})[0]
    if output.ndim != 2 or output.shape[1] > 2:
        raise InputError(
            f"A score needs two classes or a regressor; {output.shape} came. Nothing was scored. Train so."
        )
    return output[:, -1]


def parity(fitted: Any, model: bytes, features: Array, tolerance: float = 1e-4) -> ParityReport:
    """Compare an ONNX model with the estimator it was made from, on every row given.

    A wrong conversion can be right on most rows, so give it all. The tolerance of an answer beyond 1 is its share,
    as float32 has seven digits. A score that is not a number, on either side, is over it. Raises InputError for no
    rows.
    """
    scores = predict_onnx(model, features).astype(np.float64)
    if not len(scores):
        raise InputError(
            "Parity needs rows; none came. Nothing was proven. Give it all rows of the test set."
        )
    probable = hasattr(fitted, "predict_proba")
    expected = fitted.predict_proba(features)[:, 1] if probable else np.ravel(fitted.predict(features))
    with np.errstate(invalid="ignore"):  # infinity minus infinity is judged below
        differences = np.abs(scores - expected) / np.maximum(1, np.abs(expected))
    differences[np.isnan(differences)] = np.inf
    over = int((differences > tolerance).sum())
    return ParityReport(len(scores), float(differences.max()), over, tolerance)


def binary_labels(labels: Array, *, what: str) -> Array:
    """Labels as int64; InputError when they are not 0 and 1, both, saying for `what` they are needed."""
    values = np.unique(labels)
    if not np.array_equal(values, [0, 1]):
        raise InputError(
            f"{what} needs labels 0 and 1, both; {len(labels)} rows with labels {values[:5].tolist()} came. "
            "Nothing was done. Take more days, or look for labels that have not arrived."
        )
    return labels.astype(np.int64)


def _refuse_bad_features(features: Array, *, columns: int | None = None) -> None:
    if features.ndim != 2 or features.dtype != np.float32 or columns not in (None, features.shape[1]):
        raise InputError(
            f"A model needs float32 features (n, {columns or 'k'}); {features.dtype} {features.shape} came. "
            "Nothing was computed. Give the training set's feature columns, as float32, in its order."
        )
