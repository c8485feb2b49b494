"""Commands as a user types them: a process with the place's environment."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.place import Place


def gamemetrics(place: Place, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env={**place.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def told(place: Place, *arguments: str, environment: Mapping[str, str] | None = None) -> tuple[int, Any]:
    """Run one command with --json; return its exit code and what it told."""
    done = gamemetrics(place, *arguments, "--json", **(environment or {}))
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)
