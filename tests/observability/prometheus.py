"""A Prometheus server of the tests' own, and the two processes that it scrapes."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.observability.rules import rule_file, tool

_STARTS_WITHIN = 180.0  # on a busy machine


@contextlib.contextmanager
def started(command: list[str], address: str) -> Iterator[str]:
    """A process, and what it says on standard error after `address`, where it listens."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said: list[str] = []
        try:
            for line in process.stderr:
                said.append(line)
                found = re.search(rf"{address}(127\.0\.0\.1:\d+)", line)
                if found:
                    break
            else:
                raise AssertionError("".join(said))
            # what nobody reads fills the pipe, and then the process waits
            reader = threading.Thread(target=process.stderr.read, daemon=True)
            reader.start()
            yield found[1]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def exporter() -> "contextlib.AbstractContextManager[str]":
    """`ml-platform metrics` of the settings of this process."""
    command = [str(Path(sys.executable).with_name("ml-platform")), "metrics", "--port", "0"]
    return started(command, "http://")


class Prometheus:
    """A server that scrapes every second, and evaluates the rules as often."""

    def __init__(self, address: str) -> None:
        self._address = address

    def ready(self) -> bool:
        """Whether it answers queries."""
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=30).close()
            return True
        return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an expression now."""
        return self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]

    def names(self) -> set[str]:
        """Every metric that was ever scraped or recorded."""
        return set(self._get("label/__name__/values"))

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with how its last evaluation went."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self._address}/api/v1/{path}", timeout=30) as answer:
            return json.load(answer)["data"]


def configuration(folder: Path, jobs: Mapping[str, str]) -> Path:
    """The file of a server that evaluates the rules, and scrapes an address for each job."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rule_file(folder))],
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": [address]}]} for job, address in jobs.items()
        ],
    }
    path = folder / "prometheus.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.contextmanager
def scraping(folder: Path, jobs: Mapping[str, str]) -> Iterator[Prometheus]:
    """A server that scrapes an address for each job until the end of the block."""
    file = configuration(folder, jobs)
    command = [tool("prometheus"), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    with started([*command, "--web.listen-address=127.0.0.1:0"], "Listening on. address=") as address:
        found, deadline = Prometheus(address), time.monotonic() + _STARTS_WITHIN
        while not (found.ready() and len(found.query("up == 1")) == len(jobs)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield found
