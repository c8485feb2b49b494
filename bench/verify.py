"""`python -m bench.verify`: what `gamemetrics verify` costs beside the job that it proves, whole and in steps."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Annotated, Final

import polars as pl
import typer

from bench import throughput
from bench.findings import SMALL
from bench.load import Load, produce, reference_load
from bench.meter import read_servers
from bench.rig import Fixture, running_rig
from pipeline.logs import configure

MORE: Final = 100_000
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of verify: how long it took, the CPU seconds of each process, and the most memory it had."""

    records: int
    seconds: float
    cpu: dict[str, float]
    peak_rss_bytes: int

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found: the job's CPU seconds by process, `verify --full`, and `verify` after MORE events."""

    events: int
    job_cpu: dict[str, float]
    full: Cost
    more: Cost

    @property
    def ratio(self) -> float:
        """The CPU of `verify --full` as a share of the job's."""
        return self.full.cpu_total / sum(self.job_cpu.values())


class NotProvenError(Exception):
    """verify found a difference: its figures are worth nothing."""


def measure(events: int, seed: int = 1) -> Proof:
    """Count events, prove them all, count some more and prove those. Raises NotProvenError."""
    load = reference_load(events + MORE, seed)
    rest = Rest(load.count, load.workload, load.shape, first=events)
    with running_rig() as rig, rig.fixture() as fixture:
        say(f"producing {events:,} events")
        produced = produce(fixture, replace(load, count=events))
        say("consuming")
        job = throughput.measure(rig, fixture, produced)
        rig.checkpoint()
        say("verify --full")
        full = cost(fixture, "--full")
        say(f"producing and consuming {MORE:,} more")
        throughput.measure(rig, fixture, produce(fixture, rest))
        say("verify")
        more = cost(fixture)
    return Proof(events, {name: spent * events / 1e6 for name, spent in job.cpu.items()}, full, more)


def cost(fixture: Fixture, *arguments: str) -> Cost:
    """Run `gamemetrics verify` to its end. Raises NotProvenError."""
    begun = read_servers(fixture.stack)
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "verify", "--json", *arguments],
        env=fixture.environment(), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = process.stdout.read() if process.stdout is not None else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    servers = read_servers(fixture.stack).since(begun)
    report = json.loads(told)
    if process.returncode != 0 or report["not_recounted"]:
        raise NotProvenError(f"{report['differences'][:3]}, not recounted: {report['not_recounted']}")
    own = {"verify": used.ru_utime + used.ru_stime}
    return Cost(report["compared"]["records"], monotonic() - begun.at, own | servers, used.ru_maxrss * 1024)


@dataclass(frozen=True, slots=True)
class Rest(Load):
    """What comes of a load after its first events."""

    first: int = 0

    def records(self) -> Iterator[pl.DataFrame]:
        for events in Load.records(self):
            yield events.filter(pl.col("index") >= self.first)


def lines(found: Proof) -> list[str]:
    """Write a table."""
    job = sum(found.job_cpu.values())
    rows: list[tuple[str, int, float | None, dict[str, float], float, int | None]]
    rows = [("the job", found.events, None, found.job_cpu, job, None)]
    for name, one in (("verify --full", found.full), (f"verify, {MORE:,} more", found.more)):
        rows.append((name, one.records, one.seconds, one.cpu, one.cpu_total, one.peak_rss_bytes))
    table = [f"{'':<22}{'records':>12}{'seconds':>10}{'CPU s':>10}{'MiB':>8}  by process"]
    for name, records, seconds, cpu, total, rss in rows:
        parts = ", ".join(f"{process} {spent:.1f}" for process, spent in sorted(cpu.items()))
        wall, memory = f"{seconds:.1f}" if seconds is not None else "", f"{rss / _MIB:.0f}" if rss else ""
        table.append(f"{name:<22}{records:>12,}{wall:>10}{total:>10.1f}{memory:>8}  {parts}")
    return [*table, f"verify --full costs {found.ratio:.2f} of the job"]


def say(what: str) -> None:
    """Tell how far the run is, on standard error."""
    sys.stderr.write(f"bench: {what}\n")


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(events: Annotated[int, typer.Option(help="Events to prove.")] = 1_000_000) -> None:
    """Measure `gamemetrics verify --full` beside the job, and `gamemetrics verify` after 100,000 more events."""
    configure("ERROR")
    found = measure(events)
    typer.echo("\n".join(lines(found)))
    SMALL.mkdir(parents=True, exist_ok=True)
    kept = SMALL / f"verify-{events}.json"
    kept.write_text(json.dumps(asdict(found), indent=2) + "\n")
    typer.echo(f"kept: {kept}")


if __name__ == "__main__":
    app()
