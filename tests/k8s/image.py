"""The image without a container tool: a copy of what the Dockerfile copies, in which programs run as its user.

A container has a folder as its root: what the image has lies there, and what the pod mounts. Of that its user may write
to volumes that are empty at first, and to nothing else. Paths and addresses in a container's environment, its command
and its files are changed to where things are on this machine.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ml_platform.kernel.settings import PROJECT_ROOT
from tests.k8s.cluster import K8S
from tests.k8s.pods import Node, Object
from tests.k8s.tools import program

DOCKERFILE = (K8S / "Dockerfile").read_text()
LAST_STAGE = DOCKERFILE.split("\nFROM ")[-1]
USER = int(re.findall(r"^USER (\d+)", LAST_STAGE, re.MULTILINE)[0])
FOLDER = re.findall(r"^WORKDIR (.*)", LAST_STAGE, re.MULTILINE)[0]
Address = tuple[str, int]


def copied_sources() -> list[str]:
    """What the Dockerfile copies of the repository, by its path there."""
    return [
        source
        for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILE, re.MULTILINE)
        for source in sources.split()
    ]


def copy_to(folder: Path) -> Path:
    """A copy of what the Dockerfile copies, which its user may not write to."""
    for source in copied_sources():
        here = PROJECT_ROOT / source
        copied = shutil.copytree if here.is_dir() else shutil.copy2
        (folder / source).parent.mkdir(parents=True, exist_ok=True)
        copied(here, folder / source)
    if os.geteuid() != 0:
        subprocess.run(["chmod", "-R", "a-w", str(folder)], check=True)
    return folder


def give(path: Path) -> Path:
    """Make a folder that the image's user may write to."""
    path.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(path, USER, USER)
    return path


def as_its_user() -> list[str]:
    """For root, whose home Python itself may lie in: reads what root may read, and writes as the image's user."""
    if os.geteuid() != 0:
        return []
    keep = "-all,+dac_read_search"
    sets = [f"--{name}={keep}" for name in ("inh-caps", "ambient-caps", "bounding-set")]
    identity = ["--reuid", str(USER), "--regid", str(USER), "--clear-groups", "--no-new-privs"]
    return [program("setpriv"), *identity, *sets]


def environment() -> dict[str, str]:
    """The variables that the Dockerfile sets, with Python's packages where they are here."""
    (lines,) = re.findall(r"^ENV ((?:.*\\\n)*.*)", LAST_STAGE, re.MULTILINE)
    found = dict(re.findall(r"(\w+)=(\S+)", lines))
    return {**found, "PATH": os.pathsep.join([str(_programs()), "/usr/bin", "/bin"]), "PYTHONPATH": FOLDER}


@cache
def _programs() -> Path:
    return Path(program("dagster")).parent


@dataclass(frozen=True)
class Machine(Node):
    """Where containers of the image run: below a folder, and asking servers at ports of this machine."""

    folder: Path
    addresses: Mapping[Address, int]
    kubeconfig: Path
    """How those find the Kubernetes API that have a token for it."""

    def start(self, pod: Object, container: Object, log: Path) -> "subprocess.Popen[bytes]":
        """Run a container, in a root of its own."""
        pod, container = self._as_in_the_image(pod), self._as_in_the_image(container)
        root = self.folder / pod["metadata"]["name"]
        copy_to(root / FOLDER[1:])
        self._mount(pod, container, root)
        return super().start(pod, container, log)

    def environment(self, pod: Object, container: Object) -> dict[str, str]:
        """As the kubelet puts it together; what has no other place for temporary files has /tmp of its root."""
        root = self.folder / pod["metadata"]["name"]
        found = super().environment(pod, container)
        return {name: self._here(text, root) for name, text in found.items()} | {"TMPDIR": f"{root}/tmp"}

    def run(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, folder: Path | None = None
    ) -> "subprocess.Popen[bytes]":
        """Run a command as the image's user, where its programs begin."""
        begins = folder or Path(environment["PYTHONPATH"])
        words = [self._here(word, Path(str(begins).removesuffix(FOLDER))) for word in command]
        return super().run([*as_its_user(), *words], environment, log, folder=begins)

    def _as_in_the_image(self, told: Object) -> Object:
        """What a container has told the API, in which its own root has a name, in the words of a manifest."""
        return json.loads(re.sub(rf"{self.folder}/[\w.-]+(?=/)", "", json.dumps(told)))

    def _mount(self, pod: Object, container: Object, root: Path) -> None:
        volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes", ())}
        for mount in sorted(container.get("volumeMounts", ()), key=lambda one: len(one["mountPath"])):
            volume, place = volumes[mount["name"]], root / mount["mountPath"][1:]
            if "emptyDir" in volume:
                give(place)
                continue
            secret = volume.get("secret")
            table = (
                self.secrets[secret["secretName"]]
                if secret
                else self.config_maps[volume["configMap"]["name"]]
            )
            if "subPath" in mount:
                self._write(place, table[mount["subPath"]], pod, root)
                continue
            for key, text in table.items():
                self._write(place / key, text, pod, root)

    def _write(self, file: Path, text: str, pod: Object, root: Path) -> None:
        """A file that is read only; the launcher of a pod that has a token finds the API where it is here."""
        file.parent.mkdir(parents=True, exist_ok=True)
        api = f"load_incluster_config: false\n    kubeconfig_file: {self.kubeconfig}\n    job_namespace:"
        if pod["spec"].get("automountServiceAccountToken"):
            text = text.replace("job_namespace:", api)
        file.unlink(missing_ok=True)
        file.write_text(self._here(text, root))
        file.chmod(0o444)

    def _here(self, text: str, root: Path) -> str:
        """A text with paths of containers and addresses of Services as they are on this machine."""
        text = re.sub(r"(?<![\w/.])(/(?:opt|etc|var/lib)/ml-platform)\b", rf"{root}\1", text)
        for (host, port), here in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){host}:{port}\b", f"localhost:{here}", text)
            text = re.sub(rf"(host(?:name)?: ){host}(\n +port: ){port}\b", rf"\1localhost\g<2>{here}", text)
        return text
