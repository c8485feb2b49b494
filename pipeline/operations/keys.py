"""API keys: made, listed, revoked. The edge reads the table itself, within two seconds."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from pipeline.config import Settings
from pipeline.errors import PipelineError
from pipeline.sinks.connection import connect, translated

SCOPES: Final = ("write", "read")
"""What a key may do if nothing else is asked for."""

ADMIN: Final = "admin"
"""The scope of those who may change things through the console; it is given by name only."""

_COLUMNS: Final = (
    "id, name, scopes, games, events_per_second, bytes_per_second, created_at, revoked_at, signing_secret IS NOT NULL"
)


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
