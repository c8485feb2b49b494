"""The workload is what the reference load says it is, whatever way it is cut."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import orjson
import polars as pl

from pipeline.contract.event import Origin, load_scoring, parse_edge, parse_record, record_id
from pipeline.load.workload import Workload, client_bodies, record_values

END = datetime(2026, 11, 20, tzinfo=UTC)


def test_the_mix_is_that_of_the_reference_load() -> None:
    events = Workload(1, END).events(0, 100_000)
    shares = {kind: round(count / 1_000) for kind, count in Counter(events["event_type"]).items()}
    assert shares == {
        "player_score": 30, "login": 20, "level_up": 10, "item_purchased": 10, "quest_completed": 10,
        "achievement_unlocked": 8, "boss_defeated": 7, "match_finished": 5,
    }  # fmt: skip
    assert events["game_id"].n_unique() == 20
    assert events["event_id"].n_unique() == 100_000
    times = events["timestamp"]
    assert times.min() >= "2026-11-17T00:00:00"  # type: ignore[operator]  # texts
    assert times.max() <= "2026-11-20T00:00:00.000000Z"  # type: ignore[operator]
    assert times.str.slice(0, 10).n_unique() == 3


def test_players_follow_zipf() -> None:
    counts = Counter(Workload(1, END, players=1_000).events(0, 200_000)["player_id"])
    assert len(counts) == 1_000
    first, tenth = counts["player-000001"], counts["player-000010"]
    assert 10**0.8 * 0.85 < first / tenth < 10**0.8 * 1.15


def test_records_are_of_the_reference_size() -> None:
    values = record_values(Workload(3, END).events(0, 10_000), "2026-11-20T00:00:00.000000Z")
    assert 265 < values.str.len_bytes().mean() < 272  # type: ignore[operator]


def test_every_event_is_valid_at_the_edge_and_as_a_record() -> None:
    origin = Origin(record_id("t", 0, 0), END + timedelta(hours=1))
    events = Workload(5, END).events(0, 2_000)
    bodies = [parse_edge(body.encode(), origin, load_scoring()) for body in client_bodies(events)]
    records = [
        parse_record(value.encode(), origin, load_scoring())
        for value in record_values(events, "2026-11-20T00:00:00.000000Z")
    ]
    for body, record in zip(bodies, records, strict=True):
        assert (body.event_id, body.player_id, body.score, body.data) == (
            record.event_id, record.player_id, record.score, record.data,
        )  # fmt: skip
        assert body.event_id.version == 8


def test_a_load_is_the_same_however_it_is_cut_and_another_for_another_seed() -> None:
    load = Workload(9, END)
    assert load.events(0, 500).equals(load.events(0, 300).vstack(load.events(300, 200)))
    other = Workload(10, END).events(0, 500)
    assert not set(other["event_id"]) & set(load.events(0, 500)["event_id"])
    assert orjson.loads(client_bodies(other)[0])["data"] != orjson.loads(client_bodies(load.events(0, 1))[0])["data"]


def test_an_event_is_the_same_wherever_and_however_often_its_place_is_asked_for() -> None:
    load = Workload(9, END)
    places = pl.Series("index", [7, 3, 7, 10**12], dtype=pl.UInt64)
    asked = load.at(places)
    assert asked[0].equals(asked[2])
    assert asked[:2].equals(load.events(7, 1).vstack(load.events(3, 1)))
    assert asked["event_id"].n_unique() == 3
