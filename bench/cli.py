"""`python -m bench`: measures this machine, prints a table, and keeps the figures and pictures under bench/results."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from bench import load_tables, many, regression, report, shaped
from bench.findings import MANY, RESULTS, SHAPES, SMALL, Findings, save, write
from bench.schedule import Schedule, run
from bench.table import deployment_lines, lines
from bench.truth import WrongSumsError
from pipeline.logs import configure

T = TypeVar("T")

_FULL = Schedule(1_000_000, mixed=True, fresh_seconds=20, guide_events=5_000)
_QUICK = Schedule(100_000, fresh_seconds=4, guide_events=1_000)
_CHECK = Schedule(300_000)

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def say(what: str) -> None:
    """Tell how far the run is, on standard error."""
    sys.stderr.write(f"bench: {what}\n")


@app.command()
def bench(  # noqa: PLR0913 - one per option
    *,
    quick: Annotated[bool, typer.Option("--quick", help="100,000 events, in under a minute.")] = False,
    flat: Annotated[bool, typer.Option("--flat", help="Also into a database that is full already.")] = False,
    flat_events: Annotated[int, typer.Option(help="How full: events; a tenth as many players.")] = 50_000_000,
    scale: Annotated[bool, typer.Option("--scale", help="Also CPU with one process and with three.")] = False,
    chaos: Annotated[bool, typer.Option("--chaos", help="Also with the consumer killed at random.")] = False,
    kills: Annotated[int, typer.Option(help="How often.")] = 3,
    sweep: Annotated[bool, typer.Option("--sweep", help="Also over the batch variables.")] = False,
    shapes: Annotated[bool, typer.Option("--shapes", help="Only shapes of load, beside flat ones.")] = False,
    job: Annotated[bool, typer.Option("--job/--no-job", help="With the whole job of each shape.")] = True,
    large_and_many: Annotated[bool, typer.Option("--many", help="Only loads that are large or many.")] = False,
    events: Annotated[int, typer.Option(help="Events of a run; 0: 1,000,000, with --shapes and --many 300,000.")] = 0,
    check: Annotated[
        bool, typer.Option("--check", help="Only compare CPU, as a ratio to the limit's, with the recorded ratio.")
    ] = False,
    record: Annotated[bool, typer.Option("--record", help="Record that ratio.")] = False,
    write_report: Annotated[
        bool, typer.Option("--report", help="Only write the kept results into docs/performance.md.")
    ] = False,
) -> None:
    """Measure the whole job: rate, CPU, memory, the servers' limit, freshness, and the guide's way beside it.

    The sums are verified first: if they are off no rate is printed, and the exit code is 1. A part that is asked
    for by an option is measured in place of freshness and the guide's way, and kept in a file of its own.
    """
    if write_report:
        typer.echo(f"docs/performance.md: {', '.join(report.write())}")
        return
    if record:
        found = regression.record(_runs(events or _CHECK.events))
        typer.echo(f"recorded: CPU {found.cpu_ratio:.2f} times the limit's, with {found.events:,} events")
        return
    if check:
        _check()
        return
    if shapes or large_and_many:
        _loads(events, shapes=shapes, large_and_many=large_and_many, job=job)
        return
    parts = [name for name, asked in (("flat", flat), ("scale", scale), ("chaos", chaos), ("sweep", sweep)) if asked]
    schedule = _QUICK if quick else _FULL
    if parts:
        schedule = Schedule(
            schedule.events, limit=False, flat_events=flat_events if flat else 0, scale=scale,
            kills=kills if chaos else 0, sweep=sweep,
        )  # fmt: skip
    if events:
        schedule = replace(schedule, events=events)
    _keep("-".join([*parts, *(["quick"] if quick else [])]) or "full", _measure(schedule))


def _measure(schedule: Schedule) -> Findings:
    return _with_right_sums(lambda: run(schedule, say))


def _with_right_sums(measure: Callable[[], T]) -> T:
    try:
        return measure()
    except WrongSumsError as error:
        sys.stderr.write(f"bench: the sums are off, so there is no rate: {error}\n")
        raise typer.Exit(1) from error


def _loads(events: int, *, shapes: bool, large_and_many: bool, job: bool) -> None:
    """Measure shapes, or large and many, or both, and keep each in a file of its own."""
    if shapes:
        size = events or shaped.EVENTS
        found = _with_right_sums(lambda: shaped.run(size, say, job=job))
        typer.echo("\n".join(load_tables.shape_lines(found)))
        typer.echo(f"kept: {write(_place(size, shaped.EVENTS, complete=job) / SHAPES, found)}")
    if large_and_many:
        size = events or many.EVENTS
        compared = _with_right_sums(lambda: many.run(size, say))
        typer.echo("\n".join(load_tables.many_lines(compared)))
        typer.echo(f"kept: {write(_place(size, many.EVENTS) / MANY, compared)}")


def _place(events: int, wanted: int, *, complete: bool = True) -> Path:
    """Where results are kept: those of the papers apart from those of a small or partial run."""
    return RESULTS if complete and events >= wanted else SMALL


def _runs(events: int) -> list[Findings]:
    return [_measure(replace(_CHECK, events=events)) for _ in range(regression.RUNS)]


def _keep(name: str, findings: Findings) -> None:
    directory = RESULTS if findings.throughput.events >= _FULL.events else SMALL
    verdict = "✓ every sum is the generator's, and verify is content"
    typer.echo("\n".join([*lines(findings), *deployment_lines(findings), "", verdict]))
    typer.echo(f"kept: {save(name, findings, directory)}")
    if importlib.util.find_spec("matplotlib") is None:
        typer.echo("no pictures: pip install 'gamemetrics[bench]'")
        return
    from bench.plots import draw  # noqa: PLC0415 - an optional extra

    for path in draw(findings, directory):
        typer.echo(f"drawn: {path}")


def _check() -> None:
    known = regression.recorded()
    if known is None:
        typer.echo("nothing is recorded yet: run with --record first")
        raise typer.Exit(2)
    runs = _runs(known.events)
    ratio, bound = regression.cpu_ratio(runs), known.cpu_ratio * regression.TOLERANCE
    typer.echo(f"CPU {ratio:.2f} times the limit's; recorded {known.cpu_ratio:.2f}, tolerated up to {bound:.2f}")
    if regression.worse(runs, known):
        raise typer.Exit(1)


def main() -> None:
    """Run the command line."""
    configure("ERROR")  # what the pipeline's own code has to say in this process is no part of the table
    app()
