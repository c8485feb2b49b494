"""Refused events: what is kept of one whatever its bytes are, of a flood of them, and who may read it."""

import asyncio
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.api.access.keyring import Caller
from pipeline.api.http.replies import Refusal
from pipeline.api.refusals.masks import MAX_BYTES, Note, masked
from pipeline.api.refusals.refusals import A_KEY, ALL_KEYS, MAX_KEPT_BYTES, MAX_RAW_BYTES, Recent, Refusals
from pipeline.api.refusals.shared import Holder, SharedRefusals, holder_of, may_see
from pipeline.api.schemas import RefusedEvent
from pipeline.api.valkey import Valkey
from pipeline.config import Settings
from pipeline.contract.event import MAX_EVENT_BYTES
from pipeline.contract.refusals import KEPT_OF_A_HOLDER
from tests.texts import members, near_values

KEY = Caller("game-server", frozenset({"write"}), frozenset({"g"}))
NOW = 1_768_473_000_000
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
ANY_TEXT = st.text(st.characters())
ANYTHING = st.recursive(
    st.one_of(ANY_TEXT, st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(ANY_TEXT, inner, max_size=4)),
)
_fields = st.sampled_from(["event_type", "player_id", "game_id", "event_id", "timestamp", "data", "colour"])


def kept(raw: bytes, reason: str = "player_id: required", field: str = "player_id", caller: Caller = KEY) -> Any:
    written = masked(Note(caller, NOW, reason, field, raw))
    assert len(written) <= MAX_BYTES
    return msgspec.to_builtins(msgspec.json.decode(written, type=RefusedEvent))


def test_what_is_kept_of_an_event() -> None:
    event = {
        "event_type": "purchase",
        "player_id": 4711,
        "game_id": "g",
        "event_id": "550e8400-e29b-41d4-a716-446655440000",
        "timestamp": "2024-01-15T10:35:00Z",
        "data": {"mail": "zoë@example.com", "price": 1.5, "paid": True, "note": None, "items": [1, 2, 3],
                 "address": {"street": "Sommerallee 5", "geo": {"lat": 52.5, "deeper": {"still": {"x": 1}}}}},
    }  # fmt: skip
    assert kept(json.dumps(event).encode(), "player_id: must be a string, not a number") == {
        "at": "2026-01-15T10:30:00.000000Z",
        "key": "game-server",
        "reason": "player_id: must be a string, not a number",
        "field": "player_id",
        "event_type": "purchase",
        "player_id": "4711",
        "event_id": "550e8400-e29b-41d4-a716-446655440000",
        "game_id": "g",
        "data": {"mail": "string(15)", "price": "number", "paid": "boolean", "note": "null", "items": "array(3)",
                 "address": {"street": "string(13)", "geo": {"lat": "number", "deeper": {"still": "object(1)"}}}},
    }  # fmt: skip


@pytest.mark.parametrize("raw", [b"", b"nonsense", b"[1]", b'"text"', b"null", b"{", b"[" * 60_000, b"\xff\xfe", b"\0"])
def test_of_what_is_no_event_the_reason_is_kept(raw: bytes) -> None:
    found = kept(raw)
    assert (found["reason"], found["key"]) == ("player_id: required", "game-server")
    assert {found[name] for name in ("event_type", "player_id", "event_id", "game_id", "data")} == {None}


@patient
@given(st.binary(max_size=200))
def test_any_bytes_are_taken(raw: bytes) -> None:
    assert kept(raw)["key"] == "game-server"


@patient
@given(members(_fields.map('"{}"'.format), near_values), ANY_TEXT, ANY_TEXT, ANY_TEXT)
def test_any_json_in_any_spelling_is_taken(text: str, reason: str, field: str, name: str) -> None:
    kept(text.encode("utf-8", "replace"), reason, field, Caller(name, frozenset(), frozenset({name})))
    assert holder_of(Caller(name, frozenset(), frozenset({name}))).text


@patient
@given(st.dictionaries(_fields, ANYTHING))
def test_it_is_bounded_and_its_names_are_the_contracts(event: dict[str, Any]) -> None:
    found = kept(json.dumps(event).encode("utf-8", "replace"))
    assert set(found) == set(RefusedEvent.__struct_fields__)


@pytest.mark.parametrize("text", ["\x01" * 255, "\U0010ffff" * 255, "\u2028" * 255, '"' * 255, "\\" * 255])
def test_the_longest_of_everything_is_bounded(text: str) -> None:
    data = {f"{number}{text}": text for number in range(5)}
    event = {"event_type": text, "player_id": text, "event_id": text, "game_id": text, "data": {"a": data, "b": data}}
    found = kept(json.dumps(event, ensure_ascii=False).encode(), text, text, Caller(text, frozenset()))
    assert found["data"] == "object(2)"
    assert text.startswith(found["player_id"])


@patient
@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=5), min_size=1, max_size=5))
def test_no_value_of_data_is_kept(values: list[str]) -> None:
    secret = [f"§{value}§" for value in values]
    data = {"a": secret[0], "b": secret, "c": {"d": secret[-1], "e": [{"f": secret[0]}]}}
    written = masked(Note(KEY, NOW, "no", "", json.dumps({"data": data}).encode()))
    assert "§".encode() not in written
    assert b"\\u00a7" not in written
    assert set(json.loads(written)["data"]) == set(data)


@pytest.mark.parametrize("milliseconds", [-(2**63), -1, 0, 2**63 - 1])
def test_a_clock_that_is_wrong_is_no_fault(milliseconds: int) -> None:
    assert json.loads(masked(Note(KEY, milliseconds, "no", "", b"")))["at"]


GAMES = st.frozensets(st.sampled_from("abc"), min_size=1) | st.none()


@patient
@given(GAMES, GAMES)
def test_a_key_sees_what_keys_sent_that_may_touch_nothing_that_it_may_not(
    mine: frozenset[str] | None, theirs: frozenset[str] | None
) -> None:
    everything = frozenset("abcdef")
    allowed = (theirs or everything) <= (mine or everything)
    reader, writer = Caller("reader", frozenset({"read"}), mine), Caller("writer", KEY.scopes, theirs)
    assert may_see(reader, holder_of(writer)) == allowed
    own = Caller("own", frozenset({"read", "write"}), mine)
    assert may_see(own, holder_of(own))


def test_a_name_alone_opens_nothing() -> None:
    assert not may_see(Caller("again", KEY.scopes, frozenset({"b"})), Holder("again", ("a",)))


async def _nowhere() -> Refusals:
    """Refusals whose Redis nobody finds."""
    return Refusals(SharedRefusals(Valkey(Settings(redis_host="127.0.0.1", redis_port=1))))


def test_a_flood_of_one_key_is_kept_in_part_and_leaves_room_for_another() -> None:
    async def scenario() -> None:
        refusals = await _nowhere()
        for _ in range(10_000):
            refusals.note(KEY, b"{}", "no", "")
        other = Caller("other", frozenset({"write"}))
        refusals.note(other, b"{}", "its own", "")
        assert refusals.passed_over == 10_000 - A_KEY
        await refusals.flush()
        found, source = await refusals.newest(Caller("operator", frozenset()), None, 500)
        assert (len(found), source) == (A_KEY + 1, "memory")
        assert refusals.unshared == A_KEY + 1
        assert [one.reason for one in await _seen(refusals, other)] == ["its own"] + ["no"] * A_KEY
        assert len(await _seen(refusals, KEY)) == A_KEY
        for number in range(3):
            for _ in range(ALL_KEYS):
                refusals.note(Caller(f"many-{number}", KEY.scopes), b"{}", "no", "")
        await refusals.flush()
        assert len((await refusals.newest(Caller("operator", frozenset()), None, 500))[0]) == ALL_KEYS

    asyncio.run(scenario())


async def _seen(refusals: Refusals, reader: Caller) -> list[RefusedEvent]:
    return sorted((await refusals.newest(reader, None, 500))[0], key=lambda one: one.reason)


def test_bytes_that_wait_are_bounded_too() -> None:
    async def scenario() -> None:
        refusals = await _nowhere()
        size = MAX_EVENT_BYTES
        for _ in range(A_KEY):
            refusals.note(KEY, bytes(size), "no", "")
        assert refusals.passed_over == A_KEY - MAX_RAW_BYTES // size
        refusals.note(KEY, bytes(size + 1), "too long to be an event: none of its bytes wait", "")
        assert refusals.passed_over == A_KEY - MAX_RAW_BYTES // size

    asyncio.run(scenario())


def test_what_was_spent_comes_back() -> None:
    async def scenario() -> None:
        refusals = await _nowhere()
        for _ in range(A_KEY + 1):
            refusals.note(KEY, b"", "no", "")
        assert refusals.passed_over == 1
        keeping = asyncio.ensure_future(refusals.keep())
        deadline = time.monotonic() + 30
        while refusals.passed_over and time.monotonic() < deadline:
            refusals.passed_over = 0
            refusals.note(KEY, b"", "no", "")
            await asyncio.wait([keeping], timeout=0.1)
        keeping.cancel()
        assert refusals.passed_over == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("status", "kept_of_it"), [(400, 1), (403, 1), (413, 1), (415, 1), (401, 0), (408, 0), (429, 0), (503, 0)]
)
def test_what_is_noted_is_what_a_request_holds(status: int, kept_of_it: int) -> None:
    async def scenario() -> None:
        refusals = await _nowhere()
        refusals.note_refusal(KEY, b"", Refusal(status, "data: no", field="data"))
        await refusals.flush()
        assert len(await _seen(refusals, KEY)) == kept_of_it

    asyncio.run(scenario())


@patient
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, MAX_BYTES)), max_size=200))
def test_a_replica_keeps_so_many_bytes(sizes: list[tuple[int, int]]) -> None:
    recent = Recent()
    for number, size in sizes * 30:
        recent.add(Holder(f"k{number}", None), bytes(size))
        assert len(recent) <= MAX_KEPT_BYTES
    lengths = [len(one) for one in recent._kept.values()]  # noqa: SLF001 - it is what is bounded
    assert max(lengths, default=0) <= KEPT_OF_A_HOLDER
    assert len(recent) == sum(len(text) for one in recent._kept.values() for text in one)  # noqa: SLF001


def test_a_replica_that_has_too_much_lets_go_of_who_has_the_most() -> None:
    recent = Recent()
    recent.add(Holder("quiet", None), bytes(10))
    for number in range(6 * KEPT_OF_A_HOLDER):
        recent.add(Holder(f"k{number % 6}", None), bytes(MAX_BYTES))
    assert MAX_KEPT_BYTES - MAX_BYTES < len(recent) <= MAX_KEPT_BYTES
    assert Holder("quiet", None) in recent._kept  # noqa: SLF001
