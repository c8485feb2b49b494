"""The `gamemetrics` command: one line per subcommand, each implemented in the module that it names."""

import sys

import typer

from pipeline.api.commands import serve
from pipeline.errors import ConfigurationError, PipelineError
from pipeline.local.commands import local
from pipeline.operations import commands
from pipeline.operations.dlq_commands import dlq
from pipeline.operations.keys import keys
from pipeline.operations.load_command import load
from pipeline.operations.run_command import run
from pipeline.operations.verify_command import verify

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.add_typer(local, name="local")
app.add_typer(keys, name="keys")
app.add_typer(commands.cache, name="cache")
app.add_typer(dlq, name="dlq")
app.command()(run)
app.command()(serve)
app.command()(commands.migrate)
app.command()(commands.consume)
app.command()(load)
app.command()(commands.lag)
app.command()(verify)


@app.callback()
def gamemetrics() -> None:
    """Run a game-event pipeline: HTTP in, Kafka in the middle, PostgreSQL and Redis out, every event counted once."""


def main() -> None:
    """Run the command line; exit 0 good, 1 the thing asked about is bad, 2 usage or configuration."""
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"gamemetrics: {error}\n")
        sys.exit(2)
    except PipelineError as error:
        sys.stderr.write(f"gamemetrics: {error}\n")
        sys.exit(1)
