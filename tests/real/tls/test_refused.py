"""Each way in which a certificate does not do: a start ends with the setting that is at fault, and what to do."""

import asyncio
import re
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.api.valkey import Valkey
from pipeline.config import Settings, load_settings
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.operations.migrate import migrate
from tests.commanding import gamemetrics
from tests.edges import EdgeUnderTest, free_port
from tests.place import Place
from tests.secure import (
    KAFKA_OURS,
    POSTGRES_OURS,
    Secure,
    environment,
    ours,
    to_kafka,
    to_postgres,
    to_redis,
)
from tests.tls_servers import TlsKafka, TlsPostgres, TlsRedis
from tests.waiting import eventually

pytestmark = pytest.mark.real

Fault = tuple[dict[str, Any], str]
"""Settings that lead to it, and what is said of it."""


def refused(settings: Settings) -> str:
    """Start a consumer where it must not; return what it said."""
    with pytest.raises(ConfigurationError) as said:
        EventConsumer(settings, ROLES["all"]).run()
    return str(said.value)


def test_kafka_is_refused_by_name(place: Place, secure: Secure, kafka: TlsKafka) -> None:
    good = to_kafka(secure, kafka)
    mutual = to_kafka(secure, kafka, "MUTUAL")
    foreign = secure.stranger.pair("kafka-client")
    faults: list[Fault] = [
        (to_kafka(secure, kafka, host="localhost"), r"^KAFKA_BOOTSTRAP_SERVERS: .*localhost:\d+ is for another name"),
        (to_kafka(secure, kafka, "EXPIRED"), r"^KAFKA_BOOTSTRAP_SERVERS: .* has expired"),
        (
            good | {"kafka_ssl_ca_location": str(secure.stranger.file)},
            "^KAFKA_SSL_CA_LOCATION: .*authority that is not trusted",
        ),
        (mutual, "^KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION: .* wants a certificate of ours"),
        (
            mutual
            | {"kafka_ssl_certificate_location": str(foreign.certificate), "kafka_ssl_key_location": str(foreign.key)},
            "^KAFKA_SSL_CERTIFICATE_LOCATION, .* refuses our certificate",
        ),
        (good | {"kafka_ssl_ca_location": "/nowhere.pem"}, "^KAFKA_SSL_CA_LOCATION: /nowhere.pem"),
        (
            mutual | ours(secure, *KAFKA_OURS) | {"kafka_ssl_key_password": SecretStr("wrong")},
            "^KAFKA_SSL_CERTIFICATE_LOCATION, KAFKA_SSL_KEY_LOCATION, KAFKA_SSL_KEY_PASSWORD: ",
        ),
    ]
    assert_each_is_told(place, faults, refused)


def test_postgresql_is_refused_by_name(place: Place, secure: Secure, postgres: TlsPostgres) -> None:
    good = to_postgres(secure, postgres)
    plain = {"db_host": place.settings.db_host, "db_port": place.settings.db_port}
    faults: list[Fault] = [
        (good | {"db_host": "localhost"}, r"^DB_HOST: .*localhost:\d+ is for another name"),
        (good | {"db_sslrootcert": str(secure.stranger.file)}, "^DB_SSLROOTCERT: .*authority that is not trusted"),
        (good | {"db_sslrootcert": "/nowhere.pem"}, "^DB_SSLROOTCERT: .*/nowhere.pem"),
        (good | ours(secure, *POSTGRES_OURS) | {"db_sslpassword": SecretStr("wrong")}, "^DB_SSL.*DB_SSLPASSWORD"),
        (good | plain, "^DB_SSLMODE: .*TLS"),
    ]
    assert_each_is_told(place, faults, refused)
    postgres.present(secure.authority.pair("postgres", expired=True))
    try:
        eventually(lambda: "DB_HOST: the certificate of" in refused_connection(place, good))
        assert_each_is_told(place, [(good, "^DB_HOST: .* has expired")], refused)
    finally:
        postgres.present(secure.authority.pair("postgres-again"))
    postgres.demand("clientcert=verify-ca")
    try:
        eventually(lambda: "DB_SSLCERT" in refused_connection(place, good))
        absent = good | {"db_sslcert": "/nowhere.pem", "db_sslkey": "/nowhere.key"}
        faults = [
            (good, "^DB_SSLCERT, DB_SSLKEY: PostgreSQL wants a certificate of ours"),
            (absent, "^DB_SSLCERT, DB_SSLKEY: /nowhere.pem"),
        ]
        assert_each_is_told(place, faults, refused)
    finally:
        postgres.demand("")


def refused_connection(place: Place, changes: dict[str, Any]) -> str:
    """What a migration says to a server; nothing if it has none to say."""
    try:
        migrate(place.settings.model_copy(update=changes))
    except UnavailableError as error:
        return str(error)
    return ""


def test_redis_is_refused_by_name(place: Place, secure: Secure, redis: TlsRedis) -> None:
    good = to_redis(secure, redis)
    foreign = secure.stranger.pair("redis-client")
    faults: list[Fault] = [
        (good | {"redis_host": "localhost"}, r"^REDIS_HOST: .*localhost:\d+ is for another name"),
        (
            good | {"redis_ssl_ca_certs": str(secure.stranger.file)},
            "^REDIS_SSL_CA_CERTS: .*authority that is not trusted",
        ),
        (good | {"redis_ssl_ca_certs": "/nowhere.pem"}, "^REDIS_SSL_CA_CERTS: /nowhere.pem"),
    ]
    assert_each_is_told(place, faults, refused)
    redis.present(secure.authority.pair("redis", expired=True))
    assert_each_is_told(place, [(good, "^REDIS_HOST: .* has expired")], refused)
    assert_each_is_told(place, [(good, "^REDIS_HOST: .* has expired")], refused_edge)
    redis.present(secure.authority.pair("redis-again"))
    redis.demand("yes")
    try:
        faults = [
            (good, "^REDIS_SSL_CERTFILE, REDIS_SSL_KEYFILE: .* wants a certificate of ours"),
            (
                good | {"redis_ssl_certfile": str(foreign.certificate), "redis_ssl_keyfile": str(foreign.key)},
                "^REDIS_SSL_CERTFILE, .* refuses our certificate",
            ),
        ]
        assert_each_is_told(place, faults, refused)
    finally:
        redis.demand("no")


def refused_edge(settings: Settings) -> str:
    """What the edge's own client says, which readers and limits are told."""

    async def ask() -> str:
        async with aclosing(Valkey(settings)) as client:
            with pytest.raises(UnavailableError) as said:
                await client.call("PING")
        return str(said.value)

    return asyncio.run(ask())


def assert_each_is_told(place: Place, faults: list[Fault], say: Callable[[Settings], str]) -> None:
    """Each has its own sentence; every one is tried, whatever another said."""
    said = [(pattern, say(place.settings.model_copy(update=changes))) for changes, pattern in faults]
    wrong = [(pattern, text) for pattern, text in said if re.search(pattern, text) is None]
    assert wrong == []


@pytest.mark.parametrize("command", ["serve", "consume", "lag"])
def test_a_command_that_meets_a_strange_authority_exits_with_2(
    place: Place, secure: Secure, kafka: TlsKafka, postgres: TlsPostgres, command: str
) -> None:
    """Whichever of the two servers it is; `lag` asks Kafka nothing if no group stands."""
    faults = [(to_postgres(secure, postgres), "db_sslrootcert")]
    if command != "lag":
        faults.append((to_kafka(secure, kafka), "kafka_ssl_ca_location"))
    for good, changed in faults:
        changes = good | {changed: str(secure.stranger.file)}
        variables = environment(place.settings.model_copy(update=changes)) | {"METRICS_PORT": str(free_port())}
        if command == "serve":
            code, said = EdgeUnderTest(place, **variables).refused()
        else:
            done = gamemetrics(place, command, **variables)
            code, said = done.returncode, done.stderr
        assert code == 2, said
        assert changed.upper() in said
        assert "Traceback" not in said


def test_files_that_nobody_would_look_at_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for variables, named in (
        ({"KAFKA_SSL_CA_LOCATION": "/ca.pem"}, "KAFKA_SECURITY_PROTOCOL: SASL_PLAINTEXT is without TLS"),
        ({"REDIS_SSL_CA_CERTS": "/ca.pem"}, "REDIS_TLS: False is without TLS, and REDIS_SSL_CA_CERTS"),
        ({"DB_SSLCERT": "/c.pem", "DB_SSLMODE": "disable"}, "DB_SSLMODE: disable is without TLS, and DB_SSLCERT"),
        ({"DB_SSLROOTCERT": "/ca.pem"}, "DB_SSLMODE: prefer looks at no certificate, and DB_SSLROOTCERT"),
    ):
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(ConfigurationError, match=named):
                load_settings()
