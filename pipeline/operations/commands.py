"""The operator's commands, as typer functions: what they print and which exit code they give."""

import json
import os
import signal
from dataclasses import asdict
from typing import Annotated

import typer

from pipeline.config import Settings
from pipeline.errors import ConfigurationError
from pipeline.logs import configure
from pipeline.operations.settings import operator_settings

cache = typer.Typer(no_args_is_help=True, help="The counters in Redis.")

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def settings_with_logs() -> Settings:
    """Read the environment and set logging up by it."""
    settings = operator_settings()
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

    settings = operator_settings()
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
    # Read once, when polars and Arrow load. Consumers scale out by processes, and a stage is one thread: with two,
    # the same work cost a tenth more CPU in full epochs and a third more in small ones. What an allocator gives back
    # between epochs the next one faults in again: 0.5 s per million events. (polars says 0.5 s; the last word counts.)
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    for allocator in ("_RJEM_MALLOC_CONF", "JE_ARROW_MALLOC_CONF"):
        kept = "background_thread:false,dirty_decay_ms:5000"
        os.environ[allocator] = ",".join(filter(None, [os.environ.get(allocator), kept]))
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


def lag(*, as_json: AsJson = False) -> None:
    """Show how far each group is behind; exit 1 where a group stands where it cannot be (the last column says why)."""
    from pipeline.operations.lag import lag as run  # noqa: PLC0415

    standings = run(operator_settings())
    if as_json:
        typer.echo(json.dumps({"lag": sum(one.lag for one in standings), "partitions": list(map(asdict, standings))}))
    else:
        heads = ("group", "partition", "watermark", "log end", "lag", "redis", "committed")
        rows = [
            (one.group, one.partition, one.watermark, one.log_end, one.lag, one.redis, one.committed, one.fault)
            for one in standings
        ]
        width = max([len(one.group) for one in standings] + [len("group")])
        typer.echo(f"{heads[0]:<{width}}" + "".join(f"{head:>11}" for head in heads[1:]))
        for group, *numbers, fault in rows:
            cells = "".join(f"{'-' if number is None else number:>11}" for number in numbers)
            typer.echo(f"{group:<{width}}{cells}{'  ✗ ' + fault if fault else ''}")
    if any(one.fault for one in standings):
        raise typer.Exit(1)


@cache.command()
def rebuild(*, as_json: AsJson = False) -> None:
    """Clear the counters in Redis and fill them from PostgreSQL; consumers wait meanwhile, and go on by themselves."""
    from pipeline.operations.rebuild import rebuild as run  # noqa: PLC0415

    rows = run(settings_with_logs())
    if as_json:
        typer.echo(json.dumps(rows))
        return
    for group, number in rows.items():
        typer.echo(f"{group}: {number:,} rows filled into Redis")
    if not rows:
        typer.echo("No group keeps counters in Redis yet.")


@cache.callback()
def _cache() -> None:
    """Keep `rebuild` a subcommand, though it is the only one."""
