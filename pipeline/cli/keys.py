"""`gamemetrics keys`, as typer functions."""

import json
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from pipeline.cli.options import AsJson
from pipeline.local.settings import operator_settings

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of the HTTP API.")
_name = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")


@keys.command()
def create(  # noqa: PLR0913 (the options of a command)
    name: Annotated[str, typer.Argument(help="Who holds it: 1-100 of A-Z a-z 0-9 _ . -")],
    *,
    scope: Annotated[
        list[str] | None,
        typer.Option(help="write, read or admin (which also reads); may be repeated. The first two when not given."),
    ] = None,
    game: Annotated[list[str] | None, typer.Option(help="A game it may touch; may be repeated. All if none.")] = None,
    events_per_second: Annotated[
        float | None, typer.Option(min=0, max=1e9, help="0: no limit. Default: RATE_LIMIT_RPS.")
    ] = None,
    bytes_per_second: Annotated[
        float | None, typer.Option(min=0, max=1e9, help="0: no limit. Default: RATE_LIMIT_BYTES_PER_SECOND.")
    ] = None,
    signing: Annotated[
        bool, typer.Option("--signing", help="A key that signs each body and is never sent; it may only write.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, once."""
    from pipeline.operations.keys import ADMIN, SCOPES, Rights, create_key  # noqa: PLC0415 - commands load what they need

    scopes = tuple(scope or (("write",) if signing else SCOPES))
    if not _name.match(name):
        raise typer.BadParameter("must be 1-100 of A-Z a-z 0-9 _ . -", param_hint="NAME")
    if wrong := set(scopes) - {*SCOPES, ADMIN}:
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: must be write, read or admin", param_hint="--scope")
    if ADMIN in scopes and game:
        raise typer.BadParameter("what an admin changes is of all games", param_hint="--game")
    if ADMIN in scopes and "read" not in scopes:
        scopes = (*scopes, "read")
    for rate in (events_per_second, bytes_per_second):
        if rate is not None and not (rate == 0 or 0.001 <= rate <= 1e9):  # noqa: PLR2004 - and so not NaN
            raise typer.BadParameter(f"{rate}: must be 0, or from 0.001 to 1e9", param_hint="--*-per-second")
    if signing and scopes != ("write",):
        raise typer.BadParameter("a key that signs may only write", param_hint="--scope")
    rights = Rights(scopes, tuple(game or ()), events_per_second, bytes_per_second, signing)
    made = create_key(operator_settings(), name, rights)
    if as_json:
        typer.echo(json.dumps({"name": name, "id": made.id, "key": made.secret}))
        return
    typer.echo(made.secret)
    used = f"HMAC-SHA256 key={made.id}, t=UNIX_TIME, v1=SIGNATURE" if signing else f"Bearer {made.secret}"
    typer.echo("Keep it: it is not shown again. In force within seconds. Use it as", err=True)
    typer.echo(f"  curl -H 'Authorization: {used}' ...", err=True)


@keys.command("list")
def list_(*, as_json: AsJson = False) -> None:
    """List every key made, revoked ones too; never a secret."""
    from pipeline.operations.keys import list_keys  # noqa: PLC0415

    found = list_keys(operator_settings())
    if as_json:
        typer.echo(json.dumps([asdict(key) for key in found], default=_text))
        return
    for key in found:
        state = f"revoked {_text(key.revoked_at)}" if key.revoked_at else "valid"
        games = ", ".join(key.games) if key.games else "all games"
        rights = "write, signs" if key.signing else "+".join(key.scopes)
        typer.echo(f"{key.id}  {key.name:<24} {rights:<12} {games:<24} {_text(key.created_at)}  {state}")
    if not found:
        typer.echo("There are no keys. Make one: gamemetrics keys create NAME")


@keys.command()
def revoke(which: Annotated[str, typer.Argument(metavar="NAME|ID")]) -> None:
    """Revoke a key; every replica refuses it within seconds."""
    from pipeline.operations.keys import revoke_key  # noqa: PLC0415

    typer.echo(f"{revoke_key(operator_settings(), which)} is revoked")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
