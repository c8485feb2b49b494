"""`gamemetrics run`, as a typer function."""

import typer

from pipeline.cli.local import Root


def run(*, root: Root = None) -> None:
    """Run the whole pipeline on this machine: servers, API, consumer, a first load; stay until Ctrl-C."""
    from pipeline.local.run import run as start  # noqa: PLC0415 - commands load only what they need

    start(root, typer.echo)
