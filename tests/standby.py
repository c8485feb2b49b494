"""A standby of the stack's PostgreSQL, for tests of what must not be done on one."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.local.postgres import Postgres
from pipeline.local.stack import Stack
from pipeline.local.state import State


@contextmanager
def standby(stack: Stack, directory: Path) -> Iterator[int]:
    """Run a hot standby with the stack's data as of now until the block ends; gives its port."""
    state = State(directory / "standby")
    state.create()
    recorded = state.directory / "stack.json"
    found = json.loads(recorded.read_text())
    found["secrets"] = json.loads((stack.directory / "stack.json").read_text())["secrets"]
    recorded.write_text(json.dumps(found))
    state.reload()
    server, copy = Postgres(state), directory / "copy"
    try:
        server.start()  # makes its directories
        server.stop()
        stack.postgres.base_backup(copy)
        server.restore(copy)
        mark = server.data / "standby.signal"
        mark.touch()
        owner = server.data.stat()
        os.chown(mark, owner.st_uid, owner.st_gid)
        server.start()
        yield server.port
    finally:
        server.wipe()
        shutil.rmtree(copy, ignore_errors=True)
