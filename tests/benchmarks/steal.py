"""When the hypervisor gave this machine's processors to somebody else, slice by slice of what is measured.

A tail is made of the rarest requests: on a shared host these are the ones that were stopped for some milliseconds, by
nobody who is measured. Linux counts that time as `steal` (proc(5), `/proc/stat`), in ticks of 10 ms.
"""

import asyncio
import bisect
import time
from dataclasses import dataclass, field
from pathlib import Path

_SLICE_S = 0.1
_STEAL = 8
_TICKS = Path("/proc/stat")


@dataclass
class Steal:
    """The ends of slices, and the ticks that were stolen from all processors up to each."""

    ends: list[float] = field(default_factory=list[float])
    ticks: list[int] = field(default_factory=list[int])

    async def watch(self) -> None:
        """Take note of it until cancelled."""
        while True:
            self.note()
            await asyncio.sleep(_SLICE_S)

    def note(self) -> None:
        """End a slice here."""
        if (ticks := stolen()) is not None:
            self.ends.append(time.perf_counter())
            self.ticks.append(ticks)

    def none_within(self, begun: float, ended: float) -> bool:
        """Whether nothing was stolen in the slices that a time touches; not so where nobody knows."""
        first, last = bisect.bisect_right(self.ends, begun) - 1, bisect.bisect_left(self.ends, ended)
        return first >= 0 and last < len(self.ends) and self.ticks[first] == self.ticks[last]


def stolen() -> int | None:
    """Ticks stolen since this machine started; None where no kernel tells."""
    try:
        return int(_TICKS.read_text().split("\n", 1)[0].split()[_STEAL])
    except (OSError, IndexError):
        return None
