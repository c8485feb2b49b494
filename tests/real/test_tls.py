"""TLS to Kafka, PostgreSQL and Redis: everything over it, and each way in which a certificate does not do.

A start ends with the setting that is at fault; while running, work waits, readiness says why, and goes on once the
certificate is good.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from pipeline.api.valkey import answering
from pipeline.api.valkey import connect as connect_edge
from pipeline.config import Settings, load_settings
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.operations.migrate import migrate
from pipeline.sinks.session import address
from tests.authority import Authority, Pair
from tests.commanding import gamemetrics
from tests.consuming import consuming
from tests.edges import EVENT, EdgeUnderTest, free_port, make_key, running_edge
from tests.events import encoded
from tests.place import Place
from tests.tls_servers import (
    ACCOUNT,
    PASSWORD,
    TlsKafka,
    TlsPostgres,
    TlsRedis,
    tls_kafka,
    tls_postgres,
    tls_redis,
)
from tests.waiting import eventually

pytestmark = pytest.mark.real

Fault = tuple[dict[str, Any], str]
"""Settings that lead to it, and what is said of it."""


@dataclass(frozen=True, slots=True)
class Secure:
    """Servers that speak TLS, and certificates for them: by our authority, and by a stranger's."""

    directory: Path
    authority: Authority
    stranger: Authority
    client: Pair


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    with tempfile.TemporaryDirectory(prefix="gamemetrics-tls-") as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL runs as another account, and passes through
        authority, stranger = Authority(directory / "ours"), Authority(directory / "strange")
        yield Secure(directory, authority, stranger, authority.pair("gamemetrics", password="sesame"))


@pytest.fixture(scope="module")
def kafka(secure: Secure) -> Iterator[TlsKafka]:
    with tls_kafka(secure.directory, secure.authority) as server:
        yield server


@pytest.fixture(scope="module")
def postgres(secure: Secure) -> Iterator[TlsPostgres]:
    with tls_postgres(secure.directory, secure.authority) as server:
        yield server


@pytest.fixture(scope="module")
def redis(secure: Secure) -> Iterator[TlsRedis]:
    with tls_redis(secure.directory, secure.authority) as server:
        yield server


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
        "db_name": postgres.database(secure.authority.file),
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


def refused(settings: Settings) -> str:
    """Start a consumer where it must not; return what it said."""
    with pytest.raises(ConfigurationError) as said:
        EventConsumer(settings, ROLES["all"]).run()
    return str(said.value)


def environment(settings: Settings) -> dict[str, str]:
    """The settings as variables."""
    texts = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if value not in (None, ""):
            texts[name.upper()] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return texts


def test_everything_works_over_tls(
    place: Place, secure: Secure, kafka: TlsKafka, postgres: TlsPostgres, redis: TlsRedis
) -> None:
    """With certificates on both sides: schema, keys, the API, a consumer, and what an operator asks."""
    place = with_settings(
        place,
        {
            **to_kafka(secure, kafka, "MUTUAL"),
            **to_postgres(secure, postgres),
            **to_redis(secure, redis),
            **ours(secure, *KAFKA_OURS),
            **ours(secure, *POSTGRES_OURS),
            **ours(secure, *REDIS_OURS),
            "kafka_username": "",
            "kafka_password": SecretStr(""),
        },
    )
    variables = environment(place.settings)
    postgres.demand("clientcert=verify-ca")
    redis.demand("yes")
    try:
        assert gamemetrics(place, "migrate", **variables).returncode == 0
        with running_edge(place, **variables) as edge:
            assert edge.send(EVENT).status == 200
            assert edge.send(EVENT | {"data": {"score": 7}, "player_id": "Zoë"}).status == 200
            with consuming(place):
                eventually(lambda: counted(place.settings) == 2, timeout=60)
            stats = edge.get("/api/v1/players/Zo%C3%AB/stats")
            assert (stats.headers["X-Source"], stats.json()["total_events"]) == ("redis", 1)
        for command in (
            ["migrate", "--check"],
            ["lag"],
            ["verify"],
            ["dlq", "list"],
            ["cache", "rebuild"],
            ["keys", "list"],
        ):
            done = gamemetrics(place, *command, **variables)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
    finally:
        postgres.demand("")
        redis.demand("no")


def counted(settings: Settings) -> int:
    """Count the events in the database, wherever it is."""
    with psycopg.connect(**address(settings)) as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
        assert row is not None
        return int(row[0])


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
        (
            good | {"kafka_bootstrap_servers": kafka.bootstrap_servers},
            "^KAFKA_SECURITY_PROTOCOL, KAFKA_BOOTSTRAP_SERVERS: .* does not speak TLS",
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
        (good | {"db_sslcert": "/nowhere.pem", "db_sslkey": "/nowhere.key"}, "^DB_SSLCERT, DB_SSLKEY.*/nowhere.pem"),
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
        assert_each_is_told(place, [(good, "^DB_SSLCERT, DB_SSLKEY: PostgreSQL wants a certificate of ours")], refused)
    finally:
        postgres.demand("")


def refused_connection(place: Place, changes: dict[str, Any]) -> str:
    """What a migration says to a server; nothing where it has none to say."""
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
        (good | {"redis_port": redis.plain_port}, "^REDIS_TLS, REDIS_HOST: .* does not speak TLS"),
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
        async with connect_edge(settings) as client:
            with pytest.raises(UnavailableError) as said:
                async with answering():
                    await client.ping()
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
    """Whichever of the two servers it is."""
    for good, changed in (
        (to_kafka(secure, kafka), "kafka_ssl_ca_location"),
        (to_postgres(secure, postgres), "db_sslrootcert"),
    ):
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


def unready(consumer: EventConsumer, said: str) -> bool:
    good, facts = consumer.health.ready()
    return not good and said in str(facts["reasons"])


def test_a_certificate_of_postgresql_that_expires_while_running(
    place: Place, secure: Secure, postgres: TlsPostgres
) -> None:
    place = with_settings(place, to_postgres(secure, postgres))
    migrate(place.settings)
    with consuming(place) as consumer:
        place.produce([encoded()])
        eventually(lambda: counted(place.settings) == 1, timeout=60)
        postgres.present(secure.authority.pair("postgres-old", expired=True))
        postgres.cut(secure.authority.file)
        place.produce([encoded()])
        eventually(lambda: unready(consumer, "DB_HOST: the certificate of"), timeout=60)
        assert consumer.health.live()[0]
        postgres.present(secure.authority.pair("postgres-new"))
        eventually(lambda: consumer.health.ready()[0], timeout=60)
        eventually(lambda: counted(place.settings) == 2, timeout=60)


def test_a_certificate_of_redis_that_expires_while_running(place: Place, secure: Secure, redis: TlsRedis) -> None:
    place = with_settings(place, to_redis(secure, redis))
    with consuming(place) as consumer, redis.admin() as client:
        place.produce([encoded(player_id="worn")])
        eventually(lambda: client.hget("player_stats:worn", "total_events") == b"1", timeout=60)
        redis.present(secure.authority.pair("redis-old", expired=True))
        redis.cut()
        place.produce([encoded(player_id="worn")])
        eventually(lambda: unready(consumer, "REDIS_HOST: the certificate of"), timeout=60)
        assert consumer.health.live()[0]
        redis.present(secure.authority.pair("redis-new"))
        eventually(lambda: consumer.health.ready()[0], timeout=60)
        eventually(lambda: client.hget("player_stats:worn", "total_events") == b"2", timeout=60)


def test_a_certificate_of_kafka_that_expires_while_running(place: Place, secure: Secure, kafka: TlsKafka) -> None:
    place = with_settings(place, to_kafka(secure, kafka))
    good = Path(kafka.certificate).read_bytes()
    with running_edge(place, **environment(place.settings)) as edge, consuming(place) as consumer:
        before = eventually(lambda: edge.send(EVENT).status == 200 and counted(place.settings), timeout=60)
        shutil.copy(secure.authority.pair("kafka-old", expired=True).both, kafka.certificate)
        kafka.kill()
        kafka.start()
        eventually(lambda: b"KAFKA_BOOTSTRAP_SERVERS: the certificate of" in edge.get("/health/ready").body, timeout=60)
        assert edge.send(EVENT | {"player_id": "unlucky"}).status == 503
        eventually(lambda: unready(consumer, "KAFKA_BOOTSTRAP_SERVERS: the certificate of"), timeout=90)
        assert consumer.health.live()[0]
        Path(kafka.certificate).write_bytes(good)
        kafka.kill()
        kafka.start()
        eventually(lambda: edge.send(EVENT | {"player_id": "lucky"}).status == 200, timeout=60)
        eventually(lambda: counted(place.settings) > before, timeout=60)
        eventually(lambda: consumer.health.ready()[0], timeout=60)
