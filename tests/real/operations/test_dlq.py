"""`gamemetrics dlq`: listed, shown, sent again under the identity they had, dropped."""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.operations.migrate import migrate
from pipeline.verify.verify import verify
from tests.commanding import gamemetrics, told
from tests.consuming import caught_up, consume_all, consuming
from tests.events import encoded
from tests.letters import write_letter
from tests.place import Place
from tests.topics import limit_messages

if TYPE_CHECKING:
    from pipeline.epoch.roles import RoleName

pytestmark = pytest.mark.real

ANONYMOUS = b'{"event_type":"trade","player_id":"player-1","game_id":"game-1","data":{"gold":"five"}} '


def strict(directory: Path) -> Path:
    """A scoring table under which ANONYMOUS is bad: `trade` scores `gold`, an integer."""
    file = directory / "strict.toml"
    file.write_text('[trade]\nfield = "gold"\n')
    return file


def lenient(directory: Path) -> Path:
    """The same table once mended: `trade` does not score."""
    file = directory / "lenient.toml"
    file.write_text('[player_score]\nfield = "score"\n')
    return file


def test_dead_letters_are_listed_newest_first_and_shown_in_full(place: Place) -> None:
    place.produce([("k", b"\x1b[2Jnot JSON"), ("k", b"\xff\xfe"), ("k", None), ("k", encoded(game_id=None))])
    consume_all(place)
    code, listed = told(place, "dlq", "list")
    assert (code, listed["total"]) == (0, 4)
    ids = [letter["id"] for letter in listed["letters"]]
    assert ids == sorted(ids, reverse=True)
    code, some = told(place, "dlq", "list", "--reason-contains", "tombstone", "--since", "1h")
    assert [letter["record_value"] for letter in some["letters"]] == [None]
    assert told(place, "dlq", "list", "--service", "event-consumer-stats")[1]["total"] == 0
    assert told(place, "dlq", "list", "--code", "invalid")[1]["total"] == 4
    assert told(place, "dlq", "list", "--code", "internal")[1]["total"] == 0
    assert {letter["code"] for letter in listed["letters"]} == {"invalid"}
    assert told(place, "dlq", "list", "--since", "2100-01-01T00:00:00Z")[1]["total"] == 0
    assert len(told(place, "dlq", "list", "--limit", "1")[1]["letters"]) == 1
    reasons = gamemetrics(place, "dlq", "list").stdout
    assert "game_id: required" in reasons
    assert reasons.endswith("4 of 4 dead letters\n")
    by_value = {letter["record_value"]: letter for letter in listed["letters"]}
    shown = gamemetrics(place, "dlq", "show", str(by_value["\x1b[2Jnot JSON"]["id"]))
    assert "record_value     \\x1b[2Jnot JSON" in shown.stdout
    assert "code             invalid" in shown.stdout
    assert "\x1b" not in shown.stdout
    code, whole = told(place, "dlq", "show", str(by_value["hex:fffe"]["id"]))
    assert code == 0
    assert (whole["topic"], whole["consumer_service"], whole["record_key"], whole["state"]) == (
        place.topic, "event-consumer", "k", "open",
    )  # fmt: skip


def test_letters_from_before_there_were_codes_get_theirs(place: Place) -> None:
    sentences = {
        "player_id: required": "invalid",
        "PostgreSQL refused the event: out of range": "refused",
        "timestamp: no partition holds it; the ledger covers 2026-01-01 to 2026-02-01": "uncovered",
        "timestamp: required": "invalid",
    }
    with place.pg() as connection:
        connection.execute("ALTER TABLE dlq_events DROP COLUMN code")
        connection.execute("DELETE FROM schema_migrations WHERE name = 'dead_letter_codes'")
        for offset, sentence in enumerate(sentences):
            connection.execute(
                "INSERT INTO dlq_events (original_event, error_message, consumer_service, topic, partition,"
                " record_offset, record_timestamp) VALUES ('', %s, 'event-consumer', 't', 0, %s, now())",
                (sentence, offset),
            )
        assert [name.partition("_")[2] for name in migrate(place.settings).applied] == ["dead_letter_codes"]
        found = connection.execute("SELECT error_message, code FROM dlq_events").fetchall()
    assert dict(found) == sentences


def test_redriven_twice_a_mended_record_counts_once(place: Place, tmp_path: Path) -> None:
    place.produce([("player-1", ANONYMOUS)])
    consume_all(place, scoring_file=strict(tmp_path))
    (letter,) = told(place, "dlq", "list")[1]["letters"]
    assert "gold" in letter["error_message"]
    with consuming(place, scoring_file=lenient(tmp_path)):
        for _ in range(2):
            done = gamemetrics(place, "dlq", "redrive", str(letter["id"]))
            assert (done.returncode, done.stdout) == (0, "1 records sent to the topic again.\n")
        caught_up(place)
    with place.pg() as connection:
        rows = connection.execute("SELECT event_id::text, event_timestamp, data FROM events").fetchall()
        counts = connection.execute("SELECT player_id, events FROM player_event_counts").fetchall()
    assert len(rows) == 1
    assert rows[0][2] == {"gold": "five"}
    assert rows[0][1].isoformat() == letter["record_timestamp"]
    assert counts == [("player-1", 1)]
    (after,) = told(place, "dlq", "list")[1]["letters"]
    assert after["state"] == "redriven"


def test_what_is_still_bad_comes_back_as_a_new_dead_letter(place: Place) -> None:
    place.produce([("k", b"not JSON"), ("k", None)])
    consume_all(place)
    code, sent = told(place, "dlq", "redrive", "--all")
    assert (code, sent) == (0, {"redriven": 2})
    consume_all(place)
    assert told(place, "dlq", "list")[1]["total"] == 4
    _, left = told(place, "dlq", "list", "--open")
    assert [letter["record_value"] for letter in left["letters"]] == [None, "not JSON"]
    assert verify(place.settings, lambda _what, _done, _total: None).differences.kept == []


def test_a_record_that_three_consumers_refused_is_sent_once(place: Place) -> None:
    place.produce([("k", b"not JSON")])
    for role in ("logger", "stats", "leaderboard"):
        consume_all(place, role)
    assert told(place, "dlq", "list")[1]["total"] == 3
    assert told(place, "dlq", "redrive", "--all") == (0, {"redriven": 1})
    _, after = told(place, "dlq", "list")
    assert {letter["state"] for letter in after["letters"]} == {"redriven"}
    assert told(place, "dlq", "redrive", "--all") == (0, {"redriven": 0})


def test_records_of_one_place_in_a_topic_made_anew_are_each_sent_and_marked_alone(place: Place) -> None:
    """A topic that is created again gives its offsets out again; told by place, one was marked and never sent."""
    with place.pg() as connection:
        (old,) = write_letter(connection, place.topic, encoded(player_id="old"), first=6)
        (new,) = write_letter(connection, place.topic, encoded(player_id="new"), first=6)
        other = write_letter(connection, place.topic, encoded(player_id="older"), first=6)
    assert told(place, "dlq", "redrive", str(new)) == (0, {"redriven": 1})
    left = told(place, "dlq", "list", "--open")[1]["letters"]
    assert [letter["id"] for letter in left] == [*other, old]
    assert told(place, "dlq", "redrive", "--all") == (0, {"redriven": 2})
    assert told(place, "dlq", "list", "--open")[1]["total"] == 0
    consume_all(place)
    with place.pg() as connection:
        players = connection.execute("SELECT player_id FROM events ORDER BY 1").fetchall()
    assert players == [("new",), ("old",), ("older",)]


def test_the_identity_is_spliced_in_and_nothing_else_is_written_anew(place: Place, tmp_path: Path) -> None:
    odd = b'{"event_type":"trade", "player_id":"p","game_id":"g","data":{"gold":1.50,"big":123456789012345678901234}}\n'
    place.produce([("p", odd)])
    consume_all(place, scoring_file=strict(tmp_path))
    told(place, "dlq", "redrive", "--all")
    consume_all(place, scoring_file=strict(tmp_path))
    newest = told(place, "dlq", "list")[1]["letters"][0]["record_value"]
    added = orjson.loads(newest)
    assert (
        newest == odd.decode().rstrip()[:-1] + f',"event_id":"{added["event_id"]}","timestamp":"{added["timestamp"]}"}}'
    )


def test_dropped_letters_stay_and_are_not_redriven(place: Place) -> None:
    place.produce([("k", b"one"), ("k", b"two")], partition=0)
    consume_all(place)
    first = told(place, "dlq", "list")[1]["letters"][1]
    number = str(first["id"])
    asked = gamemetrics(place, "dlq", "drop", number)
    assert (asked.returncode, "--yes" in asked.stderr) == (2, True)
    assert told(place, "dlq", "drop", number, "--yes") == (0, {"dropped": 1})
    assert told(place, "dlq", "show", number)[1]["state"] == "dropped"
    refused = gamemetrics(place, "dlq", "redrive", number)
    assert (refused.returncode, "dropped" in refused.stderr) == (1, True)
    assert told(place, "dlq", "redrive", "--all", "--limit", "5") == (0, {"redriven": 1})


def test_what_is_not_there_or_not_meant_is_said(place: Place) -> None:
    for arguments, code, text in (
        (["show", "99"], 1, "dlq_events has no row 99"),
        (["drop", "99", "--yes"], 1, "dlq_events has no row 99"),
        (["redrive"], 2, "give ids, or --all"),
        (["redrive", "1", "--all"], 2, "give ids, or --all"),
        (["list", "--since", "yesterday"], 2, "must be an age"),
        (["list", "--code", "bad"], 2, "is not one of"),
    ):
        done = gamemetrics(place, "dlq", *arguments)
        assert done.returncode == code, arguments
        assert text in done.stderr.replace("\n", " "), arguments
    assert gamemetrics(place, "dlq", "list").stdout == "No dead letters.\n"


def test_records_whose_own_time_is_none_are_judged_shown_and_sent_again(place: Place) -> None:
    """Kafka takes any 64 bits for a time; as a date they raise, in Python, in polars and in PostgreSQL."""
    admit_the_future(place)
    times = [-(10**14), -(2**63) + 1, 1, 1_700_000_000, 10**15, 10**18, 2**63 - 1]
    timeless = encoded(event_id=None, timestamp=None)
    producer = Producer({**place.stack.kafka.config(), "enable.idempotence": True})
    for moment in times:
        for value in (timeless, encoded(player_id="timed")):
            producer.produce(place.topic, value, timestamp=moment)
    assert producer.flush(30) == 0
    roles: list[RoleName] = ["logger", "stats"]
    for role in roles:
        consume_all(place, role)
    with place.pg() as connection:
        (counted,) = connection.execute("SELECT count(*), count(DISTINCT player_id) FROM events").fetchall()
    assert counted == (len(times), 1), "those with a time of their own"
    code, listed = told(place, "dlq", "list", "--service", "event-consumer-logger")
    assert (code, listed["total"]) == (0, len(times))
    assert {letter["error_message"] for letter in listed["letters"]} == {
        "timestamp: required, for the record's own time is out of range"
    }
    assert gamemetrics(place, "dlq", "show", str(listed["letters"][0]["id"])).returncode == 0
    assert told(place, "verify")[0] == 0
    for service in ("event-consumer-logger", "event-consumer-stats"):  # either's letters are of the same events
        ids = [str(letter["id"]) for letter in told(place, "dlq", "list", "--service", service)[1]["letters"]]
        assert told(place, "dlq", "redrive", *ids) == (0, {"redriven": len(times)})
    for role in roles:
        consume_all(place, role)
    with place.pg() as connection:
        totals = connection.execute("SELECT player_id, total_events FROM player_statistics ORDER BY 1").fetchall()
        met = "event_timestamp IN (SELECT created_at FROM dlq_events)"
        (then,) = connection.execute(f"SELECT count(*) FROM events WHERE player_id = 'player-1' AND {met}").fetchall()
    assert totals == [("player-1", len(times)), ("timed", len(times))]
    assert then == (len(times),), "the time at which each was first met"
    assert told(place, "verify")[0] == 0


def admit_the_future(place: Place) -> None:
    """Let producers date records far ahead, as brokers did by default before Kafka 4."""
    resource = ConfigResource(ConfigResource.Type.TOPIC, place.topic)
    name = "message.timestamp.after.max.ms"
    resource.add_incremental_config(ConfigEntry(name, str(2**63 - 1), incremental_operation=AlterConfigOpType.SET))
    admin = AdminClient(place.stack.kafka.admin_config())
    for done in admin.incremental_alter_configs([resource]).values():
        done.result()


LARGE = 900_000


def test_what_is_longer_than_an_event_is_kept_in_part_and_never_sent_again(place: Place, tmp_path: Path) -> None:
    """Forty dead letters of a megabyte; a redrive of them held up those behind them, and never came to its end."""
    place.produce([("k" * 300_000, b"x" * 600_000), *[("k", b"\xff" * LARGE)] * 40, ("k", ANONYMOUS)])
    consume_all(place, scoring_file=strict(tmp_path))
    with place.pg() as connection:
        kept = connection.execute(
            "SELECT max(octet_length(record_value)), max(octet_length(record_key)), max(octet_length(original_event)),"
            " bool_and(error_message LIKE '%%00000 bytes%%') FROM dlq_events WHERE octet_length(record_value) > 1000"
        ).fetchone()
    assert kept is not None
    assert (kept[0], kept[1], kept[3]) == (MAX_EVENT_BYTES + 1, MAX_EVENT_BYTES + 1, True)
    assert kept[2] < 16_384
    ids = [str(letter["id"]) for letter in told(place, "dlq", "list", "--limit", "100")[1]["letters"]]
    assert told(place, "dlq", "redrive", "--all") == (0, {"redriven": 1, "unfit": 41})
    assert told(place, "dlq", "redrive", *ids) == (0, {"redriven": 1, "unfit": 41})
    assert "41 are larger than an event" in gamemetrics(place, "dlq", "redrive", *ids).stdout
    consume_all(place)
    assert told(place, "dlq", "list", "--open")[1]["total"] == 41, "none of them came back"
    assert told(place, "dlq", "drop", *ids, "--yes")[0] == 0


def test_letters_from_before_are_read_by_bytes_and_those_too_large_for_the_topic_hold_up_none(place: Place) -> None:
    limit_messages(place, 20_000)
    with place.pg() as connection:
        for number in range(60):
            size = (1_500_000, 40_000, 9_000)[number % 3]
            value = encoded(player_id=f"p{number}", data={"score": 1, "x": secrets.token_hex(size // 2)})
            connection.execute(
                "INSERT INTO dlq_events (original_event, error_message, consumer_service, topic, partition,"
                " record_offset, record_timestamp, record_key, record_value)"
                " VALUES ('', '', 'event-consumer', %s, 0, %s, now(), 'k', %s)",
                (place.topic, number, value),
            )
    assert told(place, "dlq", "redrive", "--all") == (0, {"redriven": 20, "unfit": 40})
    consume_all(place)
    with place.pg() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (20,)
