"""Who may do what: the API keys in force, and the refusal of those that are not.

A key is known by the SHA-256 of its secret, which is random enough (256 bits) that a slow hash would add nothing.
The lookup is by that digest: how long it takes tells a caller about a hash they could not have aimed, and nothing
about a secret. A key that signs is known by its id, and its secret is here, for there is no other way to check an HMAC.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from pipeline.api.access.signatures import TOLERANCE_SECONDS, read_signature
from pipeline.api.http.replies import Header, Refusal
from pipeline.config import Settings
from pipeline.errors import ConfigurationError

Scope = Literal["write", "read", "admin"]
_FAILURES_PER_MINUTE: Final = 30
_REMEMBERED_PEERS: Final = 10_000

_BEARER: Final = [("WWW-Authenticate", 'Bearer realm="gamemetrics"')]
_SIGNED: Final = [("WWW-Authenticate", 'HMAC-SHA256 realm="gamemetrics"')]

_log = structlog.get_logger("keys")


@dataclass(frozen=True, slots=True)
class Caller:
    """One key: its name, what it may do, the games it may touch (None: all), and its limits (None: the default's)."""

    name: str
    scopes: frozenset[str]
    games: frozenset[str] | None = None
    events_per_second: float | None = None
    bytes_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Signer:
    """A key that signs: whose it is, and the secret it signs with."""

    caller: Caller
    secret: bytes = field(repr=False)


ANYONE: Final = Caller("anyone", frozenset({"write", "read"}))


class Keyring:
    """The keys in force. `replace` swaps in what the database holds; the static keys of API_KEYS stay.

    Open, it lets everybody write and read; and change things (`admin`) only if it is `private`, on loopback. There the
    network keeps everybody else out, and a page that a browser here shows is who might still come in.
    """

    def __init__(self, static: Mapping[bytes, Caller], *, may_be_open: bool, private: bool = False) -> None:
        self._static = dict(static)
        self._callers = dict(static)
        self._signers: Mapping[str, Signer] = {}
        self._may_be_open = may_be_open
        self.private = private
        self._failures: dict[str, int] = {}
        self.wrong = 0
        self.open = may_be_open and not static
        self.pending = not may_be_open and not static  # no key is known yet, and without one nobody may enter

    def __len__(self) -> int:
        return len(self._callers) + len(self._signers)

    def replace(self, keys: Mapping[bytes, Caller], signers: Mapping[str, Signer], *, ever_made: bool) -> None:
        """Put the database's keys in force: those that are presented, by digest, and those that sign, by id.

        The edge is open only if no key was ever made: revoking the last one must not let everybody in.
        """
        self._callers = {**keys, **self._static}
        self._signers = signers
        self.open = self._may_be_open and not self._static and not ever_made
        self.pending = False

    def caller(self, credential: bytes, scope: Scope, peer: str) -> Caller:
        """Return who calls. Raises Refusal: 401 for no key or a wrong one, 403 for a key without the scope, or 429."""
        if self.open:
            return self._anyone(scope)
        found = self._callers.get(credential)
        if found is None:
            raise self._unknown(credential, peer)
        if scope not in found.scopes:
            raise _forbidden(found, scope)
        return found

    def known(self, credential: bytes) -> Caller | None:
        """Return whose credential this is, if it is anybody's, without a word to who shows a wrong one."""
        return ANYONE if self.open else self._callers.get(credential)

    def signer(self, parameters: bytes, body: bytes | None, scope: Scope, peer: str, now: float) -> Caller:
        """Return whose signature this is. Without a body yet, judge by what the head alone tells.

        Raises Refusal as `caller` does. `now` is the Unix time.
        """
        if self.open:
            return self._anyone(scope)
        found = read_signature(parameters)
        signer = self._signers.get(found.key_id) if found is not None else None
        if found is None or signer is None or not (body is None or found.is_of(signer.secret, body)):
            raise self._wrong("the signature is of no known form or key, or not of this body", _SIGNED, peer)
        if abs(off := found.seconds_off(now)) > TOLERANCE_SECONDS:
            which = "ahead" if off > 0 else "behind"
            reason = (
                f"the signature's time is {abs(off)} s {which}, of at most {TOLERANCE_SECONDS}; Date says the time here"
            )
            raise self._wrong(reason, _SIGNED, peer)
        if scope not in signer.caller.scopes:
            raise _forbidden(signer.caller, scope)
        return signer.caller

    def admits(self, credential: bytes, scope: Scope) -> bool:
        """Whether a key that was let in would be let in now."""
        found = self._callers.get(credential)
        return self.open or (found is not None and scope in found.scopes)

    def forgive(self) -> None:
        """Forget failed tries; called each minute."""
        self._failures.clear()

    def _anyone(self, scope: Scope) -> Caller:
        if scope == "admin" and not self.private:
            reason = "only a key of scope admin may do this: gamemetrics keys create NAME --scope admin"
            raise Refusal(401, reason, _BEARER)
        return ANYONE

    def _unknown(self, credential: bytes, peer: str) -> Refusal:
        if not credential:
            return Refusal(401, "an API key is required: Authorization: Bearer KEY, or X-API-Key: KEY", _BEARER)
        return self._wrong("the API key is not known, or is revoked", _BEARER, peer)

    def _wrong(self, reason: str, challenge: list[Header], peer: str) -> Refusal:
        self.wrong += 1
        if len(self._failures) >= _REMEMBERED_PEERS:
            self._failures.clear()
        failures = self._failures[peer] = self._failures.get(peer, 0) + 1
        if failures <= _FAILURES_PER_MINUTE:
            _log.warning("a wrong API key", peer=peer, tries=failures, reason=reason)
            return Refusal(401, reason, challenge)
        return Refusal(429, "too many wrong API keys from this address", [("Retry-After", "60")])


def _forbidden(caller: Caller, scope: Scope) -> Refusal:
    return Refusal(403, f"the key {caller.name} may not {scope}")


def static_keys(settings: Settings) -> dict[bytes, Caller]:
    """Read API_KEYS: `name:secret` or `secret`, comma-separated. Each may write and read; none is of scope admin.

    Raises ConfigurationError.
    """
    found: dict[bytes, Caller] = {}
    for number, entry in enumerate(
        filter(None, map(str.strip, settings.api_keys.get_secret_value().split(","))), start=1
    ):
        name, colon, secret = entry.partition(":")
        name, secret = (name, secret) if colon else (f"static-{number}", entry)
        if len(secret) < 16 or not secret.isascii() or not secret.isprintable():  # noqa: PLR2004
            raise ConfigurationError(f"API_KEYS: key {number} needs a secret of at least 16 printable ASCII characters")
        found[digest(secret)] = Caller(name, frozenset({"write", "read"}))
    return found


def digest(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()
