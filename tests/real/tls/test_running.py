"""Everything over TLS, and certificates that cease to do while it runs: work waits, readiness says why, and goes on."""

import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from pipeline.engine.consumer import EventConsumer
from pipeline.operations.migrate import migrate
from tests.commanding import gamemetrics
from tests.consuming import consuming
from tests.edges import EVENT, running_edge
from tests.events import encoded
from tests.place import Place
from tests.secure import (
    KAFKA_OURS,
    POSTGRES_OURS,
    REDIS_OURS,
    Secure,
    counted,
    environment,
    ours,
    to_kafka,
    to_postgres,
    to_redis,
    with_settings,
)
from tests.tls_servers import TlsKafka, TlsPostgres, TlsRedis
from tests.waiting import eventually

pytestmark = pytest.mark.real


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
        with running_edge(place, ready=True, **variables) as edge:
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
        postgres.cut()
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
    with running_edge(place, ready=True, **environment(place.settings)) as edge, consuming(place) as consumer:
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
