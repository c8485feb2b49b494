"""`gamemetrics trace`, as a typer function."""

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pipeline.cli.options import AsJson
from pipeline.config import Settings
from pipeline.local.settings import operator_settings

if TYPE_CHECKING:
    from pipeline.trail.found import Asked  # at run time these would load Kafka's client for every command
    from pipeline.trail.told import Trail

_WITHIN_SECONDS: Final = 15.0
_GOOD: Final = frozenset({"counted", "duplicate"})
_MARKS: Final = {"done": "✓", "waiting": "…", "none": "-"}


def trace(
    event_id: Annotated[str, typer.Argument(help="The event's UUID.")],
    player: Annotated[str, typer.Option("--player", help="Whose event it is.")],
    timestamp: Annotated[str, typer.Option(help="The event's time, if you know it: RFC 3339 with offset.")] = "",
    at: Annotated[
        list[str] | None,
        typer.Option("--at", metavar="PARTITION:OFFSET", help="Where a record of it lies: a POST's X-Event-Position."),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Show what became of one event, and how long each step took; exit 1 unless it, or what it copies, is counted."""
    asked = _asked(event_id, player, timestamp, at or [])
    trail = asyncio.run(_trace(operator_settings(), asked))
    if as_json:
        import msgspec  # noqa: PLC0415 - commands load only what they need

        typer.echo(msgspec.json.encode(trail).decode())
    else:
        _print(trail)
    if trail.fate not in _GOOD:
        raise typer.Exit(1)


async def _trace(settings: Settings, asked: "Asked") -> "Trail":
    from pipeline.api.database import Database  # noqa: PLC0415 - commands load only what they need
    from pipeline.api.valkey import Valkey  # noqa: PLC0415
    from pipeline.trail.tracer import Tracer  # noqa: PLC0415

    async with contextlib.AsyncExitStack() as stack:
        database, valkey = Database(settings), Valkey(settings)
        stack.push_async_callback(database.close)
        stack.push_async_callback(valkey.aclose)
        await database.open()
        tracer = Tracer(settings, database, valkey.hash)
        stack.push_async_callback(tracer.close)
        return (await tracer.trace(asked, _WITHIN_SECONDS)).trail


def _asked(event_id: str, player: str, timestamp: str, places: list[str]) -> "Asked":
    """Read what was typed. Raises BadParameter naming the argument."""
    from pipeline.contract.event import (  # noqa: PLC0415
        EARLIEST,
        ID_RULE,
        LATEST,
        UUID_RULE,
        is_identifier,
        is_uuid,
        parse_timestamp,
    )
    from pipeline.contract.receipts import read_receipts  # noqa: PLC0415
    from pipeline.trail.found import Asked  # noqa: PLC0415

    if not is_uuid(event_id):
        raise typer.BadParameter(f"must be {UUID_RULE}", param_hint="EVENT_ID")
    if not is_identifier(player):
        raise typer.BadParameter(f"must be {ID_RULE}", param_hint="--player")
    try:
        moment = parse_timestamp(timestamp) if timestamp else None
    except (ValueError, OverflowError):
        moment = None
    if timestamp and (moment is None or not EARLIEST <= moment <= LATEST):
        raise typer.BadParameter("must be an RFC 3339 time with offset, since 2000", param_hint="--timestamp")
    try:
        positions = read_receipts(places)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--at") from None
    return Asked(player, uuid.UUID(event_id), moment, positions)


def _print(trail: "Trail") -> None:
    typer.echo(f"{trail.fate}: {trail.summary}")
    for hop in trail.hops:
        after = "" if hop.after_ms is None else f"+{hop.after_ms:,.1f} ms"
        line = f"  {_MARKS[hop.state]} {hop.hop:<13}{hop.at or '':<28}{after:>13}  {hop.detail}"
        typer.echo(line.rstrip())
    of = ", by the record that was counted" if trail.fate == "duplicate" else ""
    for one in trail.effects.statistics:
        typer.echo(f"  statistics of {trail.player_id}: {one.event_type} +{one.added}{of}")
    for board in trail.effects.boards:
        typer.echo(f"  {board.key}: {board.added:+}{of}")
