"""`gamemetrics keys`: make, list and revoke API keys. The edge reads the table itself, within two seconds."""

import hashlib
import json
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Final

import psycopg
import typer

from pipeline.config import Settings
from pipeline.errors import PipelineError
from pipeline.operations.settings import operator_settings
from pipeline.sinks.connection import connect, translated

SCOPES: Final = ("write", "read")
_COLUMNS: Final = (
    "id, name, scopes, games, events_per_second, bytes_per_second, created_at, revoked_at, signing_secret IS NOT NULL"
)
_name = re.compile(r"[A-Za-z0-9_.-]{1,100}\Z")

keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke the API keys of the HTTP API.")
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class KeyNameError(PipelineError):
    """The name is taken, or no valid key has it."""


@dataclass(frozen=True, slots=True)
class Rights:
    """What a key may do, to which games (empty: all), and how much of it (None: the server's default).

    One that signs is never sent: its holder signs each body with it, and it may only write.
    """

    scopes: tuple[str, ...] = SCOPES
    games: tuple[str, ...] = ()
    events_per_second: float | None = None
    bytes_per_second: float | None = None
    signing: bool = False


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made, with its secret."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True)
class Key:
    """A key as the table has it, without its secret."""

    id: str
    name: str
    scopes: list[str]
    games: list[str] | None
    events_per_second: float | None
    bytes_per_second: float | None
    created_at: datetime
    revoked_at: datetime | None
    signing: bool


def create_key(settings: Settings, name: str, rights: Rights) -> NewKey:
    """Make a key; its secret cannot be had again. Raises KeyNameError or UnavailableError."""
    identity = secrets.token_hex(4)
    secret = f"{'gms' if rights.signing else 'gm'}_{identity}_{secrets.token_urlsafe(32)}"
    values = (
        identity,
        name,
        hashlib.sha256(secret.encode()).digest(),
        list(rights.scopes),
        list(rights.games) or None,
        rights.events_per_second,
        rights.bytes_per_second,
        secret.encode() if rights.signing else None,
    )
    with translated(), connect(settings, "gamemetrics keys") as connection:
        try:
            connection.execute(
                "INSERT INTO api_keys (id, name, secret_sha256, scopes, games, events_per_second, bytes_per_second, "
                "signing_secret) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                values,
            )
        except psycopg.errors.UniqueViolation:
            raise KeyNameError(f"a valid key named {name} exists; revoke it first, or take another name") from None
    return NewKey(identity, secret)


def list_keys(settings: Settings) -> list[Key]:
    """Return every key ever made, the newest last. Raises UnavailableError."""
    with translated(), connect(settings, "gamemetrics keys") as connection:
        rows = connection.execute(f"SELECT {_COLUMNS} FROM api_keys ORDER BY created_at").fetchall()  # noqa: S608
    return [Key(*row) for row in rows]


def revoke_key(settings: Settings, which: str) -> str:
    """Revoke the valid key of this name or id; return its name. Raises KeyNameError or UnavailableError."""
    with translated(), connect(settings, "gamemetrics keys") as connection:
        row = connection.execute(
            "UPDATE api_keys SET revoked_at = now() WHERE revoked_at IS NULL AND (name = %s OR id = %s) RETURNING name",
            (which, which),
        ).fetchone()
    if row is None:
        raise KeyNameError(f"no valid key has the name or id {which}")
    return str(row[0])


@keys.command()
def create(  # noqa: PLR0913 (the options of a command)
    name: Annotated[str, typer.Argument(help="Who holds it: 1-100 of A-Z a-z 0-9 _ . -")],
    *,
    scope: Annotated[
        list[str] | None, typer.Option(help="write or read; may be repeated. Both when not given.")
    ] = None,
    game: Annotated[list[str] | None, typer.Option(help="A game it may touch; may be repeated. All if none.")] = None,
    events_per_second: Annotated[
        float | None, typer.Option(min=0, help="0: no limit. Default: RATE_LIMIT_RPS.")
    ] = None,
    bytes_per_second: Annotated[
        float | None, typer.Option(min=0, help="0: no limit. Default: RATE_LIMIT_BYTES_PER_S.")
    ] = None,
    signing: Annotated[
        bool, typer.Option("--signing", help="A key that signs each body and is never sent; it may only write.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a key and print its secret, once."""
    scopes = tuple(scope or (("write",) if signing else SCOPES))
    if not _name.match(name):
        raise typer.BadParameter("must be 1-100 of A-Z a-z 0-9 _ . -", param_hint="NAME")
    if wrong := set(scopes) - set(SCOPES):
        raise typer.BadParameter(f"{', '.join(sorted(wrong))}: must be write or read", param_hint="--scope")
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
    typer.echo(f"{revoke_key(operator_settings(), which)} is revoked")


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
