"""A stand-in of the Kubernetes API on this machine: what dagster-k8s asks of it, answered as a cluster would.

A posted Job is validated as strictly as a cluster with Pod Security `restricted`, then its pod's command is run as a
process. What a Role does not allow is refused. There are no images, volumes, nodes or quotas, and a failed pod is not
tried again.
"""

import json
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import yaml

from tests.k8s.admission import refusal
from tests.k8s.pods import Node, Pod

Object = Mapping[str, Any]
Allowed = frozenset[tuple[str, str, str]]
TOKEN = "of-the-tests"
_PATH = re.compile(
    r"/(?:api/v1|apis/(?P<group>[^/]+)/v1)/namespaces/(?P<namespace>[^/]+)/(?P<kind>[a-z]+)"
    r"(?:/(?P<name>[^/]+))?(?:/(?P<part>[a-z]+))?"
)
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class RefusedError(Exception):
    """A request that is not answered with what it asked for."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def allowed_by(role: Object) -> Allowed:
    """Group, resource and verb of all that a Role allows."""
    return frozenset(
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    )


@dataclass
class Job:
    """One Job and the one pod that it started."""

    manifest: Object
    pod: Pod

    def shown(self) -> Object:
        """The Job as the API shows it."""
        count = {"Pending": "active", "Running": "active", "Succeeded": "succeeded", "Failed": "failed"}
        started = self.pod.started.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {**self.manifest, "status": {"startTime": started, count[self.pod.phase]: 1}}


@dataclass
class KubernetesApi:
    """One namespace as its API shows it; `asked` has group, resource and verb of every request, `posted` every Job."""

    namespace: str
    allowed: Allowed
    node: Node
    url: str = ""
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    pods: dict[str, Pod] = field(default_factory=dict[str, Pod])
    posted: list[Object] = field(default_factory=list[Object])
    asked: set[tuple[str, str, str]] = field(default_factory=set[tuple[str, str, str]])
    _lock: threading.RLock = field(default_factory=threading.RLock)

    @contextmanager
    def serving(self) -> Iterator["KubernetesApi"]:
        """Answer at `url` until the end of the block; no process is left then."""
        server = _Server(("127.0.0.1", 0), _Handler)
        server.kubernetes = self
        self.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            for pod in self.pods.values():
                pod.end()

    def kubeconfig(self, path: Path) -> Path:
        """Write the file that a client needs."""
        named = {"name": "stand-in"}
        context = {"cluster": "stand-in", "user": "stand-in", "namespace": self.namespace}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{**named, "cluster": {"server": self.url}}],
            "users": [{**named, "user": {"token": TOKEN}}],
            "contexts": [{**named, "context": context}],
            "current-context": "stand-in",
        }
        path.write_text(yaml.safe_dump(config))
        return path

    def alive(self) -> list[Pod]:
        """Pods whose process runs."""
        return [pod for pod in list(self.pods.values()) if pod.phase == "Running"]

    def answer(self, method: str, url: str, headers: Message, body: bytes) -> Object | str:
        """What a request is answered; RefusedError where a cluster would refuse it."""
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            raise RefusedError(401, "a token is required")
        address = urlsplit(url)
        if address.path == "/version/":
            unknown = dict.fromkeys(("buildDate", "compiler", "gitCommit", "gitTreeState", "goVersion"), "")
            return {
                **unknown,
                "major": "1",
                "minor": "37",
                "gitVersion": "v1.37.0",
                "platform": "linux/amd64",
            }
        found = _PATH.fullmatch(address.path)
        if found is None:
            raise RefusedError(404, f"{address.path} is not known")
        named = found.groupdict(default="")
        self._require_allowed(method, named)
        selectors = {key: values[0] for key, values in parse_qs(address.query).items()}
        with self._lock:
            self.pods = {name: pod for name, pod in self.pods.items() if not pod.gone}
            if method == "POST":
                return self._create(json.loads(body))
            return self._delete(named) if method == "DELETE" else self._read(named, selectors)

    def _require_allowed(self, method: str, named: Mapping[str, str]) -> None:
        of_one, of_many = ("delete", "deletecollection") if method == "DELETE" else ("get", "list")
        verb = _VERBS.get(method) or (of_one if named["name"] else of_many)
        resource = f"{named['kind']}/{named['part']}".removesuffix("/")
        asked = (named["group"], resource, verb)
        self.asked.add(asked)
        if asked not in self.allowed or named["namespace"] != self.namespace:
            raise RefusedError(
                403, f"{verb} of {resource} in {named['namespace']} is not allowed by the Role"
            )

    def _create(self, job: Object) -> Object:
        refused = refusal(job)
        if refused is not None:
            raise RefusedError(*refused)
        name = job["metadata"]["name"]
        if name in self.jobs:
            raise RefusedError(409, f"jobs {name} already exists")
        template = job["spec"]["template"]
        uid = str(uuid4())
        labels = {**template["metadata"]["labels"], "job-name": name, "batch.kubernetes.io/job-name": name}
        metadata = {
            **template["metadata"],
            "name": f"{name}-{uid[:5]}",
            "namespace": self.namespace,
            "uid": uid,
            "labels": labels,
        }
        pod = Pod({"metadata": metadata, "spec": template["spec"]}, self.node)
        made = {**job, "metadata": {**job["metadata"], "namespace": self.namespace, "uid": str(uuid4())}}
        self.posted.append(made)
        self.jobs[name], self.pods[pod.name] = Job(made, pod), pod
        pod.start()
        return self.jobs[name].shown()

    def _read(self, named: Mapping[str, str], selectors: Mapping[str, str]) -> Object | str:
        if named["kind"] == "events":
            return {"items": []}
        things: Mapping[str, Job | Pod] = self.jobs if named["kind"] == "jobs" else self.pods
        if not named["name"]:
            return {"items": list(_selected((thing.shown() for thing in things.values()), selectors))}
        thing = _existing(things, named)
        if named["part"] == "log":
            return _tail(self.pods[named["name"]], int(selectors.get("tailLines", "1000")))
        return thing.shown()

    def _delete(self, named: Mapping[str, str]) -> Object:
        if named["kind"] == "jobs":
            _existing(self.jobs, named)
            del self.jobs[named["name"]]  # its pods stay: that is the default of batch/v1
        else:
            _existing(self.pods, named).delete()
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}


def _existing(things: Mapping[str, Any], named: Mapping[str, str]) -> Any:
    if named["name"] not in things:
        raise RefusedError(404, f"{named['kind']} {named['name']} not found")
    return things[named["name"]]


def _selected(things: Iterable[Object], selectors: Mapping[str, str]) -> Iterator[Object]:
    """Those that have the labels and fields that were asked for, as `a=b,c=d`."""
    wanted = [pair.split("=") for pair in selectors.get("labelSelector", "").split(",") if pair]
    fields = [pair.split("=") for pair in selectors.get("fieldSelector", "").split(",") if pair]
    for thing in things:
        metadata = thing["metadata"]
        labels = all(metadata["labels"].get(key) == value for key, value in wanted)
        if labels and all(metadata[key.removeprefix("metadata.")] == value for key, value in fields):
            yield thing


def _tail(pod: Pod, lines: int) -> str:
    text = pod.log.read_text() if pod.log.exists() else ""
    return "".join(text.splitlines(keepends=True)[-lines:])


class _Server(ThreadingHTTPServer):
    kubernetes: KubernetesApi


class _Handler(BaseHTTPRequestHandler):
    """HTTP of the stand-in; each answer closes its connection, so that no client keeps one."""

    server: _Server

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PATCH(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: `asked` has it."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            answer = self.server.kubernetes.answer(self.command, self.path, self.headers, body)
            status = 200
        except RefusedError as err:
            status = err.status
            answer = {
                "kind": "Status",
                "apiVersion": "v1",
                "status": "Failure",
                "code": status,
                "message": str(err),
            }
        text = answer if isinstance(answer, str) else json.dumps(answer)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.end_headers()
        self.wfile.write(text.encode())
