"""Redis as others run it: Redis itself, accounts with the least rights, a failover behind a name."""

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.api.valkey import Valkey
from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, RefusedError, UnavailableError
from pipeline.sinks.redis import RedisSink
from tests.chaos.proxy import Proxy
from tests.consuming import consume_all, consuming, settings_of
from tests.debian import RedisServer, flavour, redis_server
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

NEEDED = (
    "~player_stats:* ~leaderboard:* ~pipeline:watermarks:* ~pipeline:filling:* resetchannels -@all +select +info"
    " +function|load +fcall +hget +hset +hsetnx +hgetall +hmget +hincrby +del +unlink +sadd +smembers +srem +zadd"
    " +zincrby +zremrangebyscore +exists +expireat +rename +time +scan +watch +unwatch +multi +exec"
)
"""What docs/deploy.md says an account of a consumer needs."""


@pytest.fixture(params=["valkey", "redis"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of each flavour, beside the stack's own."""
    with redis_server(flavour(request.param), tmp_path) as running:
        yield running


def at(place: Place, port: int, rights: str = "", **changes: Any) -> Place:
    """The place with another Redis: by the default account, or by one that has these rights and no others."""
    changes = {"redis_port": port, "redis_db": 0, "redis_password": SecretStr("")} | changes
    if rights:
        changes |= {"redis_username": "gm", "redis_password": SecretStr(secrets.token_hex(8))}
    return replace(place, settings=place.settings.model_copy(update=changes))


def grant(server: RedisServer, place: Place, rights: str) -> None:
    password = place.settings.redis_password.get_secret_value()
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "gm", "reset", "on", f">{password}", *rights.split())


def send(place: Place, count: int) -> None:
    place.produce([(f"p{n % 5}", encoded(player_id=f"p{n % 5}", data={"score": n})) for n in range(count)])


def assert_counted(place: Place, server: RedisServer, events: int) -> None:
    """Every event is in PostgreSQL once, and each player's sum in Redis is what the database has."""
    with place.pg() as connection, server.client() as client:
        totals: dict[str, int] = dict(connection.execute("SELECT player_id, total_events FROM player_statistics"))
        assert sum(totals.values()) == events
        found = {player: int(client.hget(f"player_stats:{player}", "total_events") or 0) for player in totals}
    assert found == totals


def test_either_server_does_with_the_least_rights(place: Place, server: RedisServer) -> None:
    place = at(place, server.port, NEEDED)
    grant(server, place, NEEDED)
    send(place, 40)
    consume_all(place)
    assert_counted(place, server, 40)
    with server.client() as client:
        client.flushall()  # and a refill needs no more
    send(place, 10)
    consume_all(place)
    assert_counted(place, server, 50)


def test_the_policy_is_known_without_config(place: Place, server: RedisServer) -> None:
    place = at(place, server.port, NEEDED)
    grant(server, place, NEEDED)
    with server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(ConfigurationError, match="maxmemory-policy is allkeys-lru"):
        EventConsumer(settings_of(place), ROLES["all"]).run()


def test_each_missing_right_is_named_before_the_first_event(place: Place, server: RedisServer) -> None:
    place = at(place, server.port, NEEDED)
    for missing in NEEDED.partition("-@all +select ")[2].split():
        grant(server, place, " ".join(right for right in NEEDED.split() if right != missing))
        command = missing.removeprefix("+").partition("|")[0]
        with closing(RedisSink(place.settings, place.group)) as sink:
            with pytest.raises(RefusedError, match=rf"REDIS_USERNAME.*(?i:{command})"):
                sink.open()
            grant(server, place, NEEDED)
            sink.open()


def test_keys_that_the_account_may_not_touch_stop_the_start(place: Place, server: RedisServer) -> None:
    rights = NEEDED.replace("~leaderboard:* ", "")
    place = at(place, server.port, rights)
    grant(server, place, rights)
    with pytest.raises(ConfigurationError, match=r"REDIS_USERNAME.*leaderboard:"):
        EventConsumer(settings_of(place), ROLES["all"]).run()


def test_a_database_that_the_server_lacks_stops_the_start(place: Place, server: RedisServer) -> None:
    place = at(place, server.port, redis_db=256)  # of 0 to 255
    with (
        closing(RedisSink(place.settings, place.group)) as sink,
        pytest.raises(RefusedError, match=r"^REDIS_DB: "),
    ):
        sink.open()
    with pytest.raises(ConfigurationError, match=r"^REDIS_DB: "):
        EventConsumer(settings_of(place), ROLES["all"]).run()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
def test_a_server_without_functions_stops_the_start(kind: str, place: Place, tmp_path: Path) -> None:
    """As Redis before 7 has none, and some managed ones: it knows no such command."""
    with redis_server(flavour(kind), tmp_path, "--rename-command", "FUNCTION", "") as lacking:
        place = at(place, lacking.port)
        with (
            closing(RedisSink(place.settings, place.group)) as sink,
            pytest.raises(RefusedError, match=r"^REDIS_HOST: .*Redis 7.*FUNCTION"),
        ):
            sink.open()
        with pytest.raises(ConfigurationError, match=r"^REDIS_HOST: .*FUNCTION"):
            EventConsumer(settings_of(place), ROLES["all"]).run()


def test_a_right_taken_away_while_running_is_told_and_waited_for(place: Place, server: RedisServer) -> None:
    place = at(place, server.port, NEEDED)
    grant(server, place, NEEDED)
    with consuming(place) as consumer:
        send(place, 20)
        eventually(lambda: counted(server) == 20, timeout=30)
        grant(server, place, NEEDED.replace(" +fcall", ""))
        send(place, 20)
        eventually(lambda: "REDIS_USERNAME" in str(consumer.health.ready()[1]), timeout=30)
        assert not consumer.health.ready()[0]
        assert consumer.health.live()[0]
        grant(server, place, NEEDED)
        eventually(lambda: counted(server) == 40, timeout=30)
        eventually(lambda: consumer.health.ready()[0])
    assert_counted(place, server, 40)


def counted(server: RedisServer) -> int:
    with server.client() as client:
        return sum(int(client.hget(f"player_stats:p{n}", "total_events") or 0) for n in range(5))


def test_a_failover_behind_a_name_is_followed(place: Place, tmp_path: Path) -> None:
    """The old primary lives on as a replica, and so does the connection to it: READONLY, for as long as it is kept."""
    kind = flavour("valkey")
    homes = [tmp_path / name for name in ("first", "second")]
    for home in homes:
        home.mkdir()
    with redis_server(kind, homes[0]) as first, redis_server(kind, homes[1]) as second, Proxy(first.port) as name:
        with second.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", str(first.port))
            eventually(lambda: client.info("replication")["master_link_status"] == "up")
        place = at(place, name.port)
        with consuming(place):
            send(place, 20)
            eventually(lambda: counted(second) == 20, timeout=30)
            name.redirect(second.port)  # for new connections; those that stand stay where they are
            with first.client() as old, second.client() as new:
                new.execute_command("REPLICAOF", "NO", "ONE")
                old.execute_command("REPLICAOF", "127.0.0.1", str(second.port))
            send(place, 20)
            eventually(lambda: counted(second) == 40, timeout=30)
        assert_counted(place, second, 40)


def test_the_edge_follows_a_failover_behind_a_name(place: Place, tmp_path: Path) -> None:
    """A limiter whose connection stands at what is a replica now is refused once, and then charges the new primary."""
    kind = flavour("valkey")
    homes = [tmp_path / name for name in ("first", "second")]
    for home in homes:
        home.mkdir()
    with redis_server(kind, homes[0]) as first, redis_server(kind, homes[1]) as second, Proxy(first.port) as name:
        settings = at(place, name.port).settings

        async def charge_on_both_sides_of_it() -> None:
            async with aclosing(Valkey(settings)) as edge:
                script = edge.script("return redis.call('INCR', KEYS[1])")
                assert await script(["charged"], []) == 1
                name.redirect(second.port)
                with first.client() as old:
                    old.execute_command("REPLICAOF", "127.0.0.1", str(second.port))
                with pytest.raises(UnavailableError, match="read only"):
                    await script(["charged"], [])
                assert await script(["charged"], []) == 1, "the new primary's first"

        asyncio.run(charge_on_both_sides_of_it())
