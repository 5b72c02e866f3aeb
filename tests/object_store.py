"""A real S3-compatible object store of the tests' own: moto's server, in a process of its own.

`from tests.object_store import object_store` in a folder's conftest.py; it listens on this machine only.
"""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ml_platform.lake import engine
from ml_platform.lake.object_store import S3
from tests.redis_server import free_port

_STARTS_WITHIN = 60.0
BUCKET = "lake"


@contextmanager
def running_store(bucket: str = BUCKET) -> Iterator[dict[str, str]]:
    """A store with one bucket until the end of the block; the variables by which everybody finds it.

    What this process knew of another store is forgotten: outside of tests a process has one.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(process, url)
        urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT")).close()
        S3.clear_instance_cache()
        engine._of_this_process.cache_clear()
        yield {
            "AWS_ENDPOINT_URL": url,
            "MLFLOW_S3_ENDPOINT_URL": url,  # else MLflow keeps the client of another store for minutes
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": "tests",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="module")
def object_store() -> Iterator[str]:
    """URI of the store's bucket, with the variables set as long as the tests of a module run."""
    with running_store() as variables, pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield f"s3://{BUCKET}"


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _STARTS_WITHIN
    while True:
        try:
            urllib.request.urlopen(url).close()
        except OSError:
            assert process.poll() is None, f"moto's server ended with {process.returncode}"
            assert time.monotonic() < deadline, "moto's server did not answer in time"
            time.sleep(0.1)
        else:
            return
