"""GET: what was changed through the console, by whom and why."""

from typing import Final

from pipeline.api.access.keyring import Caller
from pipeline.api.console.answers import answer, asking, written
from pipeline.api.console.schemas import Audit, AuditEntry
from pipeline.api.context import Context
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.parameters import Whole, parameters, whole

ENTRIES: Final = Whole("limit", 50, 1, 500, "How many entries")
_NEWEST: Final = "SELECT at, actor, action, reason, count FROM pipeline_audit ORDER BY id DESC LIMIT %s"


async def get_audit(context: Context, connection: Connection, head: Head, _caller: Caller) -> None:
    """Answer GET /api/v1/console/audit."""
    limit = whole(parameters(head, ENTRIES.name), ENTRIES)
    with asking():
        rows = await context.console.database.rows(_NEWEST, [limit])
    answer(connection, Audit([AuditEntry(written(at), *others) for at, *others in rows]))
