"""The trail of an event that was a dead letter first, and was sent again: which of its records counted."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from psycopg import sql

from pipeline.api.database import Database
from pipeline.api.valkey import Valkey
from pipeline.kafka.partitioner import partition_of
from pipeline.trail import log
from pipeline.trail.found import Asked
from pipeline.trail.tracer import Tracer
from tests.commanding import told
from tests.consuming import consume_all, log_ends
from tests.edges import EVENT, EdgeUnderTest
from tests.events import encoded, now, valid
from tests.place import Place
from tests.tracing import hops, place_of, trail

if TYPE_CHECKING:
    from pipeline.epoch.roles import RoleName

pytestmark = pytest.mark.real

LEDGERS: dict["RoleName", str] = {"all": "events", "logger": "events", "stats": "stats_ledger"}
COVERS = """
SELECT partition::text, lower_bound, upper_bound FROM day_partitions
WHERE parent = %s::regclass AND lower_bound <= %s AND %s < upper_bound
"""


def uncover(place: Place, ledger: str, timestamp: str) -> sql.Composed:
    """Drop the partition that a time belongs to; return the statement that makes it again."""
    with place.pg() as connection:
        row = connection.execute(COVERS, (ledger, timestamp, timestamp)).fetchone()
        assert row is not None
        name, *bounds = row
        connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    parts = (sql.Identifier(name), sql.Identifier(ledger), *map(sql.Literal, bounds))
    return sql.SQL("CREATE TABLE {} PARTITION OF {} FOR VALUES FROM ({}) TO ({})").format(*parts)


def text(where: tuple[int, int]) -> str:
    return f"partition {where[0]}, offset {where[1]}"


def assert_told(edge: EdgeUnderTest, event: dict[str, Any], old: tuple[int, int], new: tuple[int, int]) -> None:
    """Ask for the event, for its dead letter, and for the record that was sent again."""
    asked = (event["player_id"], event["event_id"])
    for parameters in ({}, {"timestamp": event["timestamp"]}, {"after": f"{new[0]}:{new[1]}"}):
        found = trail(edge, *asked, **parameters)
        assert (found["fate"], found["duplicate_of"]) == ("counted", None), (parameters, found)
        assert f"Counted once, from {text(new)}. It was a dead letter first, and was sent again." in found["summary"]
        assert found["hops"][0]["detail"] == text(new)
        assert hops(found)["counted"] == "done"
    found = trail(edge, *asked, after=f"{old[0]}:{old[1]}")
    assert (found["fate"], found["hops"][0]["detail"]) == ("dead_letter", text(old))
    assert "Sent again, it was counted" in found["summary"]


def redriven(place: Place, *arguments: str) -> None:
    assert told(place, "dlq", "redrive", *(arguments or ("--all",))) == (0, {"redriven": 1})


@pytest.mark.parametrize(
    ("role", "timestamp"), [("all", EVENT["timestamp"]), ("all", None), ("logger", None), ("stats", EVENT["timestamp"])]
)
def test_the_record_that_was_sent_again_is_the_one_that_counted(
    place: Place, edge: EdgeUnderTest, role: "RoleName", timestamp: str | None
) -> None:
    event: dict[str, Any] = {**EVENT, "event_id": str(uuid.uuid4()), "timestamp": timestamp or now()}
    consume_all(place, role)
    again = uncover(place, LEDGERS[role], event["timestamp"])
    edge.send({**EVENT, "player_id": event["player_id"]})  # so that no offset is 0
    old = place_of(edge.send(event))
    consume_all(place, role)
    asked = (event["player_id"], event["event_id"])
    found = trail(edge, *asked)
    assert found["fate"] == "dead_letter"
    assert found["dead_letter"]["code"] == ("uncovered" if timestamp else "refused"), "before the ledger, or in a gap"
    with place.pg() as connection:
        connection.execute(again)
    redriven(place, str(found["dead_letter"]["id"]))
    new = (old[0], old[1] + 1)
    consume_all(place, role)
    assert_told(edge, event, old, new)
    # The place where a process ended between Kafka's word and the mark, and one that is sent a second time.
    with place.pg() as connection:
        connection.execute("UPDATE dlq_events SET redriven_at = NULL")
    assert_told(edge, event, old, new)
    redriven(place, str(found["dead_letter"]["id"]))
    consume_all(place, role)
    assert_told(edge, event, old, new)
    if role != "stats":  # whose ledger does not say which record it was
        copy = trail(edge, *asked, after=f"{new[0]}:{new[1] + 1}")
        assert (copy["fate"], copy["duplicate_of"]) == ("duplicate", {"partition": new[0], "offset": new[1]})


def test_one_that_comes_back_as_a_dead_letter_and_counts_at_last(place: Place, edge: EdgeUnderTest) -> None:
    event: dict[str, Any] = {**EVENT, "event_id": str(uuid.uuid4())}
    consume_all(place)
    again = uncover(place, "events", event["timestamp"])
    old = place_of(edge.send(event))
    for _ in range(2):
        consume_all(place)
        redriven(place)
    with place.pg() as connection:
        connection.execute(again)
    consume_all(place)
    new = (old[0], old[1] + 2)
    assert_told(edge, event, old, new)
    middle = trail(edge, event["player_id"], event["event_id"], after=f"{old[0]}:{old[1] + 1}")
    assert (middle["fate"], "Sent again, it was counted" in middle["summary"]) == ("dead_letter", True)


def test_an_invalid_one_that_is_mended_long_after_it_came_in_is_found(
    place: Place, edge: EdgeUnderTest, tmp_path: Path
) -> None:
    """Another producer's, with a time of its own at which it came in: an hour before Kafka had it, as of a mirror."""
    strict = tmp_path / "strict.toml"
    strict.write_text('[trade]\nfield = "gold"\n')
    event = valid(event_type="trade", player_id="p", game_id="g", data={"gold": "five"})
    event["ingested_at"] = now(timedelta(hours=-1))
    own = partition_of(b"p", len(log_ends(place)))
    place.produce([("p", encoded(player_id="p"))] * 3, partition=own)
    (old,) = place.produce([("p", json.dumps(event).encode())], partition=own)
    consume_all(place, scoring_file=strict)
    redriven(place)
    consume_all(place)
    assert_told(edge, event, old, (old[0], old[1] + 1))


def test_one_whose_topic_forgot_it_is_still_counted(place: Place, edge: EdgeUnderTest) -> None:
    """By hand, as if the redriven record had passed out of the topic's retention and its dead letter's had not."""
    event: dict[str, Any] = {**EVENT, "event_id": str(uuid.uuid4())}
    consume_all(place)
    again = uncover(place, "events", event["timestamp"])
    old = place_of(edge.send(event))
    consume_all(place)
    with place.pg() as connection:
        connection.execute(again)
        connection.execute(
            "INSERT INTO events (event_id, event_type, player_id, game_id, event_timestamp, ingested_at, data)"
            " SELECT (v ->> 'event_id')::uuid, v ->> 'event_type', v ->> 'player_id', v ->> 'game_id',"
            " (v ->> 'timestamp')::timestamptz, (v ->> 'ingested_at')::timestamptz, v -> 'data'"
            " FROM (SELECT original_event::jsonb AS v FROM dlq_events) AS letters"
        )
    found = trail(edge, event["player_id"], event["event_id"])
    assert (found["fate"], found["hops"][0]["detail"]) == ("counted", "the record that was sent again was not found")
    found = trail(edge, event["player_id"], event["event_id"], after=f"{old[0]}:{old[1]}")
    assert found["fate"] == "dead_letter"


def test_one_that_was_sent_again_long_after_is_found_among_many(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """More records lie between than are read: it is looked for where its letter was marked, and where it counted."""
    monkeypatch.setattr(log, "_RECORDS", 800)  # half of them from the letter on, in chunks of 200
    event = valid(player_id="p", timestamp=EVENT["timestamp"], ingested_at=now(timedelta(hours=-1)))
    consume_all(place)
    again = uncover(place, "events", event["timestamp"])
    own = partition_of(b"p", len(log_ends(place)))
    producer = Producer({**place.stack.kafka.config(), "enable.idempotence": True})
    for value, age in ((event, timedelta(hours=1)), *((valid(), timedelta(minutes=30)) for _ in range(2_000))):
        moment = int((datetime.now(UTC) - age).timestamp() * 1000)
        producer.produce(place.topic, json.dumps(value).encode(), "p", own, timestamp=moment)
    assert producer.flush(60) == 0
    consume_all(place)
    with place.pg() as connection:
        connection.execute(again)
        connection.execute("UPDATE dlq_events SET created_at = created_at - interval '1 hour'")
    redriven(place)
    consume_all(place)
    for marked in ("redriven_at", "NULL"):
        with place.pg() as connection:
            connection.execute(f"UPDATE dlq_events SET redriven_at = {marked}".encode())
        summary = asyncio.run(summary_of(place, Asked("p", uuid.UUID(event["event_id"]))))
        assert f"Counted once, from {text((own, 2_001))}. It was a dead letter first" in summary


async def summary_of(place: Place, asked: Asked) -> str:
    database, valkey = Database(place.settings), Valkey(place.settings)
    await database.open()
    tracer = Tracer(place.settings, database, valkey.hash)
    try:
        return (await tracer.trace(asked, 30)).trail.summary
    finally:
        await tracer.close()
        await valkey.aclose()
        await database.close()
