"""`gamemetrics consume`, as a typer function."""

import os
import signal
from typing import Annotated

import typer

from pipeline.cli.options import settings_with_logs


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
    from pipeline.engine.consumer import EventConsumer  # noqa: PLC0415
    from pipeline.engine.health import serve_health  # noqa: PLC0415
    from pipeline.epoch.roles import ROLES  # noqa: PLC0415

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
