"""`gamemetrics refused`, as a typer function."""

from typing import Annotated

import typer

from pipeline.cli.options import AsJson, printable
from pipeline.local.settings import operator_settings

_MOST = 500


def refused(
    *,
    key: Annotated[str | None, typer.Option(help="Only those of the API key of this name.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="How many to show.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List the last events that the API refused, the newest first: when, of which key, which event, and why.

    What it accepted and a consumer found to be no event is in `gamemetrics dlq list`.
    """
    import msgspec  # noqa: PLC0415

    from pipeline.api.schemas import RefusedEvents  # noqa: PLC0415
    from pipeline.operations.refused import newest_refusals  # noqa: PLC0415

    found = newest_refusals(operator_settings(), key, limit)
    if as_json:
        typer.echo(msgspec.json.encode(RefusedEvents(found)).decode())
        return
    for one in found:
        said = (("type", one.event_type), ("player", one.player_id), ("game", one.game_id), ("event", one.event_id))
        known = " ".join(f"{name}={printable(value)}" for name, value in said if value is not None)
        typer.echo(f"{one.at[:19]}Z  {printable(one.key):<16}  {printable(one.reason)}  {known}".rstrip())
    if not found:
        typer.echo("No refusals.")
