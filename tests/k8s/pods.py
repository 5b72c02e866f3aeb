"""A pod whose container is a process of this machine."""

import datetime as dt
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

Object = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, str]]


class MissingError(Exception):
    """A ConfigMap, Secret, key or field that a container refers to is not there."""


@dataclass(frozen=True)
class Node:
    """What containers find where they run: the image's environment, ConfigMaps, Secrets, and a place for logs."""

    image: Mapping[str, str]
    config_maps: Tables
    secrets: Tables
    logs: Path

    def environment(self, pod: Object, container: Object) -> dict[str, str]:
        """The environment of a container, as the kubelet puts it together; MissingError for what is not there."""
        found = dict(self.image)
        for source in container.get("envFrom", ()):
            found |= self._table(source)
        for variable in container.get("env", ()):
            given = variable.get("valueFrom")
            value = self._value(pod, given) if given else _expanded(variable.get("value", ""), found)
            found[variable["name"]] = value
        return found

    def start(self, pod: Object, container: Object, log: Path) -> "subprocess.Popen[bytes]":
        """Run the command of a container, in a session of its own; MissingError as above."""
        environment = self.environment(pod, container)
        return self.run(command_of(container, environment), environment, log)

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, folder: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Run a command in a folder; what it prints is added to a file."""
        with log.open("ab") as told:
            return subprocess.Popen(
                command,
                env=environment,
                cwd=folder,
                stdout=told,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _table(self, source: Object) -> Mapping[str, str]:
        tables = self.config_maps if "configMapRef" in source else self.secrets
        ((_, reference),) = source.items()
        if reference["name"] not in tables:
            raise MissingError(f"{reference['name']} not found")
        return tables[reference["name"]]

    def _value(self, pod: Object, given: Object) -> str:
        if "fieldRef" in given:
            path = given["fieldRef"]["fieldPath"].split(".")
            if path[0] != "metadata":
                raise MissingError(f"field {'.'.join(path)} is not known here")
            return pod["metadata"][path[1]]
        kind = "configMapRef" if "configMapKeyRef" in given else "secretRef"
        ((_, reference),) = given.items()
        table = self._table({kind: {"name": reference["name"]}})
        if reference["key"] not in table:
            raise MissingError(f"{reference['name']} has no key {reference['key']}")
        return table[reference["key"]]


def command_of(container: Object, environment: Mapping[str, str]) -> list[str]:
    """What a container runs, with its variables in the place of $(…)."""
    words = [*container.get("command", ()), *container.get("args", ())]
    return [_expanded(word, environment) for word in words]


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    """As the kubelet does: what names no variable stays as it is."""
    return re.sub(r"\$\((\w+)\)", lambda found: environment.get(found[1], found[0]), text)


@dataclass
class Pod:
    """One pod; it is there until its process has ended after it was deleted."""

    manifest: Object
    node: Node
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))
    deleted: dt.datetime | None = None
    waits: str = ""
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        """Run the container's command; without what it refers to, it waits as it would in a cluster."""
        (container,) = self.manifest["spec"]["containers"]
        try:
            self.process = self.node.start(self.manifest, container, self.log)
        except MissingError as err:
            self.waits = str(err)

    @cached_property
    def log(self) -> Path:
        return self.node.logs / f"{uuid4().hex}.log"

    @property
    def name(self) -> str:
        return self.manifest["metadata"]["name"]

    @property
    def exit_code(self) -> int | None:
        """None while it runs or waits."""
        return self.process.poll() if self.process is not None else None

    @property
    def gone(self) -> bool:
        return self.deleted is not None and (self.process is None or self.exit_code is not None)

    @property
    def phase(self) -> str:
        if self.process is None:
            return "Pending"
        return {None: "Running", 0: "Succeeded"}.get(self.exit_code, "Failed")

    def delete(self) -> None:
        """Tell the process to end; it is killed when its time is over, and so is what it leaves behind."""
        if self.deleted is not None:
            return
        self.deleted = dt.datetime.now(dt.UTC)
        if self.process is not None:
            patience = self.manifest["spec"].get("terminationGracePeriodSeconds", 30)
            self.process.terminate()
            threading.Thread(target=self.end, args=(patience,)).start()

    def end(self, patience: float = 0) -> None:
        """Wait for the process, then kill its whole session."""
        if self.process is None:
            return
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
        for member in _session(self.process.pid):
            os.kill(member, signal.SIGKILL)
        self.process.wait()

    def shown(self) -> Object:
        """The pod as the API shows it."""
        metadata = {**self.manifest["metadata"], "creationTimestamp": _iso(self.started)}
        if self.deleted is not None:
            metadata["deletionTimestamp"] = _iso(self.deleted)
        (container,) = self.manifest["spec"]["containers"]
        status = {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": self.phase == "Running",
            "restartCount": 0,
            "state": self._state(),
        }
        return {
            **self.manifest,
            "metadata": metadata,
            "status": {"phase": self.phase, "containerStatuses": [status]},
        }

    def _state(self) -> Object:
        if self.process is None:
            return {"waiting": {"reason": "CreateContainerConfigError", "message": self.waits}}
        if self.exit_code is None:
            return {"running": {"startedAt": _iso(self.started)}}
        reason = "Completed" if self.exit_code == 0 else "Error"
        return {"terminated": {"exitCode": self.exit_code, "reason": reason}}


def _session(leader: int) -> Iterator[int]:
    """Processes of the session that a pod's process leads, if some are left."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and int(entry.name) != leader and os.getsid(int(entry.name)) == leader:
                yield int(entry.name)
        except ProcessLookupError:
            continue


def _iso(when: dt.datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
