"""What a step needs of a machine, where each step has one of its own."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_MEMORY = re.compile(r"(\d+)(Mi|Gi)")
_MEBIBYTES = {"Mi": 1, "Gi": 1024}
_ENGINES_SHARE = 0.6


def _mebibytes(value: str) -> int:
    found = _MEMORY.fullmatch(value)
    return int(found[1]) * _MEBIBYTES[found[2]] if found else 0


def _memory(value: str) -> str:
    if not _mebibytes(value):
        raise ValueError(
            f"must be mebibytes or gibibytes as Kubernetes writes them, such as 512Mi or 4Gi; got {value!r}"
        )
    return value


class Compute(BaseModel):
    """Resources of the pod in which an asset is made; what is left out is the deployment's default.

    It is no content: the same rows come of it, so that a change of it opens no gate and makes nothing stale.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cpu: float | None = Field(default=None, gt=0, le=1024, description="Cores, such as 2 or 0.5.")
    memory: Annotated[str, AfterValidator(_memory)] | None = Field(
        default=None,
        description="Memory, such as `4Gi`; the compute engine takes six tenths, then it spills.",
    )
    gpu: int | None = Field(default=None, ge=1, le=64, description="GPUs, as `nvidia.com/gpu`.")

    def container(self) -> dict[str, Any]:
        """Kubernetes' container fields: as much is reserved as may be used, so that no neighbour is killed for it."""
        amounts = {"cpu": self.cpu, "memory": self.memory, "nvidia.com/gpu": self.gpu}
        wanted = {
            name: f"{amount:g}" if isinstance(amount, float) else str(amount)
            for name, amount in amounts.items()
            if amount
        }
        found: dict[str, Any] = {"resources": {"requests": wanted, "limits": wanted}}
        if self.memory is not None:
            engines = int(_mebibytes(self.memory) * _ENGINES_SHARE)
            found["env"] = [{"name": "ML_PLATFORM_MEMORY_LIMIT", "value": f"{engines}MiB"}]
        return found
