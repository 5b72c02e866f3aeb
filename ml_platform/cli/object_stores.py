"""What `ml-platform doctor` asks object stores: whether MLflow finds artifacts, and whether puts are conditional."""

from pathlib import Path
from uuid import uuid4

from ml_platform.kernel.errors import StoreError
from ml_platform.kernel.settings import Settings

_ASKED_FOR = "asked-by-doctor"
"""A path below a root at which nobody keeps anything."""


def artifacts(root: str, not_made: str) -> str:
    """Whether MLflow's own client of the artifact root may list it: it finds keys, region and endpoint another way."""
    if "://" not in root and not Path(root).exists():
        return not_made
    from ml_platform.model_registry.connection import quiet_imports

    with quiet_imports():
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    get_artifact_repository(root).list_artifacts(_ASKED_FOR)
    return "may be listed"


def conditional_puts(here: Settings, uri: str, timeout_s: float) -> str:
    """Whether the lake's store refuses to write an object that is there: else of two commits at once one is lost.

    One object of no bytes is written below the lake's root, written again, and removed.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError

    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    patience = Config(
        connect_timeout=timeout_s,
        read_timeout=timeout_s,
        retries={"total_max_attempts": 1, "mode": "standard"},
    )
    store = boto3.client("s3", region_name=here.region, config=patience)
    key = f"{prefix.strip('/')}/{_ASKED_FOR}/{uuid4().hex}"
    store.put_object(Bucket=bucket, Key=key, IfNoneMatch="*")
    try:
        store.put_object(Bucket=bucket, Key=key, IfNoneMatch="*")
    except ClientError as err:
        if err.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
            raise
    else:
        raise StoreError(
            "a store is required that refuses to write an object that is there (If-None-Match: *); this one wrote it "
            "twice. Of two writers of a table one would lose its rows; take another store"
        )
    finally:
        store.delete_object(Bucket=bucket, Key=key)
    return "a second write of an object is refused"
