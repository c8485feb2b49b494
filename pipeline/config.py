"""Settings, read once from the environment; a wrong value names its variable and stops the start."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, PrivateAttr, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline import tls
from pipeline.errors import ConfigurationError
from pipeline.tls import Files, Names

_WITHOUT_TLS: Final = frozenset({"SASL_PLAINTEXT", "PLAINTEXT", "disable", "False"})
_UNVERIFIED: Final = frozenset({"allow", "prefer"})

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseSettings):
    """Everything that can be set, by the upper-case name of the field; a secret may also be a file in SECRETS_DIR."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    kafka_bootstrap_servers: str = "localhost:9092"
    kafka_topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$")] = "player.events.raw"
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")
    kafka_security_protocol: Literal["SASL_PLAINTEXT", "SASL_SSL", "PLAINTEXT", "SSL"] = "SASL_PLAINTEXT"
    kafka_sasl_mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    kafka_ssl_ca_location: str = ""
    kafka_ssl_certificate_location: str = ""
    kafka_ssl_key_location: str = ""
    kafka_ssl_key_password: SecretStr = SecretStr("")
    kafka_group_id: str = ""
    kafka_session_timeout_ms: Annotated[int, Field(ge=6_000, le=300_000)] = 8_000
    kafka_max_poll_interval_ms: Annotated[int, Field(ge=6_000, le=3_600_000)] = 300_000

    db_host: str = "localhost"
    db_port: Port = 5432
    db_name: str = "gamemetrics"
    db_user: str = "postgres"
    db_password: SecretStr = SecretStr("")
    db_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    db_sslrootcert: str = ""
    db_sslcert: str = ""
    db_sslkey: str = ""
    db_sslpassword: SecretStr = SecretStr("")

    redis_host: str = "localhost"
    redis_port: Port = 6379
    redis_db: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    redis_username: str = ""
    redis_password: SecretStr = SecretStr("")
    redis_tls: bool = False
    redis_ssl_ca_certs: str = ""
    redis_ssl_certfile: str = ""
    redis_ssl_keyfile: str = ""
    redis_ssl_password: SecretStr = SecretStr("")

    port: Port = 8080
    metrics_port: Port = 9090
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    host: str = "127.0.0.1"
    api_keys: SecretStr = SecretStr("")
    api_open: bool = False
    rate_limit_rps: Annotated[float, Field(ge=0, le=1e9)] = 0
    rate_limit_bytes_per_second: Annotated[float, Field(ge=0, le=1e9)] = 0
    max_in_flight_bytes: Annotated[int, Field(ge=8 << 20, le=1 << 34)] = 64 << 20
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    http_head_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    http_body_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    http_idle_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 75

    console_hosts: str = ""
    console_identity_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,100}$")] = ""
    console_trusted_proxies: str = ""

    batch_max_events: Annotated[int, Field(ge=1, le=1_000_000)] = 110_000
    batch_max_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    batch_max_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 50

    dlq_halt_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    dlq_halt_count: Annotated[int, Field(ge=1, le=1_000_000_000)] = 1_000
    outbox_keep_seconds: Annotated[int, Field(ge=0, le=31_536_000)] = 600
    events_keep_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    partition_days_ahead: Annotated[int, Field(ge=2, le=365)] = 7
    board_daily_days: Annotated[int, Field(ge=1, le=3650)] = 35
    board_weekly_days: Annotated[int, Field(ge=1, le=3650)] = 100

    scoring_file: Path | None = None

    _files: Path | None = PrivateAttr(None)
    _fixed: frozenset[str] = PrivateAttr(frozenset())
    _last: dict[str, str] = PrivateAttr(default_factory=dict)

    def current(self, field: str) -> str:
        """Return the text of an account's field as it is now: a file in SECRETS_DIR may change while we run.

        A file that is missing, empty or half an alphabet, while someone writes it, is what it was before.
        """
        given = getattr(self, field)
        text = given.get_secret_value() if isinstance(given, SecretStr) else str(given)
        if self._files is None or field in self._fixed:
            return text
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if found := (self._files / field).read_text(encoding="utf-8").strip():
                self._last[field] = found
        return self._last.get(field, text)

    def tls(self, names: Names, *, verified: bool = True, named: bool = True) -> Files:
        """Return the files of TLS to one server."""
        authority, certificate, key, password = (
            self.current(name.lower()) for name in (names.authority, names.certificate, names.key, names.password)
        )
        return Files(names, authority, certificate, key, password, verified, named)

    def read_from(self, secrets: Path | None, fixed: Iterable[str]) -> None:
        """Remember where the files of secrets are, and which fields no file says."""
        self._files, self._fixed = secrets, frozenset(fixed)


def load_settings(known: Mapping[str, str] | None = None) -> Settings:
    """Read the environment; `known` are variables whose values stand in for it.

    Raises ConfigurationError with one line per wrong variable; values are not repeated.
    """
    secrets = os.environ.get("SECRETS_DIR") or None
    if secrets is not None and not Path(secrets).is_dir():
        raise ConfigurationError(f"SECRETS_DIR: {secrets} is no directory")
    given: dict[str, Any] = {name.lower(): value for name, value in (known or {}).items()}
    try:
        settings = Settings(**{"_secrets_dir": secrets, **given})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors(include_input=False)]
        raise ConfigurationError("\n".join(lines)) from error
    environment = {name.lower() for name, value in os.environ.items() if value}
    settings.read_from(Path(secrets) if secrets is not None else None, environment | given.keys())
    for names in tls.EVERY:
        _agree(settings, names)
    if settings.kafka_max_poll_interval_ms < settings.kafka_session_timeout_ms:
        raise ConfigurationError(
            f"KAFKA_MAX_POLL_INTERVAL_MS: {settings.kafka_max_poll_interval_ms} is less than KAFKA_SESSION_TIMEOUT_MS, "
            f"{settings.kafka_session_timeout_ms}; the client takes it from there on"
        )
    return settings


def _agree(settings: Settings, names: Names) -> None:
    """Raise ConfigurationError where files of TLS would be of no use, and nobody would notice."""
    mode = str(getattr(settings, names.mode.lower()))
    given = [name for name in (names.authority, names.certificate, names.key) if getattr(settings, name.lower())]
    if given and mode in _WITHOUT_TLS:
        raise ConfigurationError(f"{names.mode}: {mode} is without TLS, and {', '.join(given)} would be of no use")
    if names.authority in given and mode in _UNVERIFIED:
        raise ConfigurationError(
            f"{names.mode}: {mode} looks at no certificate, and {names.authority} would be of no use; "
            f"set it to verify-full"
        )
