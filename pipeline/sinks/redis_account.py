"""As whom every client of Redis connects: consumers' and the edge's, which loads nothing of the sinks besides."""

from typing import Any

from redis.credentials import CredentialProvider

from pipeline import tls
from pipeline.config import Settings


class RedisAccount(CredentialProvider):
    """The account, as it is when a connection is opened: its password may change while we run."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        """Return username and password, or the password of the default account."""
        username, password = (self._settings.current(field) for field in ("redis_username", "redis_password"))
        return (username, password) if username else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        """Return the same, for the edge: the library's own does, and logs a warning at each connection."""
        return self.get_credentials()


def account(settings: Settings) -> RedisAccount | None:
    """Return the account to connect as; None if the server asks for none."""
    given = RedisAccount(settings)
    return given if any(given.get_credentials()) else None


def certificates(settings: Settings) -> dict[str, Any]:
    """Return what redis-py is told of TLS."""
    files = settings.tls(tls.REDIS)
    given = {
        "ssl_ca_certs": files.authority,
        "ssl_certfile": files.certificate,
        "ssl_keyfile": files.key,
        "ssl_password": files.password,
    }
    return {name: value for name, value in given.items() if value} if settings.redis_tls else {}
