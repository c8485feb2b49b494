"""The edge's client of Valkey, with its wire cut: every command is sent once, and answered in time or given up."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import pytest

from pipeline.api.valkey import Valkey
from pipeline.errors import UnavailableError
from tests.chaos import proxy
from tests.chaos.proxy import Proxy
from tests.place import Place

pytestmark = pytest.mark.real
Scenario = Callable[[Valkey], Awaitable[None]]


def run(place: Place, port: int, scenario: Scenario) -> None:
    async def running() -> None:
        async with aclosing(Valkey(place.settings.model_copy(update={"redis_port": port}))) as client:
            await scenario(client)

    asyncio.run(running())


def test_a_command_whose_answer_is_lost_is_sent_once(place: Place) -> None:
    """A limiter's charge must not be made twice; redis-py's client by itself would send it eleven times."""
    with Proxy(place.settings.redis_port) as wire:

        async def scenario(client: Valkey) -> None:
            script = client.script("return redis.call('INCR', KEYS[1])")
            assert await script(["charged"], []) == 1
            for command in (b"INCR", b"EVALSHA"):
                rule = wire.rule("lose the answer", command, times=20)
                with pytest.raises(UnavailableError):
                    await (client.call("INCR", "charged") if command == b"INCR" else script(["charged"], []))
                assert rule.met == 1
                rule.left = 0
            assert await client.call("GET", "charged") == "3"

        run(place, wire.port, scenario)


def test_an_answer_that_is_late_is_given_up_and_is_nobody_else_s(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "DELAY_SECONDS", 10.0)
    with Proxy(place.settings.redis_port) as wire:

        async def scenario(client: Valkey) -> None:
            await client.call("MSET", "one", "1", "two", "2")
            rule = wire.rule("delay the answer", b"one")
            started = time.monotonic()
            with pytest.raises(UnavailableError, match="does not answer"):
                await client.call("GET", "one")
            assert time.monotonic() - started < 5, "it was waited for"
            assert rule.met == 1
            assert await client.call("GET", "two") == "2"

        run(place, wire.port, scenario)


def test_many_at_once_share_one_connection_and_each_gets_its_own_answer(place: Place) -> None:
    async def scenario(client: Valkey) -> None:
        async def count(of: int) -> tuple[int, str]:
            return of, await client.call("ECHO", f"{of}")

        assert all(answer == f"{of}" for of, answer in await asyncio.gather(*map(count, range(500))))

    with Proxy(place.settings.redis_port) as wire:
        run(place, wire.port, scenario)
        assert wire.reset() <= 1


def test_who_gives_up_leaves_the_others_their_answers(place: Place) -> None:
    async def scenario(client: Valkey) -> None:
        await client.call("PING")
        calls = [asyncio.create_task(client.call("ECHO", f"{of}")) for of in range(100)]
        await asyncio.sleep(0)
        for one in calls[::3]:
            one.cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for of, answer in enumerate(answers):
            assert answer == f"{of}" or (of % 3 == 0 and isinstance(answer, asyncio.CancelledError))

    run(place, place.settings.redis_port, scenario)


def test_a_server_that_hung_up_is_called_again(place: Place) -> None:
    """A call on the connection that was cut may fail, as it is not sent again; the one after it has a new one."""

    async def scenario(client: Valkey) -> None:
        async def answers() -> bool:
            try:
                return bool(await client.call("PING"))
            except UnavailableError:
                return False

        for _ in range(3):
            assert await answers()
            assert wire.reset() == 1
            assert await answers() or await answers()

    with Proxy(place.settings.redis_port) as wire:
        run(place, wire.port, scenario)


def test_an_error_reply_is_an_answer_that_there_is_none(place: Place) -> None:
    async def scenario(client: Valkey) -> None:
        await client.call("SET", "text", "x")
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            await client.call("HGETALL", "text")
        assert await client.call("GET", "text") == "x"

    run(place, place.settings.redis_port, scenario)


def test_a_script_that_the_server_forgot_is_loaded_again(place: Place) -> None:
    async def scenario(client: Valkey) -> None:
        script = client.script("return ARGV[1]")
        assert await script([], ["one"]) == "one"
        await client.call("SCRIPT", "FLUSH")
        assert await script([], ["two"]) == "two"

    run(place, place.settings.redis_port, scenario)


def test_a_wrong_password_is_said_and_asked_for_seldom(place: Place) -> None:
    """A server that refuses must not be given a connection for every read."""
    with Proxy(place.settings.redis_port) as wire:
        wrong = place.settings.model_copy(update={"redis_port": wire.port, "redis_username": "nobody"})

        async def refused() -> None:
            async with aclosing(Valkey(wrong)) as client:
                with pytest.raises(UnavailableError, match=r"(?i)wrongpass|invalid"):
                    await client.call("PING")
                with pytest.raises(UnavailableError, match="away"):
                    await client.call("PING")

        asyncio.run(refused())
