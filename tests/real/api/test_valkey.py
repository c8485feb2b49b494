"""The edge's client of Valkey, with its wire cut: every command is sent once, and answered in time or given up."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis

from pipeline.api.valkey import answering, connect
from pipeline.errors import UnavailableError
from tests.chaos.proxy import Proxy
from tests.place import Place

pytestmark = pytest.mark.real
Scenario = Callable[[Redis], Awaitable[None]]


def run(place: Place, port: int, scenario: Scenario) -> None:
    async def running() -> None:
        async with connect(place.settings.model_copy(update={"redis_port": port})) as client:
            await scenario(client)

    asyncio.run(running())


def test_a_command_whose_answer_is_lost_is_sent_once(place: Place) -> None:
    """A limiter's charge must not be made twice; redis-py by itself would send it eleven times."""
    with Proxy(place.settings.redis_port) as wire:

        async def scenario(client: Redis) -> None:
            script = client.register_script("return redis.call('INCR', KEYS[1])")
            assert await script(["charged"]) == 1
            for command in (b"INCR", b"EVALSHA"):
                rule = wire.rule("lose the answer", command, times=20)
                with pytest.raises(UnavailableError):
                    async with answering():
                        await (client.incr("charged") if command == b"INCR" else script(["charged"]))
                assert rule.met == 1
                rule.left = 0
            async with answering():
                assert await client.get("charged") == "3"

        run(place, wire.port, scenario)


def test_an_answer_that_is_late_is_given_up_and_is_nobody_else_s(place: Place) -> None:
    with Proxy(place.settings.redis_port) as wire:

        async def scenario(client: Redis) -> None:
            await client.mset({"one": "1", "two": "2"})
            rule = wire.rule("delay the answer", b"one")
            started = time.monotonic()
            with pytest.raises(UnavailableError, match="does not answer"):
                async with answering():
                    await client.get("one")
            assert time.monotonic() - started < 1.8
            assert rule.met == 1
            async with answering():
                assert await client.get("two") == "2"

        run(place, wire.port, scenario)


def test_many_at_once_share_few_connections(place: Place) -> None:
    async def scenario(client: Redis) -> None:
        async def count() -> int:
            async with answering():
                return int(await client.incr("counted"))

        assert sorted(await asyncio.gather(*(count() for _ in range(500)))) == list(range(1, 501))

    with Proxy(place.settings.redis_port) as wire:
        run(place, wire.port, scenario)
        assert 1 < wire.reset() <= 16


def test_a_server_that_hung_up_is_called_again(place: Place) -> None:
    """A call on the connection that was cut may fail, as it is not sent again; the one after it has a new one."""

    async def scenario(client: Redis) -> None:
        async def answers() -> bool:
            try:
                async with answering():
                    return bool(await client.ping())
            except UnavailableError:
                return False

        for _ in range(3):
            assert await answers()
            assert wire.reset() == 1
            assert await answers() or await answers()

    with Proxy(place.settings.redis_port) as wire:
        run(place, wire.port, scenario)


def test_an_error_reply_is_an_answer_that_there_is_none(place: Place) -> None:
    async def scenario(client: Redis) -> None:
        await client.set("text", "x")
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            async with answering():
                await client.hgetall("text")

    run(place, place.settings.redis_port, scenario)
