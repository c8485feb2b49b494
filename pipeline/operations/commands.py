"""The operator's commands, as typer functions: what they print and which exit code they give."""

import json
import signal
from typing import Annotated

import typer

from pipeline.config import Settings, load_settings
from pipeline.errors import ConfigurationError
from pipeline.logs import configure

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def settings_with_logs() -> Settings:
    """Read the environment and set logging up by it."""
    settings = load_settings()
    configure(settings.log_level)
    return settings


def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 unless the schema is current.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date, and make the day partitions that are due."""
    from pipeline.operations.migrate import migrate as run  # noqa: PLC0415 - commands load only what they need
    from pipeline.schema import check_schema  # noqa: PLC0415

    settings = load_settings()
    if check:
        try:
            check_schema(settings)
        except ConfigurationError as error:
            typer.echo(json.dumps({"current": False, "reason": str(error)}) if as_json else str(error))
            raise typer.Exit(1) from error
        typer.echo(json.dumps({"current": True}) if as_json else "The schema is current.")
        return
    done = run(settings)
    if as_json:
        report = {"applied": done.applied, "partitions_made": done.partitions, "tables": done.tables}
        typer.echo(json.dumps(report))
    else:
        for name in done.applied:
            typer.echo(f"applied {name}")
        for table, exists in done.tables.items():
            typer.echo(f"{'✓' if exists else '✗'} Table '{table}': {'exists' if exists else 'missing'}")
    if not all(done.tables.values()):
        raise typer.Exit(1)


def consume(
    role: Annotated[str, typer.Argument(help="all, logger, stats or leaderboard")] = "all",
) -> None:
    """Consume events as one role until SIGTERM or Ctrl-C."""
    from pipeline.consumer import EventConsumer  # noqa: PLC0415
    from pipeline.health import serve_health  # noqa: PLC0415
    from pipeline.roles import ROLES  # noqa: PLC0415

    if role not in ROLES:
        raise typer.BadParameter(f"{role!r} is none of {', '.join(ROLES)}", param_hint="role")
    settings = settings_with_logs()
    consumer = EventConsumer(settings, ROLES[role])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: consumer.stop())
    server = serve_health(consumer.health, settings.metrics_port)
    try:
        consumer.run()
    finally:
        server.shutdown()
