"""`gamemetrics verify`, as a typer function."""

import gc
import json
import os
import signal
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.options import AsJson, settings_with_logs
from pipeline.cli.progress import progress
from pipeline.local.settings import operator_settings

if TYPE_CHECKING:
    from pipeline.verify.report import Report  # at run time it would load polars for every command

_SHOWN: Final = 20


def verify(
    *,
    as_json: AsJson = False,
    full: Annotated[bool, typer.Option("--full", help="Begin at the log's start, whatever was proven.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until stopped, with metrics on METRICS_PORT.")] = False,
    every: Annotated[float, typer.Option(min=0.1, help="With --watch: seconds between turns.")] = 10.0,
    players_per_hour: Annotated[
        float, typer.Option(min=1, help="With --watch: how fast what is old is looked at.")
    ] = 1e6,
) -> None:
    """Count again what came since the last time; exit 0 only if nothing is lost, nothing counted twice.

    It goes on from its checkpoints, in pieces, to where the consumers stand when it starts; they may run meanwhile.
    What lies above a watermark (the lag) is not yet due, and no fault. Records that retention has deleted cannot be
    recounted: that is said, and what can be compared without them is compared.
    """
    if watch:
        _watch(every, players_per_hour)
        return
    from pipeline.verify.verify import verify as run  # noqa: PLC0415 - commands load only what they need

    settings = operator_settings()
    # Millions of small objects that are no cycles: the collector at its defaults would look at them again and again.
    gc.freeze()
    gc.set_threshold(200_000, 100, 100)
    with progress() as advance:
        report = run(settings, advance, full=full)
    if as_json:
        typer.echo(json.dumps(_as_object(report)))
    else:
        _print(report)
    if report.differences:
        raise typer.Exit(1)


def _watch(every: float, players_per_hour: float) -> None:
    """Prove until SIGTERM or Ctrl-C."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    from pipeline.engine.health import serve_health  # noqa: PLC0415
    from pipeline.verify.watch import Pace, Watch, WatchHealth  # noqa: PLC0415

    settings = settings_with_logs()
    health = WatchHealth()
    watch = Watch(settings, Pace(every, players_per_hour), health)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: watch.stop())
    server = serve_health(health, settings.metrics_port)
    try:
        watch.run()
    finally:
        server.shutdown()


def _as_object(report: "Report") -> dict[str, Any]:
    return {
        "equal": not report.differences,
        "groups": {group: [asdict(line) for line in lines] for group, lines in report.groups.items()},
        "compared": report.compared,
        "judged_twice": report.judged_twice,
        "seed": report.seed,
        "not_recounted": report.not_recounted,
        "totals": report.differences.totals,
        "differences": [asdict(one) for one in report.differences.kept],
    }


def _print(report: "Report") -> None:
    for group, lines in report.groups.items():
        typer.echo(group)
        for line in lines:
            behind = f"; {line.lag:,} not yet read" if line.lag else ""
            typer.echo(
                f"  partition {line.partition}: {line.records:,} records = {line.admitted:,} admitted"
                f" + {line.duplicates:,} duplicates + {line.dead_lettered:,} dead-lettered{behind}"
            )
    typer.echo("compared: " + ", ".join(f"{number:,} {what}" for what, number in report.compared.items()))
    if report.judged_twice:
        typer.echo(f"judged by both judges: {report.judged_twice:,} records (seed {report.seed})")
    for what in report.not_recounted:
        typer.echo(f"not recounted: {what}")
    for kind, total in report.differences.totals.items():
        typer.echo(f"✗ {kind}: {total:,} {'differs' if total == 1 else 'differ'}")
        named = [one for one in report.differences.kept if one.kind == kind]
        for one in named[:_SHOWN]:
            typer.echo(f"    {one.key}: should be {one.expected}, is {one.found}")
        if total > _SHOWN:
            typer.echo(f"    and {total - _SHOWN:,} more (--json names {len(named):,})")
    if not report.differences:
        typer.echo("✓ Nothing is lost, nothing is counted twice, and Redis equals PostgreSQL.")
