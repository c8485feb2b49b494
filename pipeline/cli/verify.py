"""`gamemetrics verify`, as a typer function."""

import gc
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from pipeline.cli.progress import progress
from pipeline.local.settings import operator_settings

if TYPE_CHECKING:
    from pipeline.verify.report import Report  # at run time it would load polars for every command

_SHOWN: Final = 20


def verify(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Begin at the log's start, whatever was proven.")] = False,
) -> None:
    """Count again what came since the last time; exit 0 only if nothing is lost, nothing counted twice.

    It goes on from its checkpoints, in pieces, to where the consumers stand when it starts; they may run meanwhile.
    What lies above a watermark (the lag) is not yet due, and no fault. Records that retention has deleted cannot be
    recounted: that is said, and what can be compared without them is compared.
    """
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


def _as_object(report: "Report") -> dict[str, Any]:
    return {
        "equal": not report.differences,
        "groups": {group: [asdict(line) for line in lines] for group, lines in report.groups.items()},
        "compared": report.compared,
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
