"""Whatever the judge accepts, jsonb accepts: PostgreSQL reads also the keys and values it does not keep."""

import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.contract.event import Origin, load_scoring, parse_record
from pipeline.errors import EventError
from tests.events import BAD_RECORDS, GOOD_BUT_RARE, with_data
from tests.hostile import HOSTILE
from tests.place import Place
from tests.texts import near_objects

pytestmark = pytest.mark.real

SCORING = load_scoring()
zeros = st.integers(0, 3).map("0".__mul__)
exponents = st.sampled_from([0, 5, 308, 309, 400, 9_999, 16_382, 16_383, 16_384, 999_999_999, 2**30, 2**31, 10**10])
fractions = st.just("") | st.builds(
    lambda digit, size: "." + digit * size, st.sampled_from("01"), st.sampled_from([1, 2, 9, 16_382, 16_383, 16_384])
)
extremes = st.builds(
    "{}{}{}{}{}".format,
    st.sampled_from(["0", "-0", "1", "-7"]),
    fractions,
    st.sampled_from(["e", "E", "e-", "E-", "e+"]),
    zeros,
    exponents,
) | st.builds("{}{}".format, st.sampled_from(["0", "-1"]), fractions)
escapes = st.lists(
    st.sampled_from(
        [r"\u0000", r"\\", r"\"", r"\ud83c", r"\udfae", r"\u00e4", "u0000", "0e9999999999", "a", "[", "\0"]
    ),
    max_size=5,
).map(lambda parts: f'"{"".join(parts)}"')
values = st.recursive(
    extremes | escapes | st.sampled_from(["1", "null", "true"]) | near_objects,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda found: f"[{','.join(found)}]")
        | st.lists(st.tuples(st.sampled_from(['"a"', r'"\u0061"']) | escapes, inner), max_size=3).map(
            lambda found: "{" + ",".join(f"{key}:{value}" for key, value in found) + "}"
        )
    ),
    max_leaves=8,
)
repeated = st.lists(values, min_size=1, max_size=3).map(
    lambda found: "{" + ",".join(f'"a":{one}' for one in found) + "}"
)


def test_what_the_judge_accepts_jsonb_accepts(place: Place) -> None:
    accepted = 0
    origin = Origin(uuid.UUID(int=1), datetime.now(UTC))

    with place.pg() as connection:

        def judged(value: bytes | None) -> bool:
            try:
                data = parse_record(value, origin, SCORING).data
            except EventError:
                return False
            try:
                connection.execute("SELECT length(%s::jsonb::text)", (data.decode(),))
            except psycopg.Error as error:
                raise AssertionError(f"{data[:200]!r}: {error}") from error
            return True

        assert all(judged(value) for _, value in GOOD_BUT_RARE)
        assert all(judged(param.values[0]) for param in HOSTILE)  # type: ignore[arg-type]
        assert not any(judged(bad.value) for bad in BAD_RECORDS)

        @given(repeated | near_objects)
        @settings(max_examples=1_500, deadline=None, database=None)
        @example(r'{"a":"\u0000","a":1}')
        @example('{"a":0e9999999999,"a":1}')
        @example('{"a":' + "[" * 460 + "]" * 460 + ',"a":1}')
        def search(data: str) -> None:
            nonlocal accepted
            accepted += judged(with_data(data))

        search()
    assert accepted > 100
