"""A wrong value stops the start, with the name of its variable and exit code 2."""

import os
import subprocess
import sys

import pytest
from pydantic import SecretStr

from pipeline.config import Settings, load_settings
from pipeline.errors import ConfigurationError
from pipeline.kafka.source import Assignment, Source
from tests.extremes import extremes, numeric


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BATCH_MAX_EVENTS", "0"),
        ("BATCH_MAX_BYTES", "12 MB"),
        ("BATCH_MAX_WAIT_MS", "-5"),
        ("DB_PORT", "five"),
        ("PORT", "70000"),
        ("LOG_LEVEL", "LOUD"),
        ("KAFKA_TOPIC", "a b"),
        ("KAFKA_SASL_MECHANISM", "MAGIC"),
        ("DLQ_HALT_RATIO", "2"),
        ("OUTBOX_KEEP_SECONDS", "1000000000000"),
        ("KAFKA_MAX_POLL_INTERVAL_MS", "6000"),  # less than the session's 8,000
    ],
)
def test_a_wrong_value_is_refused_by_its_name(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=rf"^{variable}: "):
        load_settings()


def test_every_number_has_a_bound_on_either_side() -> None:
    """Past it some server or client says no to what is made of it, and that would be waited for."""
    least, most = extremes()
    assert set(least) == set(most) == numeric()


def test_what_the_client_of_kafka_does_not_take_is_a_wrong_setting() -> None:
    settings = Settings(kafka_username="u", kafka_password=SecretStr("p"), kafka_max_poll_interval_ms=6_000)
    assignment = Assignment(lambda _: {}, lambda _: None)
    with pytest.raises(ConfigurationError, match=r"KAFKA_.*max\.poll\.interval\.ms"):
        Source(settings, "group", "service", assignment)
    with pytest.raises(ConfigurationError, match=r"KAFKA_USERNAME, KAFKA_PASSWORD: SASL_PLAINTEXT"):
        Source(Settings(), "group", "service", assignment)


def test_every_wrong_variable_is_named_at_once_and_no_value_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PORT", "hunter2")
    monkeypatch.setenv("REDIS_PORT", "0")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == ["DB_PORT", "REDIS_PORT"]
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("arguments", "variables", "said"),
    [
        (["consume"], {"BATCH_MAX_EVENTS": "0"}, "BATCH_MAX_EVENTS"),
        (["consume"], {"KAFKA_USERNAME": ""}, "KAFKA_USERNAME"),
        (["consume"], {"SCORING_FILE": "/nowhere/scoring.toml"}, "SCORING_FILE"),
        (["consume", "everything"], {}, "logger"),
    ],
)
def test_a_command_that_is_set_up_wrongly_exits_with_2(
    arguments: list[str], variables: dict[str, str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
