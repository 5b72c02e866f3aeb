"""MLflow: runs, versions, aliases and artifacts. Decides nothing, and never loads code."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings, declared_name
from ml_platform.model_registry.connection import asked, client, quiet_imports, status_of

CHAMPION = "champion"
MODEL_FILE = "model.onnx"


@dataclass(frozen=True)
class Registered:
    """One registered model version and where it came from."""

    registered_name: str
    version: int
    run_id: str
    source: str
    tags: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the model is declared as."""
        return declared_name(self.registered_name)

    @property
    def partition(self) -> str:
        return self.tags.get("partition", "")


@dataclass(frozen=True)
class Candidate:
    """Everything that is registered with a new version.

    `registered_name` is the model's name in the registry; `documents` are JSON files that travel inside the model's
    artifact (contract.json, manifest.json); `pictures` are PNG bytes by file name.
    """

    registered_name: str
    onnx: bytes
    feature_names: tuple[str, ...]
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    documents: Mapping[str, Mapping[str, Any]]
    pictures: Mapping[str, bytes]


@contextmanager
def partition_run(mlflow: Any, *, name: str) -> Iterator[str]:
    """A nested MLflow run for one model partition; ended as FAILED or KILLED when the body raises."""
    active = mlflow.start_run(run_name=name, nested=True)
    status = "FINISHED"
    try:
        yield active.info.run_id
    except BaseException as err:
        status = status_of(err)
        raise
    finally:
        mlflow.end_run(status=status)


def register(mlflow: Any, candidate: Candidate, *, run_id: str) -> Registered:
    """Log a candidate to its run and register it as the next version of its model."""
    with quiet_imports():
        import mlflow.onnx
        import mlflow.pyfunc  # logging a model imports it otherwise
        import onnx

    mlflow.log_params({key: str(value)[:500] for key, value in candidate.parameters.items()})
    mlflow.log_metrics(dict(candidate.metrics))
    mlflow.set_tags(dict(candidate.tags))
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        documents = [_write_json(Path(folder) / name, value) for name, value in candidate.documents.items()]
        for name, png in candidate.pictures.items():
            (Path(folder) / name).write_bytes(png)
            mlflow.log_artifact(str(Path(folder) / name))
        logged = mlflow.onnx.log_model(
            onnx.load_from_string(candidate.onnx),
            name="model",
            signature=_signature(len(candidate.feature_names)),
            pip_requirements=["onnxruntime"],
            extra_files=[str(path) for path in documents],
            save_as_external_data=False,
        )
    client = mlflow.MlflowClient()
    _ensure_registered_model(client, candidate.registered_name)
    version = client.create_model_version(
        candidate.registered_name,
        logged.model_uri,
        run_id=run_id,
        tags=dict(candidate.tags),
        model_id=logged.model_id,
    )
    return _registered(version)


def describe(mlflow: Any, registered: Registered, *, text: str, short: str, name: str) -> None:
    """Keep a text about a version with its run, under a file name, and a short one as the version's description.

    Both name the version, whose number nobody knew before it was registered.
    """
    client = mlflow.MlflowClient()
    client.log_text(registered.run_id, text, name)
    client.update_model_version(registered.registered_name, str(registered.version), description=short)


def versions(settings: Settings, name: str) -> list[Registered]:
    """All versions of a model, oldest first; empty when it was never registered."""
    with asked(settings):
        wanted = f"name='{settings.registered_name(name)}'"
        found = client(settings).search_model_versions(wanted, max_results=1000)
    return sorted((_registered(version) for version in found), key=lambda version: version.version)


def version(settings: Settings, name: str, number: int) -> Registered | None:
    """One version of a model, or None when there is none of that number, or it was deleted."""
    with asked(settings):
        return _found(lambda: client(settings).get_model_version(settings.registered_name(name), str(number)))


def aliases(settings: Settings) -> dict[str, dict[str, int]]:
    """Version by alias of every model that this environment registered, by declared name."""
    found: dict[str, dict[str, int]] = {}
    token: str | None = None
    with asked(settings):
        while token != "":
            page = client(settings).search_registered_models(max_results=100, page_token=token)
            found |= {
                name: {alias: int(number) for alias, number in model.aliases.items()}
                for model in page
                if (name := settings.declared_name(model.name)) is not None
            }
            token = page.token or ""
    return found


def champion(settings: Settings, name: str) -> Registered | None:
    """The version that the champion alias points at, or None."""
    with asked(settings):
        mine = settings.registered_name(name)
        return _found(lambda: client(settings).get_model_version_by_alias(mine, CHAMPION))


def set_champion(settings: Settings, name: str, number: int) -> None:
    """Point the champion alias at a version."""
    with asked(settings):
        client(settings).set_registered_model_alias(settings.registered_name(name), CHAMPION, str(number))


def tag(settings: Settings, name: str, number: int, **tags: str) -> None:
    """Give a version tags, in place of others of their names."""
    with asked(settings):
        for key, value in tags.items():
            client(settings).set_model_version_tag(settings.registered_name(name), str(number), key, value)


def metrics(settings: Settings, registered: Registered) -> dict[str, float]:
    """What was measured when a version was trained."""
    with asked(settings):
        return dict(client(settings).get_run(registered.run_id).data.metrics)


def load_onnx(settings: Settings, registered: Registered) -> bytes:
    """The ONNX bytes of a version."""
    return _file(settings, registered, MODEL_FILE)


def load_files(settings: Settings, registered: Registered, *, documents: Sequence[str]) -> dict[str, bytes]:
    """The ONNX file of a version and documents that travel with it, by name, in one download; StoreError without."""
    with asked(settings), _downloaded(settings, registered) as folder:
        found = {name: (folder / "extra_files" / name).read_bytes() for name in documents}
        return {MODEL_FILE: (folder / MODEL_FILE).read_bytes(), **found}


def load_document(settings: Settings, registered: Registered, name: str) -> dict[str, Any]:
    """A JSON document that travels with a version: contract.json, evaluation.json or manifest.json.

    Raises StoreError when it is not there or cannot be read.
    """
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return json.loads(_file(settings, registered, f"extra_files/{name}"))
    except (MlflowException, SQLAlchemyError, OSError, ValueError) as err:
        raise StoreError(
            f"model {registered.name} version {registered.version}: its {name} is required and cannot be read: {err}"
        ) from err


def load_text(settings: Settings, registered: Registered, name: str) -> str:
    """A text that was kept with a version's run; StoreError when its run has none of this name."""
    from mlflow.exceptions import MlflowException

    mlflow_client = client(settings)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        try:
            path = mlflow_client.download_artifacts(registered.run_id, name, folder)
        except (MlflowException, OSError) as err:
            raise StoreError(
                f"{registered.name} version {registered.version}: {name} of its run {registered.run_id} is required "
                f"and cannot be read: {err}"
            ) from err
        return Path(path).read_text(encoding="utf-8")


def manifests(settings: Settings) -> Iterator[tuple[Registered, dict[str, Any]]]:
    """Every version of every model of this environment with its manifest.json: what it was trained from.

    Raises StoreError when the registry, or one of the manifests, cannot be read: who asks what models need
    must not take silence for an answer.
    """
    with asked(settings):
        found = _all_versions(client(settings))
    for registered in found:
        if settings.declared_name(registered.registered_name) is not None:
            yield registered, load_document(settings, registered, "manifest.json")


def _all_versions(client: Any) -> list[Registered]:
    found: list[Registered] = []
    token: str | None = None
    while token != "":
        page = client.search_model_versions(max_results=1000, page_token=token)
        found += map(_registered, page)
        token = page.token or ""
    return sorted(found, key=lambda version: (version.name, version.version))


def _found(ask: Callable[[], Any]) -> Registered | None:
    from mlflow.exceptions import MlflowException

    try:
        return _registered(ask())
    except MlflowException as err:
        if err.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _file(settings: Settings, registered: Registered, name: str) -> bytes:
    with _downloaded(settings, registered, f"/{name}") as path:
        return path.read_bytes()


@contextmanager
def _downloaded(settings: Settings, registered: Registered, path: str = "") -> Iterator[Path]:
    import mlflow
    from mlflow.artifacts import download_artifacts

    mlflow.set_tracking_uri(settings.tracking_uri)
    with tempfile.TemporaryDirectory(prefix="model-") as folder:
        uri = f"models:/{registered.registered_name}/{registered.version}{path}"
        yield Path(download_artifacts(artifact_uri=uri, dst_path=folder))


def _ensure_registered_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as err:
        if err.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _signature(features: int) -> Any:
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs = Schema([TensorSpec(np.dtype(np.float32), (-1, features), name="features")])
    outputs = Schema([TensorSpec(np.dtype(np.float32), (-1, 2), name="probabilities")])
    return ModelSignature(inputs=inputs, outputs=outputs)


def _write_json(path: Path, value: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(value, indent=2, sort_keys=True))
    return path


def _registered(version: Any) -> Registered:
    return Registered(version.name, int(version.version), version.run_id, version.source, dict(version.tags))
