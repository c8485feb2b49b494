"""What outlives a starter: it reads a pipe that only the starter holds, `python -m pipeline.local.survivor [ROOT]`.

However the starter ends, kill -9 included, the system closes its end, and the read returns. (Linux's parent-death
signal would not do: it follows the thread that started a process, and is lost when a server changes its account.)
"""

import contextlib
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    """Read pids, one a line (a minus before one to forget), until the pipe closes; then end what is left."""
    held: set[int] = set()
    for line in sys.stdin:
        number = int(line)
        if number > 0:
            held.add(number)
        else:
            held.discard(-number)
    for pid in held:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    for root in sys.argv[1:]:
        from pipeline.local.stack import Stack  # noqa: PLC0415 - only now, which is nearly always never

        Stack(Path(root)).stop()


if __name__ == "__main__":
    main()
