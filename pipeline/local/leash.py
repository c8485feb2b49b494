"""Ends programs whose starter is gone: reads their pids from a pipe that only the starter holds.

However the starter ends, kill -9 included, the system closes its end. (Linux's parent-death signal would not do: it
follows the thread that started a program.)
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read pids, one a line (a minus before one that has ended), until the pipe closes; then end those left."""
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


if __name__ == "__main__":
    main()
