"""`gamemetrics cache`, as typer functions."""

import json

import typer

from pipeline.cli.options import AsJson, settings_with_logs

cache = typer.Typer(no_args_is_help=True, help="The counters in Redis.")


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
