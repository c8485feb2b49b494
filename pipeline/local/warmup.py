"""One start of Kafka from which Java learns the next: it writes the startup cache of `local.jvm`."""

import sys
import tempfile
from pathlib import Path
from typing import Final

from pipeline.local.jvm import startup_cache
from pipeline.local.kafka import Kafka
from pipeline.local.state import State

WRITING_SECONDS: Final = 180.0
"""Java writes the cache while it ends: 7 s here, more on a busy machine."""


class _Trainee(Kafka):
    stop_grace_seconds = WRITING_SECONDS


def make_startup_cache() -> None:
    """Start and stop a Kafka of its own, empty and soon gone, and keep what Java noted down. Takes 10 s or more."""
    cache = startup_cache()
    sys.stderr.write("Preparing Java's startup cache for Kafka, once\n")
    with (
        tempfile.TemporaryDirectory(prefix="partial-", dir=cache.parent) as partial,
        tempfile.TemporaryDirectory(prefix="gamemetrics-warmup-") as directory,
    ):
        noted = Path(partial) / cache.name
        state = State(Path(directory))
        state.create()
        trainee = _Trainee(state, [f"-XX:AOTCacheOutput={noted}", "-Xlog:aot*=off"])
        try:
            trainee.start()
        finally:
            trainee.stop()
        if noted.exists():
            for outdated in cache.parent.glob("*.aot"):
                outdated.unlink(missing_ok=True)
            noted.replace(cache)
        else:
            sys.stderr.write("Java made none; Kafka starts as well, only slower\n")
