"""Deltas against a count in plain Python, and the chunks that carry them."""

import json
import math
import random
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.contract.boards import Expiry
from pipeline.epoch.aggregate import (
    MAX_OPERATIONS,
    Deltas,
    aggregate,
    chunk,
    per_day,
    per_player,
)
from pipeline.epoch.frame import EVENT_SCHEMA, sort_by_identity
from pipeline.epoch.roles import IDENTITY

EXPIRY = Expiry(daily_days=35, weekly_days=100)
START = datetime(2026, 1, 1, tzinfo=UTC)


def frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    defaults = {"offset": 0, "ingested_at": START, "data": "{}", "row": 0}
    return sort_by_identity(
        pl.DataFrame([defaults | row | {"event_id": uuid.uuid4().bytes} for row in rows], schema=EVENT_SCHEMA)
    )


rows = st.lists(
    st.fixed_dictionaries(
        {
            "partition": st.integers(0, 2),
            "player_id": st.sampled_from(["a", "b", 'c"\\', "é:d"]),
            "game_id": st.sampled_from(["g", "h:daily"]),
            "event_type": st.sampled_from(["login", "player_score", "x:y"]),
            "event_timestamp": st.integers(0, 20 * 86_400).map(lambda s: START + timedelta(seconds=s)),
            "score": st.none() | st.integers(-(2**53), 2**53),
        }
    ),
    max_size=40,
)


@given(rows)
@settings(deadline=None)
def test_deltas_are_the_counts_and_sums(given_rows: list[dict[str, Any]]) -> None:
    deltas = aggregate(frame(given_rows))
    counts = Counter((row["player_id"], row["event_type"]) for row in given_rows)
    last: dict[tuple[str, str], datetime] = {}
    days: dict[tuple[str, Any, str], int] = defaultdict(int)
    for row in given_rows:
        key = (row["player_id"], row["event_type"])
        last[key] = max(last.get(key, START), row["event_timestamp"])
        if row["score"] is not None:
            days[row["game_id"], row["event_timestamp"].date(), row["player_id"]] += row["score"]
    players = {(p, t): (n, moment) for p, t, n, moment in per_player(deltas).iter_rows()}
    assert players == {key: (count, last[key]) for key, count in counts.items()}
    assert {(g, d, p): int(s) for g, d, p, s in per_day(deltas).iter_rows()} == days


@pytest.mark.parametrize("partitions", [3, 2**31 - 1])
def test_a_large_set_adds_up_and_is_ordered_as_a_small_one(partitions: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its keys are packed into one number; with partitions up to 2^31, 63 bits do not hold them."""
    chance = random.Random(5)
    events = frame(
        [
            {
                "partition": chance.randrange(partitions),
                "player_id": f"p{chance.randrange(10_000)}",
                "game_id": f"g{chance.randrange(5_000)}",
                "event_type": chance.choice(["login", "player_score", "x:y"]),
                "event_timestamp": START + timedelta(hours=chance.randrange(1_000)),
                "score": chance.choice([None, 5, -7]),
            }
            for _ in range(40_000)
        ]
    )
    large = aggregate(events)
    monkeypatch.setattr("pipeline.epoch.aggregate._LARGE", len(events) + 1)
    small = aggregate(events)
    assert len(large.days) > 20_000
    assert large.counts.equals(small.counts)
    assert large.days.equals(small.days)


@given(rows)
@settings(deadline=None)
def test_chunks_carry_each_partitions_deltas_once(given_rows: list[dict[str, Any]]) -> None:
    found: dict[int, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for one in chunk(aggregate(frame(given_rows)), EXPIRY):
        payload = json.loads(one.payload)
        if stats := payload.get("stats"):
            for i, key in enumerate(stats["k"]):
                found[one.partition][key, "total"] += stats["s"][i]
                for kind, count in zip(stats["t"][i], stats["n"][i], strict=True):
                    found[one.partition][key, kind] += count
        if boards := payload.get("boards"):
            for i, game in enumerate(boards["g"]):
                for player, score in zip(boards["p"][i], boards["s"][i], strict=True):
                    found[one.partition][game, boards["d"][i], boards["w"][i], player] += int(score)
    expected: dict[int, dict[Any, int]] = defaultdict(lambda: defaultdict(int))
    for row in given_rows:
        here, moment = expected[row["partition"]], row["event_timestamp"]
        here["player_stats:" + row["player_id"], "total"] += 1
        here["player_stats:" + row["player_id"], row["event_type"]] += 1
        if row["score"] is not None:
            here[row["game_id"], f"{moment:%Y-%m-%d}", f"{moment:%G-W%V}", row["player_id"]] += row["score"]
    assert found == expected


def test_a_sum_past_64_bits_does_not_wrap() -> None:
    row = {
        "partition": 0, "player_id": "p", "game_id": "g", "event_type": "player_score",
        "event_timestamp": START, "score": 2**53,
    }  # fmt: skip
    deltas = aggregate(frame([row] * 2000))
    assert int(per_day(deltas)["score"][0]) == 2000 * 2**53
    assert json.loads(chunk(deltas, EXPIRY)[-1].payload)["boards"]["s"] == [[str(2000 * 2**53)]]


def test_chunks_are_cut_at_the_limit_of_operations_and_are_the_same_every_time() -> None:
    rows = [
        {
            "partition": p, "player_id": f"p{i}", "game_id": f"g{i % 7}", "event_type": "player_score",
            "event_timestamp": START, "score": 1,
        }
        for i in range(9_000)
        for p in (0, 1)
    ]  # fmt: skip
    events = frame(rows)
    chunks = chunk(aggregate(events), EXPIRY)
    assert chunks == chunk(aggregate(sort_by_identity(events.sample(fraction=1.0, shuffle=True, seed=3))), EXPIRY)
    for one in chunks:
        payload = json.loads(one.payload)
        operations = sum(len(t) + 2 for t in payload.get("stats", {}).get("t", []))
        operations += sum(3 * len(p) for p in payload.get("boards", {}).get("p", []))
        assert 0 < operations <= MAX_OPERATIONS
    assert len(chunks) == 2 * (6 + 6)


def of_types(types: list[tuple[int, int]]) -> pl.DataFrame:
    """Counts of one player for each (partition, number of event types): the k-th type was met k + 1 times."""
    met = [(number, partition, k) for number, (partition, most) in enumerate(types) for k in range(most)]
    columns = {
        "player_id": [f"p{number:06}" for number, _, _ in met],
        "event_type": [f"t{k:05}" for _, _, k in met],
        "partition": [partition for _, partition, _ in met],
        "events": [k + 1 for _, _, k in met],
        "last_event": [START + timedelta(seconds=k) for _, _, k in met],
        "player": [number for number, _, _ in met],
    }
    return pl.DataFrame(columns, schema=aggregate(frame([])).counts.schema, strict=False)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=400),
    st.lists(st.tuples(st.integers(0, 3), st.integers(10, 12_000)), max_size=3),
    st.randoms(use_true_random=False),
)
@example([(0, 1)] * 9_000, [(0, MAX_OPERATIONS - 2)], random.Random(1))
@settings(deadline=None, max_examples=40)
def test_players_of_many_types_cost_calls_by_what_is_added_and_not_one_a_player(
    light: list[tuple[int, int]], heavy: list[tuple[int, int]], chance: random.Random
) -> None:
    types = light + heavy
    chance.shuffle(types)
    chunks = chunk(Deltas(of_types(types), aggregate(frame([])).days), EXPIRY)
    added: dict[Any, Counter[str]] = defaultdict(Counter)
    last: dict[Any, str] = {}
    for one in chunks:
        stats = json.loads(one.payload)["stats"]
        assert sum(len(t) + 2 for t in stats["t"]) <= MAX_OPERATIONS
        for key, kinds, counts, total, moment in zip(*(stats[name] for name in "ktnsl"), strict=True):
            assert sum(counts) == total, "whoever reads between two calls finds a total that is none"
            added[one.partition, key].update(dict(zip(kinds, counts, strict=True)))
            last[one.partition, key] = max(last.get((one.partition, key), ""), moment)
    assert added == {
        (partition, f"player_stats:p{number:06}"): {f"t{k:05}": k + 1 for k in range(most)}
        for number, (partition, most) in enumerate(types)
    }
    assert {key: moment[11:19] for key, moment in last.items()} == {
        (partition, f"player_stats:p{number:06}"): f"{START + timedelta(seconds=most - 1):%H:%M:%S}"
        for number, (partition, most) in enumerate(types)
    }
    cost = sum(most + 2 for _, most in types)
    assert len(chunks) <= 2 * math.ceil(cost / MAX_OPERATIONS) + len({partition for partition, _ in types})


def test_dated_boards_expire_after_their_period() -> None:
    row = {
        "partition": 0, "player_id": "p", "game_id": "g", "event_type": "player_score",
        "event_timestamp": datetime(2026, 1, 14, 23, 59, 59, tzinfo=UTC), "score": 1,
    }  # fmt: skip
    boards = json.loads(chunk(aggregate(frame([row])), EXPIRY)[-1].payload)["boards"]
    assert boards["d"] == ["2026-01-14"]
    assert boards["w"] == ["2026-W03"]
    assert boards["x"] == [int((datetime(2026, 1, 15, tzinfo=UTC) + timedelta(days=35)).timestamp())]
    assert boards["y"] == [int((datetime(2026, 1, 19, tzinfo=UTC) + timedelta(days=100)).timestamp())]


def test_nothing_adds_up_to_nothing() -> None:
    assert chunk(aggregate(frame([])), EXPIRY) == []
    empty = aggregate(frame([]))
    assert chunk(Deltas(empty.counts, empty.days), EXPIRY) == []


@given(rows)
@settings(deadline=None)
def test_keys_are_in_one_order_for_every_writer(given_rows: list[dict[str, Any]]) -> None:
    deltas = aggregate(frame(given_rows))
    for table, keys in (
        (per_player(deltas), ["player_id", "event_type"]),
        (per_day(deltas), ["game_id", "day", "player_id"]),
    ):
        assert table.equals(table.sort(keys))
        assert table.select(keys).is_unique().all()
    events = sort_by_identity(frame(given_rows))
    assert events.equals(events.sort(IDENTITY))
