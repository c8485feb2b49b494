"""CPU seconds and memory by process, as the system accounts for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

import psutil

from pipeline.local.stack import Stack

_KIBIBYTE: Final = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """A moment of the monotonic clock, and what each process had spent by then."""

    at: float
    cpu: Mapping[str, float]

    def since(self, earlier: "Reading") -> dict[str, float]:
        """What each process spent between two readings."""
        return {name: spent - earlier.cpu[name] for name, spent in self.cpu.items() if name in earlier.cpu}


def read_servers(stack: Stack) -> Reading:
    """Read Kafka's, PostgreSQL's and Valkey's CPU."""
    at = monotonic()
    return Reading(at, {server.name: cpu_seconds(server.pid) for server in stack.servers if server.pid is not None})


def cpu_seconds(pid: int) -> float:
    """CPU of a process and all its descendants, those that ended included.

    A descendant that ended was waited for by its parent, whose children's time then holds it; so the sum over the
    living of own and children's time counts everything once, and never falls.
    """
    root = psutil.Process(pid)
    return _spent(root) + sum(map(_spent, root.children(recursive=True)))


def _spent(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def peak_rss(pid: int) -> int:
    """The most memory a process ever had resident, in bytes; if the system does not say, what it has now."""
    return parse_peak(_status(pid)) or int(psutil.Process(pid).memory_info().rss)


def parse_peak(status: str) -> int | None:
    """Find VmHWM in the text of /proc/<pid>/status."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * _KIBIBYTE
    return None


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return ""
