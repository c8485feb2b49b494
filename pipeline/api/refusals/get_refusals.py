"""GET: the last refusals of the keys that the caller may see."""

from typing import Final

import msgspec

from pipeline.api.access.keyring import Caller
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import JSON, encode
from pipeline.api.parameters import Whole, parameters, whole
from pipeline.api.schemas import RefusedEvents

NEWEST: Final = Whole("limit", 100, 1, 500, "How many refusals")
OF_KEY: Final = "key"


async def get_refusals(context: Context, connection: Connection, head: Head, caller: Caller) -> None:
    """Answer GET /api/v1/refusals."""
    asked = parameters(head, OF_KEY, NEWEST.name)
    limit = whole(asked, NEWEST)
    found, source = await context.refusals.newest(caller, asked.get(OF_KEY), limit)
    body = msgspec.json.encode(RefusedEvents(found)) + b"\n"
    connection.reply(200, encode(200, body, JSON, [("Cache-Control", "no-store"), ("X-Source", source)]))
