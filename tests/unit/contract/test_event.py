"""The judge: every rule of the contract, by the field its refusal names."""

import uuid
from datetime import UTC, datetime

import pytest

from pipeline.contract.event import Origin, load_scoring, parse_edge, parse_record, parse_timestamp, record_id, score_of
from pipeline.errors import ConfigurationError, EventError
from tests.events import BAD, BAD_RECORDS, GOOD_BUT_RARE, Bad, encoded

SCORING = load_scoring()


def origin() -> Origin:
    return Origin(uuid.UUID(int=1), datetime.now(UTC))


@pytest.mark.parametrize("bad", BAD_RECORDS, ids=lambda bad: bad.name)
def test_a_bad_record_is_refused_naming_its_field(bad: Bad) -> None:
    with pytest.raises(EventError) as refused:
        parse_record(bad.value, origin(), SCORING)
    assert refused.value.field == bad.field


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_event_is_refused_at_the_edge_naming_its_field(bad: Bad) -> None:
    with pytest.raises(EventError) as refused:
        parse_edge(bad.value or b"", origin(), SCORING)
    assert refused.value.field == bad.field


@pytest.mark.parametrize("value", [value for _, value in GOOD_BUT_RARE], ids=[name for name, _ in GOOD_BUT_RARE])
def test_a_rare_but_valid_record_is_taken(value: bytes) -> None:
    assert parse_record(value, origin(), SCORING).player_id


def test_the_edge_refuses_an_unknown_field_which_a_record_may_have() -> None:
    value = encoded(platform="pc")
    assert parse_record(value, origin(), SCORING).event_type == "player_score"
    with pytest.raises(EventError) as refused:
        parse_edge(value, origin(), SCORING)
    assert refused.value.field == "platform"


def test_the_edge_refuses_an_event_id_without_a_timestamp() -> None:
    with pytest.raises(EventError) as refused:
        parse_edge(encoded(timestamp=None), origin(), SCORING)
    assert refused.value.field == "timestamp"


def test_what_a_record_does_not_carry_comes_from_its_origin() -> None:
    place = origin()
    event = parse_record(encoded(event_id=None, timestamp=None), place, SCORING)
    assert event.event_id == place.event_id
    assert event.timestamp == event.ingested_at == place.received_at


def test_data_is_kept_byte_for_byte() -> None:
    value = b'{"event_type":"login","player_id":"p","game_id":"g","data":{ "b":1.10, "a":[ ] }}'
    assert parse_record(value, origin(), SCORING).data == b'{ "b":1.10, "a":[ ] }'


def test_a_record_without_an_id_has_the_same_one_at_every_replay() -> None:
    assert record_id("t", 1, 2) == record_id("t", 1, 2)
    assert len({record_id("t", 1, 2), record_id("t", 2, 1), record_id("u", 1, 2), record_id("t", 12, 2)}) == 4


def test_times_are_cut_to_microseconds_in_utc() -> None:
    assert parse_timestamp("2026-01-15T12:30:00.1234569+02:00") == datetime(2026, 1, 15, 10, 30, 0, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    ("event_type", "data", "score"),
    [
        ("player_score", {"score": -3}, -3),
        ("quest_completed", {}, 10),
        ("quest_completed", {"reward_points": 7}, 7),
        ("achievement_unlocked", {}, 5),
        ("boss_defeated", {}, 50),
        ("login", {"score": 3}, None),
    ],
)
def test_scores_follow_the_table(event_type: str, data: dict[str, int], score: int | None) -> None:
    assert score_of(event_type, data, SCORING) == score


def test_a_scoring_table_that_is_none_is_refused_by_its_variable(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("scoring") / "scoring.toml"
    path.write_text("[player_score]\nfield = 3\n")
    with pytest.raises(ConfigurationError, match="SCORING_FILE"):
        load_scoring(path)
