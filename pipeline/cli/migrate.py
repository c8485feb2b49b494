"""`gamemetrics migrate`, as a typer function."""

import json
from typing import Annotated

import typer

from pipeline.cli.options import AsJson
from pipeline.errors import ConfigurationError
from pipeline.local.settings import operator_settings


def migrate(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit 1 unless the schema is current.")
    ] = False,
    distribute: Annotated[
        bool, typer.Option("--distribute", help="Spread the tables over the workers of a PostgreSQL with Citus.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date, and make the day partitions that are due."""
    from pipeline.operations.migrate import migrate as run  # noqa: PLC0415 - commands load only what they need
    from pipeline.sinks.schema import check_schema  # noqa: PLC0415

    settings = operator_settings()
    if check:
        try:
            check_schema(settings)
        except ConfigurationError as error:
            typer.echo(json.dumps({"current": False, "reason": str(error)}) if as_json else str(error))
            raise typer.Exit(1) from error
        typer.echo(json.dumps({"current": True}) if as_json else "The schema is current.")
        return
    done = run(settings, distribute=distribute)
    if as_json:
        report = {"applied": done.applied, "partitions_made": done.partitions, "tables": done.tables}
        typer.echo(json.dumps(report | ({"distributed": done.distributed} if distribute else {})))
    else:
        for name in done.applied:
            typer.echo(f"applied {name}")
        for table in done.distributed:
            typer.echo(f"distributed {table}")
        for table, exists in done.tables.items():
            typer.echo(f"{'✓' if exists else '✗'} Table '{table}': {'exists' if exists else 'missing'}")
    if not all(done.tables.values()):
        raise typer.Exit(1)
