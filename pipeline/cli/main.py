"""The `gamemetrics` command: one line a subcommand, each in the module of its name."""

import sys

import typer

from pipeline.cli.cache import cache
from pipeline.cli.consume import consume
from pipeline.cli.dlq import dlq
from pipeline.cli.keys import keys
from pipeline.cli.lag import lag
from pipeline.cli.load import load
from pipeline.cli.local import local
from pipeline.cli.migrate import migrate
from pipeline.cli.refused import refused
from pipeline.cli.run import run
from pipeline.cli.serve import serve
from pipeline.cli.trace import trace
from pipeline.cli.verify import verify
from pipeline.errors import ConfigurationError, PipelineError, RefusedError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(local, name="local")
app.add_typer(keys, name="keys")
app.add_typer(cache, name="cache")
app.add_typer(dlq, name="dlq")
app.command()(run)
app.command()(serve)
app.command()(migrate)
app.command()(consume)
app.command()(load)
app.command()(lag)
app.command()(refused)
app.command()(verify)
app.command()(trace)


@app.callback()
def gamemetrics() -> None:
    """Run a game-event pipeline: HTTP in, Kafka in the middle, PostgreSQL and Redis out, every event counted once."""


def main() -> None:
    """Run the command line; exit 0 good, 1 the thing asked about is bad, 2 usage or configuration."""
    try:
        app()
    except (
        ConfigurationError,
        RefusedError,
    ) as error:  # an account, a right or a certificate is a matter of configuration
        sys.stderr.write(f"gamemetrics: {error}\n")
        sys.exit(2)
    except PipelineError as error:
        sys.stderr.write(f"gamemetrics: {error}\n")
        sys.exit(1)
