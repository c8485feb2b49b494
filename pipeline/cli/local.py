"""`gamemetrics local`: the embedded stack from the command line."""

import contextlib
import json
import shlex
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import AsJson
from pipeline.errors import UnavailableError
from pipeline.local.checkout import open_stack

if TYPE_CHECKING:
    from pipeline.local.stack import Stack

local = typer.Typer(no_args_is_help=True, help="Kafka, PostgreSQL and Valkey on this machine, without Docker.")

Root = Annotated[
    Path | None,
    typer.Option(
        help="The directory whose .local/ holds the stack; by default this checkout.",
        show_default=False,
        file_okay=False,
    ),
]

WATCH_SECONDS = 1.0


@local.command()
def up(
    *,
    root: Root = None,
    detach: Annotated[bool, typer.Option("--detach", help="Leave the servers running and return.")] = False,
) -> None:
    """Start the three servers; stay until Ctrl-C, then stop them."""
    stack = open_stack(root)
    stack.fetch()
    stop = threading.Event()
    if not detach:
        # Only now: Ctrl-C ends a download at once, but a start under way is first completed and then undone.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    with contextlib.nullcontext() if detach else stack.supervised():
        began = time.monotonic()
        stack.start()
        seconds = time.monotonic() - began
        typer.echo(f"Kafka, PostgreSQL and Valkey are up ({seconds:.1f} s), their data under {stack.directory}.")
        if detach:
            typer.echo('For any client: eval "$(gamemetrics local env)". To stop: gamemetrics local down.')
            return
        typer.echo('For any client, in another shell: eval "$(gamemetrics local env)". Ctrl-C stops them.')
        try:
            _watch(stack, stop)
        finally:
            stack.stop()


@local.command()
def fetch() -> None:
    """Fetch Kafka's jars into the user's cache and let Java get to know them: later starts are quick, and offline."""
    open_stack().fetch(warm_up=True)


@local.command()
def env(*, root: Root = None) -> None:
    """Print `export` lines that point any client to the servers."""
    for name, value in open_stack(root).environment().items():
        typer.echo(f"export {name}={_quoted(value)}")


@local.command()
def status(
    *,
    root: Root = None,
    as_json: AsJson = False,
) -> None:
    """Tell which servers answer; exit 0 when all do, 1 otherwise."""
    stack = open_stack(root)
    ready = stack.status()
    if as_json:
        servers = {
            server.name: {"up": ready[server.name], "pid": server.pid, "port": server.port if stack.created else None}
            for server in stack.servers
        }
        typer.echo(json.dumps({"up": all(ready.values()), "servers": servers}))
    else:
        for server in stack.servers:
            place = f"127.0.0.1:{server.port}, pid {server.pid}" if ready[server.name] else f"see {server.log}"
            typer.echo(f"{server.name:<9} {'up' if ready[server.name] else 'down':<5} {place if stack.created else ''}")
    if not all(ready.values()):
        raise typer.Exit(1)


@local.command()
def down(
    *,
    root: Root = None,
    wipe: Annotated[bool, typer.Option("--wipe", help="Delete the data, ports and passwords too.")] = False,
) -> None:
    """Stop the servers; their data stays unless wiped."""
    stack = open_stack(root)
    if wipe:
        stack.wipe()
    else:
        stack.stop()
    typer.echo("Stopped, and the data deleted." if wipe else f"Stopped; the data is kept under {stack.directory}.")


def _watch(stack: "Stack", stop: threading.Event) -> None:
    """Wait for Ctrl-C. Raises UnavailableError when a server ends on its own."""
    while not stop.wait(WATCH_SECONDS):
        for server in stack.servers:
            if not server.running:
                raise UnavailableError(f"{server.name} ended on its own; its last words are in {server.log}")


def _quoted(value: str) -> str:
    """Quote for a POSIX shell, always with quotes, so that the lines look alike."""
    return f"'{value}'" if "'" not in value else shlex.quote(value)
