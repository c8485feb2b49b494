"""`gamemetrics lag`, as a typer function."""

import json
from dataclasses import asdict

import typer

from pipeline.cli.options import AsJson
from pipeline.local.settings import operator_settings


def lag(*, as_json: AsJson = False) -> None:
    """Show how far each group is behind; exit 1 if a group is at an impossible place (the last column says why)."""
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
