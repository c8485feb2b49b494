"""A wrong configuration stops the start and names the variable; a server that is away is waited for."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from pipeline.engine.consumer import EventConsumer
from pipeline.epoch.roles import ROLES
from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.operations.migrate import migrate
from pipeline.sinks import schema
from tests.consuming import consume_all, settings_of
from tests.edges import free_port
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def start(place: Place, **changes: Any) -> None:
    EventConsumer(settings_of(place, **changes), ROLES["all"]).run()


def test_a_wrong_kafka_password_is_an_authentication_that_failed(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"KAFKA_USERNAME, KAFKA_PASSWORD: authentication failed"):
        start(place, kafka_password=SecretStr("wrong"))


def test_a_missing_topic_is_named(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"KAFKA_TOPIC: 'test\.missing'"):
        start(place, kafka_topic="test.missing")


def test_a_topic_of_others_is_refused_by_the_account(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"KAFKA_(USERNAME|TOPIC)"):
        start(place, kafka_topic="payments")


def test_a_wrong_database_password_is_named(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"DB_USER, DB_PASSWORD"):
        start(place, db_password=SecretStr("wrong"))


def test_a_missing_database_is_named(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"DB_NAME: .*nowhere"):
        start(place, db_name="nowhere")


def test_a_wrong_redis_password_is_named(place: Place) -> None:
    with pytest.raises(ConfigurationError, match=r"REDIS_PASSWORD"):
        start(place, redis_password=SecretStr("wrong"))


def test_an_evicting_redis_is_refused(place: Place) -> None:
    with place.redis() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            with pytest.raises(ConfigurationError, match=r"maxmemory-policy is allkeys-lru"):
                start(place)
        finally:
            redis.config_set("maxmemory-policy", "noeviction")


def test_a_schema_that_is_behind_or_ahead_is_refused(place: Place) -> None:
    with place.pg() as connection:
        connection.execute("INSERT INTO schema_migrations (version, name) VALUES (9999, 'future')")
        with pytest.raises(ConfigurationError, match=r"DB_NAME: the schema of .* is ahead: it has 9999"):
            start(place)
        connection.execute("DELETE FROM schema_migrations WHERE version IN (1, 9999)")
        with pytest.raises(ConfigurationError, match=r"is behind: it lacks 0001; run gamemetrics migrate"):
            start(place)


def test_a_migration_that_fails_half_way_is_undone_and_named(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for migration in schema.known_migrations():
        (tmp_path / migration.path.name).write_bytes(migration.path.read_bytes())
    (tmp_path / "9998_good.sql").write_text("CREATE TABLE first_step ();")
    broken = tmp_path / "9999_broken.sql"
    broken.write_text("CREATE TABLE half_a_step ();\nSELECT no_such_function();")
    monkeypatch.setattr(schema, "MIGRATIONS", tmp_path)
    with pytest.raises(UnavailableError, match=r"9999_broken\.sql was undone: function no_such_function\(\) does not"):
        migrate(place.settings)
    with place.pg() as connection:
        made = connection.execute("SELECT to_regclass('first_step')::text, to_regclass('half_a_step')::text")
        assert made.fetchone() == ("first_step", None)
    with pytest.raises(ConfigurationError, match=r"is behind: it lacks 9999"):
        start(place)
    broken.write_text("CREATE TABLE half_a_step ();")
    assert migrate(place.settings).applied == ["9999_broken"]


def test_a_database_that_is_away_at_the_start_is_waited_for(place: Place) -> None:
    place.produce([encoded()])
    place.stack.postgres.stop()
    try:
        done = subprocess.Popen(
            [sys.executable, "-m", "pipeline", "consume"],
            env=place.environment() | {"METRICS_PORT": str(free_port())},
            stderr=subprocess.PIPE,
            text=True,
        )
        assert done.stderr is not None
        line = next(line for line in done.stderr if "waiting" in line)
        assert "PostgreSQL" in line
    finally:
        place.stack.postgres.start()
    done.terminate()
    done.communicate(timeout=60)
    assert done.returncode == 0
    consume_all(place)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_consumers_columns_are_one_thread_and_their_memory_needs_none(place: Place) -> None:
    """Both are settings of libraries that read them as they are loaded, so whatever loads them earlier undoes them."""
    place.produce([encoded()])
    consumer = subprocess.Popen(
        [sys.executable, "-m", "pipeline", "consume"], env=place.environment() | {"METRICS_PORT": str(free_port())}
    )
    try:
        with place.pg() as connection:
            eventually(lambda: connection.execute("SELECT count(*) = 1 FROM events").fetchone() == (True,), timeout=60)
        names = [name.read_text() for name in Path(f"/proc/{consumer.pid}/task").glob("*/comm")]
    finally:
        consumer.terminate()
        consumer.wait(60)
    assert sum(re.match(r"polars-\d", name) is not None for name in names) == 1, names
    assert not any(name.startswith("jemalloc") for name in names), names
