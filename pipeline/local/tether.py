"""Stops a stack whose starter is gone: `python -m pipeline.local.tether ROOT` reads a pipe that only the starter holds.

However the starter ends, kill -9 included, the system closes its end, and the read returns. (Linux's parent-death
signal would not do: it follows the thread that started a server, and is lost when the server changes its account.)
"""

import sys
from pathlib import Path


def main() -> None:
    """Wait for the end of standard input, then stop the stack."""
    sys.stdin.buffer.read()
    # Imported only now: until then, which is nearly always for ever, this process is as small as Python is.
    from pipeline.local.stack import Stack  # noqa: PLC0415

    Stack(Path(sys.argv[1])).stop()


if __name__ == "__main__":
    main()
