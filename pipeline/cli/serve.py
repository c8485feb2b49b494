"""`gamemetrics serve`, as a typer function."""

from pipeline.config import load_settings
from pipeline.logs import configure


def serve() -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C."""
    from pipeline.api.server import serve as run  # noqa: PLC0415 (commands load only what they need)

    settings = load_settings()
    configure(settings.log_level)
    run(settings)
