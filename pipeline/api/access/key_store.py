"""The keys in PostgreSQL, read again every two seconds, so that a change acts on every replica without a restart."""

import asyncio
from typing import Final

import structlog

from pipeline.api.access.keyring import Caller, Keyring, Signer
from pipeline.api.database import Database
from pipeline.errors import RefusedError, UnavailableError

_EVERY_SECONDS: Final = 2.0
_FORGIVE_EVERY: Final = 30
_KEYS: Final = """
SELECT id, secret_sha256, signing_secret, revoked_at IS NULL, name, scopes, games, events_per_second, bytes_per_second
FROM api_keys
"""

_log = structlog.get_logger("keys")


class KeyStore:
    """Keeps a keyring level with the database. While the database is away, the keys last known hold."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring
        self._fault = ""
        self.known = False
        self._refused = ""
        self.asked = asyncio.Event()

    @property
    def refused(self) -> str:
        """Why the account may not read them, and no waiting changes that; empty if it may, or nobody knows."""
        return self._refused or self._database.refusal

    async def load(self) -> bool:
        """Read the keys once; False when the database cannot be asked."""
        try:
            rows = await self._database.rows(_KEYS)
        except UnavailableError as error:
            self._refused = str(error) if isinstance(error, RefusedError) else ""
            self._note(str(error))
            return False
        keys: dict[bytes, Caller] = {}
        signers: dict[str, Signer] = {}
        for identity, secret_sha256, signing_secret, valid, name, scopes, games, events, size in rows:
            caller = Caller(name, frozenset(scopes), frozenset(games) if games else None, events, size)
            if valid and signing_secret is not None:
                signers[identity] = Signer(caller, bytes(signing_secret))
            elif valid:
                keys[bytes(secret_sha256)] = caller
        self._keyring.replace(keys, signers, ever_made=bool(rows))
        self._refused = ""
        self._note("")
        return True

    async def keep_loading(self) -> None:
        """Read the keys again and again."""
        rounds = 0
        while True:
            self.known = await self.load() or self.known
            self.asked.set()
            await asyncio.sleep(_EVERY_SECONDS)
            rounds += 1
            if rounds % _FORGIVE_EVERY == 0:
                self._keyring.forgive()

    def _note(self, fault: str) -> None:
        if fault != self._fault:
            self._fault = fault
            _log.warning(
                "API keys cannot be read; those known hold" if fault else "API keys are read again", fault=fault
            )
