"""Settings, read once from the environment; a wrong value names its variable and stops the start."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from pipeline.errors import ConfigurationError

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
    kafka_group_id: str = ""
    kafka_session_timeout_ms: Annotated[int, Field(ge=6_000, le=300_000)] = 10_000
    kafka_max_poll_interval_ms: Annotated[int, Field(ge=6_000, le=3_600_000)] = 300_000

    db_host: str = "localhost"
    db_port: Port = 5432
    db_name: str = "gamemetrics"
    db_user: str = "postgres"
    db_password: SecretStr = SecretStr("")
    db_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"

    redis_host: str = "localhost"
    redis_port: Port = 6379
    redis_db: Annotated[int, Field(ge=0)] = 0
    redis_username: str = ""
    redis_password: SecretStr = SecretStr("")
    redis_tls: bool = False

    port: Port = 8080
    metrics_port: Port = 9090
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    host: str = "127.0.0.1"
    api_keys: SecretStr = SecretStr("")
    api_open: bool = False
    rate_limit_rps: Annotated[float, Field(ge=0, le=1e9)] = 0
    rate_limit_bytes_per_s: Annotated[float, Field(ge=0, le=1e9)] = 0
    max_in_flight_bytes: Annotated[int, Field(ge=8 << 20, le=1 << 34)] = 64 << 20
    max_connections: Annotated[int, Field(ge=1, le=1_000_000)] = 20_000
    http_head_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 10
    http_body_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 60
    http_idle_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 75

    console_hosts: str = ""
    console_identity_header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{0,100}$")] = ""
    console_trusted_proxies: str = ""

    batch_max_events: Annotated[int, Field(ge=1, le=1_000_000)] = 110_000
    batch_max_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 32 << 20
    batch_max_wait_ms: Annotated[int, Field(ge=1, le=60_000)] = 50

    dlq_halt_ratio: Annotated[float, Field(gt=0, le=1)] = 0.5
    dlq_halt_count: Annotated[int, Field(ge=1)] = 1_000
    outbox_keep_seconds: Annotated[int, Field(ge=0)] = 600
    events_keep_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    partition_days_ahead: Annotated[int, Field(ge=2, le=365)] = 7
    board_daily_days: Annotated[int, Field(ge=1, le=3650)] = 35
    board_weekly_days: Annotated[int, Field(ge=1, le=3650)] = 100

    scoring_file: Path | None = None


def load_settings(known: Mapping[str, str] | None = None) -> Settings:
    """Read the environment; `known` are variables whose values stand in for it.

    Raises ConfigurationError with one line per wrong variable; values are not repeated.
    """
    secrets = os.environ.get("SECRETS_DIR") or None
    if secrets is not None and not Path(secrets).is_dir():
        raise ConfigurationError(f"SECRETS_DIR: {secrets} is no directory")
    given: dict[str, Any] = {name.lower(): value for name, value in (known or {}).items()}
    try:
        return Settings(**{"_secrets_dir": secrets, **given})
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors(include_input=False)]
        raise ConfigurationError("\n".join(lines)) from error
