"""The regression check: CPU, as a ratio to the limit's CPU of the same minute on the same machine.

No second and no rate is asserted: a slower machine, or a busier one, slows the run and its limit alike. What the
ratio tells is how much the consumer and Kafka add to what PostgreSQL and Valkey need in any case. One run differs
from the next by up to a tenth, so the median of several is recorded and compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

import msgspec

from bench.findings import RECORD, RESULTS, Findings

TOLERANCE: Final = 1.15
RUNS: Final = 3


@dataclass(frozen=True, slots=True)
class Record:
    """The ratio that was recorded, for how many events, and when."""

    events: int
    cpu_ratio: float
    at: str


def cpu_ratio(runs: Sequence[Findings]) -> float:
    """CPU of a run over CPU of its limit: the median of runs. Raises ValueError if one has no limit."""
    return median(_cpu_ratio(findings) for findings in runs)


def record(runs: Sequence[Findings], directory: Path = RESULTS) -> Record:
    """Write the ratio down for later checks."""
    last = runs[-1]
    made = Record(last.throughput.events, round(cpu_ratio(runs), 3), last.at)
    (directory / RECORD).write_bytes(msgspec.json.encode(made) + b"\n")
    return made


def recorded(directory: Path = RESULTS) -> Record | None:
    """Read the record; None before the first."""
    path = directory / RECORD
    return msgspec.json.decode(path.read_bytes(), type=Record) if path.exists() else None


def worse(runs: Sequence[Findings], against: Record) -> bool:
    """Whether the runs need more than the record and its tolerance allow."""
    return cpu_ratio(runs) > against.cpu_ratio * TOLERANCE


def _cpu_ratio(findings: Findings) -> float:
    if findings.limit is None:
        raise ValueError("findings without a limit have no ratio")
    return findings.throughput.cpu_total / findings.limit.cpu_total
