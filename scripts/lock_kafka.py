"""Resolve Kafka and what it depends on anew, and write `pipeline/local/kafka.lock`. `make lock` runs it."""

import hashlib
import sys
import tempfile
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver

from pipeline.local.jars import LOCK

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Kafka logs through slf4j 1.7 and leaves the binding to its distribution: without one it is mute. Its version is that
# of Kafka's own log4j, so it needs no more; resolved together, its parent's versions would override Kafka's.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
HEADER = """\
# Apache Kafka and everything it runs with: group:artifact:version, SHA-256. Written by `make lock`.
"""


def main() -> None:
    """Write the lock file."""
    with tempfile.TemporaryDirectory() as cache:
        context = MavenContext(resolver=PythonResolver(), repo_cache=Path(cache), timeout=60)
        kafka, others = context.resolver.resolve([context.create_dependency(KAFKA)])
        logging, _ = context.resolver.resolve([context.create_dependency(LOGGING)], transitive=False)
        lines = {
            f"{found.groupId}:{found.artifactId}:{found.version} "
            f"{hashlib.sha256(Path(found.artifact.resolve()).read_bytes()).hexdigest()}\n"
            for found in (*kafka, *others, *logging)
            if found.scope in (None, "compile", "runtime")
        }
    LOCK.write_text(HEADER + "".join(sorted(lines)), encoding="utf-8")
    sys.stdout.write(f"{LOCK.name}: {len(lines)} jars\n")


if __name__ == "__main__":
    main()
