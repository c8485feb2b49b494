"""Servers that speak TLS as a test meets them: certificates for them, and the settings that lead there."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.sinks.session import address
from tests.authority import Authority, Pair
from tests.place import Place
from tests.tls_servers import ACCOUNT, PASSWORD, TlsKafka, TlsPostgres, TlsRedis


@dataclass(frozen=True, slots=True)
class Secure:
    """Servers that speak TLS, and certificates for them: by our authority, and by a stranger's."""

    directory: Path
    authority: Authority
    stranger: Authority
    client: Pair


def to_kafka(secure: Secure, kafka: TlsKafka, listener: str = "TLS", host: str = "127.0.0.1") -> dict[str, Any]:
    return {
        "kafka_bootstrap_servers": f"{host}:{kafka.listening[listener]}",
        "kafka_security_protocol": "SSL" if listener == "MUTUAL" else "SASL_SSL",
        "kafka_ssl_ca_location": str(secure.authority.file),
        "kafka_topic": "player.events.raw",
        "kafka_password": SecretStr(str(kafka.config()["sasl.password"])),
    }


def to_postgres(secure: Secure, postgres: TlsPostgres) -> dict[str, Any]:
    return {
        "db_host": "127.0.0.1",
        "db_port": postgres.port,
        "db_name": postgres.database(),
        "db_user": ACCOUNT,
        "db_password": SecretStr(PASSWORD),
        "db_sslmode": "verify-full",
        "db_sslrootcert": str(secure.authority.file),
    }


def to_redis(secure: Secure, redis: TlsRedis) -> dict[str, Any]:
    return {
        "redis_host": "127.0.0.1",
        "redis_port": redis.port,
        "redis_db": 0,
        "redis_password": SecretStr(""),
        "redis_tls": True,
        "redis_ssl_ca_certs": str(secure.authority.file),
    }


def ours(secure: Secure, *fields: str) -> dict[str, Any]:
    """Fields of a certificate, its key, and the key's password, set to our own."""
    certificate, key, password = fields
    return {certificate: str(secure.client.certificate), key: str(secure.client.key), password: SecretStr("sesame")}


KAFKA_OURS = ("kafka_ssl_certificate_location", "kafka_ssl_key_location", "kafka_ssl_key_password")
POSTGRES_OURS = ("db_sslcert", "db_sslkey", "db_sslpassword")
REDIS_OURS = ("redis_ssl_certfile", "redis_ssl_keyfile", "redis_ssl_password")


def with_settings(place: Place, changes: dict[str, Any]) -> Place:
    return replace(place, settings=place.settings.model_copy(update=changes))


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables, without the ports of our own: those are a test's."""
    texts = {}
    for name in Settings.model_fields.keys() - {"port", "metrics_port"}:
        value = getattr(settings, name)
        if value not in (None, ""):
            texts[name.upper()] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return texts


def counted(settings: Settings) -> int:
    """Count the events in the database, wherever it is."""
    with psycopg.connect(**address(settings)) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
        assert row is not None
        return int(row[0])
