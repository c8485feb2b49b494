"""What a run of the bench found, as one value: written to JSON, and read back for the papers."""

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import psutil

from bench.chaos import Chaos
from bench.flat import Flat
from bench.freshness import Freshness
from bench.guide import Guide
from bench.limit import Limit
from bench.sweep import Sweep
from bench.throughput import Shared, Throughput

RESULTS: Final = Path(__file__).with_name("results")
SMALL: Final = RESULTS / "small"
"""Where runs of less than the reference load are kept; git ignores it."""
RECORD: Final = "regression.json"
"""The file of the regression check's record, which holds no findings."""
SHAPES: Final = "shapes.json"
MANY: Final = "many.json"
_OTHERS: Final = frozenset({RECORD, SHAPES, MANY})
"""What holds no findings: these two are `bench.shaped`'s and `bench.many`'s."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it was measured."""

    cores: int
    memory_bytes: int
    system: str
    python: str
    load_average: float
    """Of the minute before the run: others' work slows this one."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that one run measured; a part that was not asked for is None."""

    at: str
    machine: Machine
    throughput: Throughput
    limit: Limit | None = None
    mixed: Throughput | None = None
    """A load of mixed shapes (`bench.shapes`), as many events."""
    mixed_limit: Limit | None = None
    freshness: Freshness | None = None
    guide: Guide | None = None
    flat: Flat | None = None
    scale: list[Shared] | None = None
    chaos: Chaos | None = None
    sweep: Sweep | None = None


def this_machine() -> Machine:
    return Machine(
        cores=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
    )


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def save(name: str, findings: Findings, directory: Path = RESULTS) -> Path:
    """Write findings to <name>.json."""
    return write(directory / f"{name}.json", findings)


def write(path: Path, found: object) -> Path:
    """Write anything that was found as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return path


def load(path: Path) -> Findings:
    """Read findings back."""
    return msgspec.json.decode(path.read_bytes(), type=Findings)


def newest_with(part: str, directory: Path = RESULTS) -> Findings | None:
    """The newest findings that hold a part."""
    found = [load(path) for path in sorted(directory.glob("*.json")) if path.name not in _OTHERS]
    return max((one for one in found if getattr(one, part) is not None), key=lambda one: one.at, default=None)
