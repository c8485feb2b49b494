"""GET: the overview once, its history, and both as a stream of events."""

from functools import partial

from pipeline.api.access.keyring import Caller
from pipeline.api.console.answers import answer
from pipeline.api.console.watchers import Watcher
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.parameters import parameters


async def get_overview(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/overview."""
    parameters(head)
    answer(connection, context.console.collector.overview)


async def get_history(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/history."""
    parameters(head)
    answer(connection, context.console.collector.history())


async def get_stream(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/stream: `history` once, and then `overview` each second, until either side ends it."""
    parameters(head)
    collector = context.console.collector
    admitted = partial(context.keyring.admits, head.credential, "read")
    collector.watchers.admit(Watcher(connection, admitted), collector.first_events())
