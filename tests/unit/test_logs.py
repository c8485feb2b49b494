"""What is logged: each thing once in a while, however often a client of Kafka says it."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import logs
from pipeline.logs import Seldom, librdkafka
from tests.texts import texts

REFUSED = (
    "ssl://broker:9093/bootstrap: Connect to ipv4#127.0.0.1:9093 failed: Connection refused (after {}ms in CONNECT)"
)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_same_with_another_time_is_no_news(first: int, second: int) -> None:
    seldom = Seldom()
    assert seldom(REFUSED.format(first, ""))
    assert not seldom(REFUSED.format(second, ""))
    assert not seldom(REFUSED.format(second, f", {first} identical error(s) suppressed"))
    assert seldom(REFUSED.replace("9093", "9094").format(first, "")), "another broker is another matter"


@given(st.lists(texts, unique=True, max_size=20))
def test_texts_that_differ_are_all_said(said: list[str]) -> None:
    seldom = Seldom()
    assert all(seldom(f"{number:b}: {text}") for number, text in enumerate(said))


def test_it_is_said_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    seldom, now = Seldom(), [100.0]
    monkeypatch.setattr(logs, "monotonic", lambda: now[0])
    assert [seldom("away"), seldom("away")] == [True, False]
    now[0] += logs.AGAIN_SECONDS
    assert [seldom("away"), seldom("away")] == [True, False]


def test_what_is_remembered_is_bounded() -> None:
    seldom = Seldom()
    for number in range(10_000):
        assert seldom(f"broker-{number}: away")
    assert len(vars(seldom)["_said"]) <= 1_000


def test_the_clients_of_kafka_say_it_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "librdkafka")
    for time in range(50):
        librdkafka().error(REFUSED.format(time, "").replace("broker", "of-this-test"))
    assert len([record for record in caplog.records if "of-this-test" in record.getMessage()]) == 1
    assert len(librdkafka().filters) == 1
