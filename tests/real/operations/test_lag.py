"""`gamemetrics lag` and `gamemetrics cache rebuild`."""

import pytest

from pipeline.verify.verify import verify
from tests.commanding import gamemetrics, told
from tests.consuming import caught_up, consume_all, consuming
from tests.events import encoded
from tests.place import Place, Record

pytestmark = pytest.mark.real


def some(count: int, players: int = 30) -> list[Record]:
    """Scoring events of `players` players."""
    return [(f"player-{n % players}", encoded(player_id=f"player-{n % players}")) for n in range(count)]


def test_lag_names_every_partition_of_every_group(place: Place) -> None:
    place.produce(some(60), partition=0)
    consume_all(place, "logger")
    consume_all(place, "stats")
    place.produce(some(7), partition=0)
    code, told_lag = told(place, "lag")
    assert (code, told_lag["lag"]) == (0, 14)
    first = {one["group"]: one for one in told_lag["partitions"] if one["partition"] == 0}
    assert set(first) == {f"{place.group}-logger", f"{place.group}-stats"}
    stats = first[f"{place.group}-stats"]
    assert {name: stats[name] for name in ("watermark", "log_end", "lag", "redis", "committed")} == {
        "watermark": 60, "log_end": 67, "lag": 7, "redis": 60, "committed": 60,
    }  # fmt: skip
    assert first[f"{place.group}-logger"]["redis"] is None
    shown = gamemetrics(place, "lag").stdout.splitlines()
    assert shown[0].split() == ["group", "partition", "watermark", "log", "end", "lag", "redis", "committed"]
    assert [f"{place.group}-stats", "0", "60", "67", "7", "60", "60"] in [line.split() for line in shown]


def test_lag_is_exit_1_where_a_group_stands_where_it_cannot(place: Place) -> None:
    place.produce(some(20), partition=0)
    consume_all(place)
    with place.pg() as connection, place.redis() as client:
        move = "UPDATE pipeline_watermarks SET next_offset = %s WHERE partition = 0"
        connection.execute(move, (21,))
        done = gamemetrics(place, "lag")
        assert (done.returncode, "above the log's end" in done.stdout) == (1, True)
        connection.execute(move, (19,))
        done = gamemetrics(place, "lag")
        assert (done.returncode, "Redis is ahead" in done.stdout) == (1, True)
        connection.execute(move, (20,))
        assert gamemetrics(place, "lag").returncode == 0
        client.hset(f"pipeline:watermarks:{place.group}", f"{place.topic}:0", "0:0")
        assert gamemetrics(place, "lag").returncode == 0  # the outbox reaches back to it
        connection.execute("DELETE FROM pipeline_outbox")
        done = gamemetrics(place, "lag")
        assert (done.returncode, "behind by more than the outbox holds" in done.stdout) == (1, True)


def test_a_rebuild_under_load_loses_and_doubles_nothing(place: Place) -> None:
    place.produce(some(2_000))
    with consuming(place, batch_max_events=50, batch_max_wait_ms=5):
        for _ in range(3):
            place.produce(some(1_000))
            done = gamemetrics(place, "cache", "rebuild")
            assert done.returncode == 0, done.stderr
            assert f"{place.group}: " in done.stdout
            with place.redis() as client:
                client.flushdb()  # and once more behind everyone's back
        place.produce(some(500))
        caught_up(place)
    assert verify(place.settings, lambda _what, _done, _total: None).differences.kept == []
    code, rows = told(place, "cache", "rebuild")
    assert code == 0
    assert rows[place.group] > 30


def test_rebuild_before_any_consumer_says_so(place: Place) -> None:
    done = gamemetrics(place, "cache", "rebuild")
    assert done.returncode == 0
    assert "No group keeps counters in Redis yet" in done.stdout


def test_a_wrong_password_is_exit_2_and_named(place: Place) -> None:
    done = gamemetrics(place, "lag", REDIS_PASSWORD="wrong")
    assert done.returncode == 0  # nobody owns anything yet, so Redis is not asked
    consume_all(place)
    done = gamemetrics(place, "lag", REDIS_PASSWORD="wrong")
    assert done.returncode == 2
    assert "REDIS_PASSWORD" in done.stderr
