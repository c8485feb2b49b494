"""The runbook "Restore PostgreSQL", done: base backup and archived WAL, to a moment; nothing is lost or doubled."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from pipeline.local.postgres import DATABASE, USER, Postgres
from pipeline.local.state import State
from pipeline.operations.migrate import migrate
from tests.commanding import gamemetrics
from tests.consuming import consume_all
from tests.events import encoded
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


class ArchivingPostgres:
    """A PostgreSQL of its own that archives its WAL, with what an operator does to it."""

    def __init__(self, directory: Path) -> None:
        self.state = State(directory / "servers")
        self.state.create()
        self.server = Postgres(self.state)
        self.archive, self.backup = directory / "archive", directory / "backup"
        self.archive.mkdir()
        self.archive.chmod(0o777)  # the server runs as another account where the tests run as root

    def start_archiving(self) -> None:
        self.server.start()
        with self.admin() as connection:
            connection.execute("ALTER SYSTEM SET archive_mode = on")
            # Renamed once it is whole: a server killed half-way through a copy would leave a torn segment.
            copy = f"cp %p {self.archive}/part && mv {self.archive}/part {self.archive}/%f"
            connection.execute(f"ALTER SYSTEM SET archive_command = '{copy}'".encode())
        self.server.stop()
        self.server.start()

    def admin(self) -> "psycopg.Connection[psycopg.rows.TupleRow]":
        return psycopg.connect(self.server.admin_dsn(), autocommit=True)

    def now(self) -> datetime:
        with self.admin() as connection:
            row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        moment = row[0]
        assert isinstance(moment, datetime)
        return moment

    def archive_all(self) -> None:
        """Close the WAL segment, and wait until it is in the archive."""
        with self.admin() as connection:
            row = connection.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert row is not None
        eventually((self.archive / row[0]).exists)

    def restore(self, moment: datetime) -> None:
        """Lose the server with its disk, and bring it back as it was at a moment."""
        self.server.kill()
        self.server.restore(self.backup)
        with (self.server.data / "postgresql.auto.conf").open("a", encoding="utf-8") as settings:
            settings.write(f"restore_command = 'cp {self.archive}/%f %p'\n")
            settings.write(f"recovery_target_time = '{moment.isoformat()}'\nrecovery_target_action = promote\n")
        signal = self.server.data / "recovery.signal"
        signal.touch()
        owner = self.server.data.stat()
        os.chown(signal, owner.st_uid, owner.st_gid)
        self.server.start()
        eventually(self._promoted)

    def _promoted(self) -> bool:
        with self.admin() as connection:
            return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


@pytest.fixture
def postgres() -> Iterator[ArchivingPostgres]:
    with tempfile.TemporaryDirectory(prefix="gamemetrics-restore-") as directory:
        Path(directory).chmod(0o711)
        postgres = ArchivingPostgres(Path(directory))
        postgres.start_archiving()
        try:
            yield postgres
        finally:
            postgres.server.wipe()
            shutil.rmtree(postgres.backup, ignore_errors=True)


def at(place: Place, postgres: ArchivingPostgres) -> tuple[Place, dict[str, str]]:
    """The place with this PostgreSQL in place of the shared one, and the environment for commands there."""
    password, port = postgres.state.secret("postgres"), postgres.server.port
    changes = {"db_port": port, "db_name": DATABASE, "db_user": USER, "db_password": SecretStr(password)}
    environment = {"DB_PORT": str(port), "DB_NAME": DATABASE, "DB_USER": USER, "DB_PASSWORD": password}
    return replace(place, settings=place.settings.model_copy(update=changes)), environment


def send(place: Place, first: int, count: int) -> None:
    place.produce(
        [(f"p{n % 7}", encoded(player_id=f"p{n % 7}", data={"score": n})) for n in range(first, first + count)]
    )


def count(place: Place) -> int:
    with place.pg() as connection:
        row = connection.execute("SELECT count(*) FROM events").fetchone()
    assert row is not None
    return int(row[0])


def test_a_restore_to_a_moment_loses_nothing_and_doubles_nothing(place: Place, postgres: ArchivingPostgres) -> None:
    place, environment = at(place, postgres)
    migrate(place.settings)
    send(place, 0, 300)
    consume_all(place)
    postgres.server.base_backup(postgres.backup)
    send(place, 300, 300)
    consume_all(place)
    moment = postgres.now()
    send(place, 600, 300)
    consume_all(place)
    assert count(place) == 900
    postgres.archive_all()

    postgres.restore(moment)
    assert count(place) == 600, "what came before the moment, the backup's and the archive's, and nothing after"
    assert gamemetrics(place, "migrate", "--check", **environment).returncode == 0

    consume_all(place)  # Redis is ahead of PostgreSQL now: it is refilled, and Kafka read from the restored watermark
    assert count(place) == 900
    assert gamemetrics(place, "lag", **environment).returncode == 0
    verified = gamemetrics(place, "verify", **environment)
    assert verified.returncode == 0, verified.stdout + verified.stderr
