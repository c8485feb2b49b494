"""Redis while it is refilled: what readers find is whole, or answered by PostgreSQL."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from typing import Any, Final

import psycopg
import pytest

from pipeline import metrics
from pipeline.contract.boards import WEEKLY, board_key, stats_fields
from pipeline.epoch.epoch import plan_for
from pipeline.epoch.roles import ROLES
from pipeline.errors import UnavailableError
from pipeline.sinks import refill
from pipeline.sinks.level import Cache
from pipeline.sinks.redis import RedisSink
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up, consume_all, consuming
from tests.edges import EdgeUnderTest
from tests.events import encoded, now
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

PLAYERS: Final = 12_000
LOWEST: Final = "/api/v1/leaderboards/g/players/p1?around=0"


def fill(place: Place) -> None:
    """A board of many players in PostgreSQL, p1 the lowest, and a watermark that says so."""
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO leaderboard_settled SELECT 'g', 'p' || n, n, now() FROM generate_series(1, %s) AS n",
            (PLAYERS,),
        )
        connection.execute(
            "INSERT INTO leaderboard_daily SELECT 'd', %s, 'p' || n, n, now() FROM generate_series(1, %s) AS n",
            (now()[:10], PLAYERS // 4),
        )
        connection.execute(
            "INSERT INTO player_event_counts SELECT 'p' || n, 'a', n, now() FROM generate_series(1, 3000) AS n"
        )
        connection.execute(
            "INSERT INTO pipeline_watermarks VALUES (%s, %s, 0, 'id', 0, 7, 7, 0, 0, now())", (place.group, place.topic)
        )


def sinks(place: Place) -> "closing[RedisSink]":
    return closing(RedisSink(place.settings, place.group))


def rebuild(place: Place) -> None:
    with sinks(place) as sink, closing(_cache(place, sink)) as cache:
        cache.rebuild()


def _cache(place: Place, sink: RedisSink) -> Cache:
    return Cache(place.settings, plan_for(ROLES["all"], place.settings), place.group, sink)


def leftovers(place: Place) -> list[Any]:
    with place.redis() as client:
        return list(client.scan_iter(match="pipeline:filling:*"))


def test_a_board_that_is_being_refilled_is_never_read_in_part(
    place: Place, edge: EdgeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place)
    rebuild(place)
    sources = list[str]()

    def read() -> None:
        found, page = edge.get(LOWEST), edge.get("/api/v1/leaderboards/d?period=daily&limit=1")
        assert (found.json()["rank"], found.json()["total"]) == (PLAYERS, PLAYERS)
        assert (page.json()["total"], page.json()["entries"][0]["score"]) == (PLAYERS // 4, PLAYERS // 4)
        assert edge.get("/api/v1/players/p3000/stats").json()["total_events"] == 3000
        sources.append(found.headers["X-Source"])

    whole = refill.read_pages

    def watched(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for page in whole(*arguments):
            yield page
            read()

    monkeypatch.setattr(refill, "read_pages", watched)
    rebuild(place)
    assert sources.count("postgresql") >= PLAYERS // 2_000
    read()
    assert sources[-1] == "redis"
    with place.redis() as client:
        assert client.ttl("leaderboard:g:alltime") == -1
        assert client.ttl(f"leaderboard:d:daily:{now()[:10]}") > 30 * 86_400
    assert not leftovers(place)


def test_a_refill_that_dies_leaves_no_board_to_read(
    place: Place, edge: EdgeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place)
    whole = refill.read_pages

    def cut_off(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for number, page in enumerate(whole(*arguments)):
            if number == 3:
                raise psycopg.OperationalError("the server went away")
            yield page

    with monkeypatch.context() as patch:
        patch.setattr(refill, "read_pages", cut_off)
        with pytest.raises(UnavailableError):
            rebuild(place)
    assert leftovers(place), "it died in the middle"
    found = edge.get(LOWEST)
    assert (found.json()["rank"], found.json()["total"]) == (PLAYERS, PLAYERS)
    assert found.headers["X-Source"] == "postgresql"
    rebuild(place)
    assert edge.get(LOWEST).headers["X-Source"] == "redis"
    assert not leftovers(place)


def test_a_player_of_more_types_than_a_page_is_whole_once_it_has_a_total(
    place: Place, edge: EdgeUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may write can give a player millions of types: no row of all of them is made, and no reader sees some."""
    types = 5_000
    with place.pg() as connection:
        connection.execute(
            "INSERT INTO player_event_counts SELECT p, 't' || n, n, now() + n * interval '1 second'"
            " FROM unnest(ARRAY['a', 'm', 'z']) AS p, generate_series(1, %s) AS n WHERE p = 'm' OR n < 3",
            (types,),
        )
        connection.execute(
            "INSERT INTO pipeline_watermarks VALUES (%s, %s, 0, 'id', 0, 7, 7, 0, 0, now())", (place.group, place.topic)
        )
    whole, total, sources = refill.read_pages, types * (types + 1) // 2, list[str]()

    def read() -> None:
        found = edge.get("/api/v1/players/m/stats")
        assert found.json()["total_events"] == total
        sources.append(found.headers["X-Source"])

    def watched(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for page in whole(*arguments):
            yield page
            if page[0][0] in "am":
                read()

    monkeypatch.setattr(refill, "read_pages", watched)
    rebuild(place)
    assert sources == ["postgresql", "postgresql", "redis"], "the last page has its last types"
    read()
    assert sources[-1] == "redis"
    with place.redis() as client, place.pg() as connection:
        for player, of in (("a", 2), ("m", types), ("z", 2)):
            row = connection.execute("SELECT max(last_event) FROM player_event_counts WHERE player_id = %s", (player,))
            last = row.fetchone()
            assert last is not None
            kept = {name.decode(): value.decode() for name, value in client.hgetall(f"player_stats:{player}").items()}
            assert kept == stats_fields(of * (of + 1) // 2, {f"t{n}": n for n in range(1, of + 1)}, last[0])


def test_a_refill_that_another_overtook_shows_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It froze and lost its lock; what it read is older than what stands there now."""
    fill(place)
    whole = refill.read_pages

    def overtaken(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        yield from whole(*arguments)
        with sinks(place) as other:
            other.forget([0])

    with monkeypatch.context() as patch:
        patch.setattr(refill, "read_pages", overtaken)
        with pytest.raises(UnavailableError, match="another consumer"):
            rebuild(place)
    with place.redis() as client:
        assert not client.exists("leaderboard:g:alltime")


def test_one_key_is_refilled_beside_its_name_too(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(place)
    key, seen = "leaderboard:g:alltime", set[int]()
    whole = refill.read_pages

    def watched(*arguments: Any) -> Iterator[list[tuple[Any, ...]]]:
        for page in whole(*arguments):
            yield page
            with place.redis() as client:
                seen.add(int(client.zcard(key)))

    monkeypatch.setattr(refill, "read_pages", watched)
    with sinks(place) as sink, closing(_cache(place, sink)) as cache:
        sink.start(0, 7)
        sink.client.set(key, "a string")
        with monkeypatch.context() as patch:
            patch.setattr(cache, "replay", lambda: True)
            cache.repair([key])
        assert sink.client.zcard(key) == PLAYERS
    assert seen == {0}


def test_a_board_that_is_gone_before_its_time_is_refilled_and_not_begun_anew(place: Place) -> None:
    """Valkey's clock leapt ahead, and back: what it let expire would hold nothing but what is counted from then on."""
    day, week = f"leaderboard:g:daily:{now()[:10]}", "leaderboard:g:weekly:*"
    with consuming(place), place.redis() as client:
        place.produce([encoded(player_id=f"p{n}", game_id="g", data={"score": 1}) for n in range(50)])
        caught_up(place)
        assert client.zcard(day) == 50
        (weekly,) = client.keys(week)
        for key in (day, weekly):
            client.pexpireat(key, 1)
        assert not client.exists(day, weekly)
        place.produce([encoded(player_id="p0", game_id="g", data={"score": 1})])
        eventually(lambda: client.zcard(day) == client.zcard(weekly) == 50)
        caught_up(place)
        assert client.zscore(day, "p0") == client.zscore(weekly, "p0") == 2
        assert client.ttl(day) > 30 * 86_400
    assert_exact(place)


@pytest.mark.parametrize("name", ["boards", "refused"])
def test_what_stands_in_the_way_beside_the_watermarks_is_waited_for_and_nothing_is_lost(
    name: str, place: Place
) -> None:
    """A call that fails half way would have moved its mark before what is left of it was done."""
    key = f"pipeline:watermarks:{place.group}:{name}"
    with consuming(place) as consumer, place.redis() as client:
        place.produce([encoded(game_id="g", data={"score": 1})])
        caught_up(place)
        before = client.dump(key)
        client.delete(key)
        client.set(key, "somebody's")
        place.produce([encoded(game_id="new", player_id="p", data={"score": 5})])
        eventually(lambda: "WRONGTYPE" in str(consumer.health.ready()), timeout=30)
        client.delete(key)
        if before is not None:
            client.restore(key, 0, before)
        caught_up(place)
        assert client.zscore("leaderboard:new:alltime", "p") == 5
    assert_exact(place)


def test_names_that_somebody_wrote_among_the_refused_keys_are_forgotten_and_left_alone(place: Place) -> None:
    """They name no key of ours: none is filled, and none that is there is deleted."""
    names = [b"foreign", b"", b"\xff\xfe", b"player_stats:\xff", b"player_stats:", b"9" * 5_000]
    names += [b"leaderboard:", b"leaderboard:g", b"leaderboard:g:daily:20260115", b"leaderboard::alltime"]
    refused = f"pipeline:watermarks:{place.group}:refused"
    place.produce([encoded(game_id="g", data={"score": 1})])
    with place.redis() as client:
        for name in names:
            client.set(name, "somebody's")
        client.sadd(refused, *names)
        consume_all(place)
        place.produce([encoded(game_id="g", data={"score": 1})])
        consume_all(place)
        eventually(lambda: not client.exists(refused))
        assert [client.get(name) for name in names] == [b"somebody's"] * len(names)
        client.delete(*names)
    assert_exact(place)


def test_a_late_event_of_a_board_whose_time_has_passed_makes_none(place: Place) -> None:
    then = now(timedelta(days=-200))
    place.produce([encoded(game_id="g", timestamp=then)])
    consume_all(place)
    with place.redis() as client:
        assert client.keys("leaderboard:g:*") == [b"leaderboard:g:alltime"]
        assert not client.exists(f"pipeline:watermarks:{place.group}:boards")


def refusals() -> float:
    return next(sample.value for metric in metrics.refused_keys.collect() for sample in metric.samples)


def scored(game: str, days_ago: int, *players: str) -> list[bytes]:
    when = now(timedelta(days=-days_ago))
    return [encoded(player_id=player, game_id=game, timestamp=when, data={"score": 1}) for player in players]


@pytest.mark.parametrize(
    ("before", "days_ago"), [({}, 200), ({"board_daily_days": 1, "board_weekly_days": 1}, 20)], ids=["35", "1"]
)
def test_a_board_that_lives_again_by_a_raised_setting_is_whole(
    before: dict[str, object], days_ago: int, place: Place, edge: EdgeUnderTest, capfd: pytest.CaptureFixture[str]
) -> None:
    """It was gone, or never made: the late event that begins it anew must not be all that it holds."""
    raised = {"board_daily_days": 365, "board_weekly_days": 365}
    day = now(timedelta(days=-days_ago))[:10]
    place.produce(scored("g", days_ago, "a", "b", "c", "d") + scored("g", 0, "a", "b"))
    consume_all(place, "all", **before)
    before_it = refusals()
    with place.redis() as client:
        assert not client.exists(f"leaderboard:g:daily:{day}")
        place.produce(scored("g", days_ago, "e") + scored("g", 0, "e"))
        consume_all(place, "all", **raised)
        assert client.zcard(f"leaderboard:g:daily:{day}") == 5
        assert client.ttl(f"leaderboard:g:daily:{day}") > (364 - days_ago) * 86_400
        assert sorted(client.zcard(key) for key in client.keys("leaderboard:g:weekly:*")) == [3, 5]
        found = edge.get(f"/api/v1/leaderboards/g?period=daily&date={day}")
        assert (found.json()["total"], found.headers["X-Source"]) == (5, "redis")
        refilled = set(re.findall(r"key refilled .*key=(\S+)", capfd.readouterr().out))
        assert refilled == {f"leaderboard:g:daily:{day}", board_key("g", WEEKLY.label(date.fromisoformat(day)))}
        assert (told := refusals()) > before_it  # a key is told of by each call until it is refilled
        rebuild(replace(place, settings=place.settings.model_copy(update=raised)))
        place.produce(scored("h", 300, "a") + scored("h", 299, "b"))
        consume_all(place, "all", **raised)
        assert refusals() == told, "after a refill by the raised setting no more are"
        assert len(client.keys("leaderboard:h:daily:*")) == 2
