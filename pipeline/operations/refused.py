"""`gamemetrics refused`: the last refusals of every API key, as the replicas of the API left them in Redis."""

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from pipeline.api.access.keyring import Caller
from pipeline.api.refusals.shared import SharedRefusals
from pipeline.api.valkey import Valkey
from pipeline.config import Settings

if TYPE_CHECKING:
    from pipeline.api.schemas import RefusedEvent

_OPERATOR: Final = Caller("operator", frozenset())


def newest_refusals(settings: Settings, key: str | None, limit: int) -> "list[RefusedEvent]":
    """Return the newest refusals, of the API key of a name if one is given. Raises UnavailableError."""
    return asyncio.run(_newest(settings, key, limit))


async def _newest(settings: Settings, key: str | None, limit: int) -> "list[RefusedEvent]":
    async with aclosing(Valkey(settings)) as valkey:
        return await SharedRefusals(valkey).newest(_OPERATOR, key, limit)
