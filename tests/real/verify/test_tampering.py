"""Keys of Redis that somebody altered by hand, in each way that there is: found, and named."""

from typing import Any

import pytest

from tests.commanding import gamemetrics
from tests.consuming import consume_all
from tests.place import Place
from tests.real.verify.test_verify import NONE, YESTERDAY, a_mixed_load, differences

pytestmark = pytest.mark.real

REDIS_TAMPERINGS: dict[str, tuple[list[Any], list[Any], str]] = {
    "a count": (
        ["HINCRBY", "player_stats:player-1", "total_events", 1],
        ["HINCRBY", "player_stats:player-1", "total_events", -1],
        "player_stats:player-1 total_events",
    ),
    "a field added": (
        ["HSET", "player_stats:player-1", "event_logout", 1],
        ["HDEL", "player_stats:player-1", "event_logout"],
        "player_stats:player-1 event_logout",
    ),
    "a player added": (
        ["HSET", "player_stats:a-ghost", "total_events", 1],
        ["DEL", "player_stats:a-ghost"],
        "player_stats:a-ghost total_events",
    ),
    "a score": (
        ["ZINCRBY", "leaderboard:game-0:alltime", 1, "player-2"],
        ["ZINCRBY", "leaderboard:game-0:alltime", -1, "player-2"],
        "leaderboard:game-0:alltime player 'player-2'",
    ),
    "a score without end": (
        ["ZADD", "leaderboard:game-0:alltime", "+inf", "a-ghost"],
        ["ZREM", "leaderboard:game-0:alltime", "a-ghost"],
        "leaderboard:game-0:alltime player 'a-ghost'",
    ),
    "a score of a fraction": (
        ["ZADD", f"leaderboard:game-1:daily:{YESTERDAY}", "0.5", "a-ghost"],
        ["ZREM", f"leaderboard:game-1:daily:{YESTERDAY}", "a-ghost"],
        f"leaderboard:game-1:daily:{YESTERDAY} player 'a-ghost'",
    ),
    "a place whose name is no text": (
        ["ZADD", "leaderboard:game-0:alltime", 1, b"\xff"],
        ["ZREM", "leaderboard:game-0:alltime", b"\xff"],
        "leaderboard:game-0:alltime player '\N{REPLACEMENT CHARACTER}'",
    ),
    "a board whose name is no text": (
        ["ZADD", b"leaderboard:\xff:alltime", 1, b"\xff"],
        ["DEL", b"leaderboard:\xff:alltime"],
        "leaderboard:\N{REPLACEMENT CHARACTER}:alltime",
    ),
    "a player whose name is no text": (
        ["HSET", b"player_stats:\xff", "total_events", 1],
        ["DEL", b"player_stats:\xff"],
        "player_stats:\N{REPLACEMENT CHARACTER} total_events",
    ),
    "a field that counts nothing": (
        ["HSET", "player_stats:player-1", b"\xff", "many"],
        ["HDEL", "player_stats:player-1", b"\xff"],
        "player_stats:player-1 \N{REPLACEMENT CHARACTER}",
    ),
    "a place added": (
        ["ZADD", f"leaderboard:game-1:daily:{YESTERDAY}", 5, "a-ghost"],
        ["ZREM", f"leaderboard:game-1:daily:{YESTERDAY}", "a-ghost"],
        f"leaderboard:game-1:daily:{YESTERDAY} player 'a-ghost'",
    ),
    "a board gone": (
        ["RENAME", f"leaderboard:game-1:daily:{YESTERDAY}", "away"],
        ["RENAME", "away", f"leaderboard:game-1:daily:{YESTERDAY}"],
        f"leaderboard:game-1:daily:{YESTERDAY} player",
    ),
    "a day's board that stays for ever": (
        ["PERSIST", f"leaderboard:game-1:daily:{YESTERDAY}"],
        ["EXPIRE", f"leaderboard:game-1:daily:{YESTERDAY}", 86_400],
        f"leaderboard:game-1:daily:{YESTERDAY} expiry",
    ),
    "the all-time board about to go": (
        ["EXPIRE", "leaderboard:game-0:alltime", 86_400],
        ["PERSIST", "leaderboard:game-0:alltime"],
        "leaderboard:game-0:alltime expiry",
    ),
    "a board that is not due": (
        ["ZADD", "leaderboard:game-0:daily:2001-01-01", 5, "player-2"],
        ["DEL", "leaderboard:game-0:daily:2001-01-01"],
        "leaderboard:game-0:daily:2001-01-01 player 'player-2'",
    ),
    "a key of another type": (
        ["SET", "leaderboard:game-9:alltime", "x"],
        ["DEL", "leaderboard:game-9:alltime"],
        "leaderboard:game-9:alltime",
    ),
}


def test_each_tampering_with_redis_is_found_and_named(place: Place) -> None:
    a_mixed_load(place)
    consume_all(place)
    with place.redis() as client:
        for name, (do, undo, key) in REDIS_TAMPERINGS.items():
            client.execute_command(*do)
            found, kinds, keys = differences(place)
            assert found, name
            assert kinds <= {"Redis statistics", "Redis board"}, name
            assert key in keys, (name, keys)
            client.execute_command(*undo)
        assert differences(place) == NONE
        client.persist(f"leaderboard:game-1:daily:{YESTERDAY}")
        client.expire("leaderboard:game-0:alltime", 86_400)
        assert gamemetrics(place, "cache", "rebuild").returncode == 0
        assert differences(place) == NONE
        client.flushdb()
    found, kinds, keys = differences(place)
    assert found
    assert kinds == {"Redis statistics", "Redis board", "Redis watermark"}
    assert gamemetrics(place, "cache", "rebuild").returncode == 0
    assert differences(place) == NONE
