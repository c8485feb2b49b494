# ruff: noqa: INP001 - a script of the image, no package
"""Ask the process in this container whether it lives: exit 0 when it says so itself. Docker's HEALTHCHECK runs this."""

import http.client
import os
import sys


def main() -> int:
    """Return 0 when /health/live on METRICS_PORT answers 200; both the API and the consumers serve it there."""
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("METRICS_PORT") or 9090), timeout=3)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stdout.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{status}\n")
    return 0 if status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
