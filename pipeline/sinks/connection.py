"""A PostgreSQL connection as the sinks use it: opened when needed, translated errors, nothing planned by surprise."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import psycopg
from psycopg import sql

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, UnavailableError

# The pipeline joins a sorted batch to a keyed table, and must go through the key however little the planner knows of
# either; the other plans read the whole table.
_PLANNER: Final = "-c enable_hashjoin=off -c enable_mergejoin=off"
STANDSTILL_SECONDS: Final = 60
"""How long a frozen consumer may keep its peers from the rows and locks that it holds."""

# The server notices a vanished host itself (its own default is two hours), and ends a transaction that stands still. It
# cannot end one that stands still in the middle of a COPY, for it waits for the client there: `unblocking` does that.
_STANDSTILL: Final = (
    " -c idle_in_transaction_session_timeout={0}s -c lock_timeout={0}s"
    " -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3"
)
_END_STANDING_COPIES: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND state = 'active' AND wait_event = 'ClientRead'"
    " AND state_change < now() - make_interval(secs => %s)"
)

_CONNECT_SECONDS: Final = 5
_WRONG_ACCOUNT: Final = ("authentication failed", "no pg_hba.conf entry", "no password supplied")
_WRONG_DATABASE: Final = re.compile(r'FATAL:  (database|role) ".*" does not exist')


def address(settings: Settings) -> dict[str, Any]:
    """Return the parameters of libpq that every connection shares: where, and as whom."""
    return {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.db_user,
        "password": settings.db_password.get_secret_value(),
        "sslmode": settings.db_sslmode,
    }


def parameters(settings: Settings, application: str, options: str, connect_seconds: int) -> dict[str, Any]:
    """Return what a connection is made with, in autocommit mode; `options` are the server's, as `-c name=value`.

    Keepalives notice a vanished server within half a minute; a server that is only slow is waited for.
    """
    return {
        **address(settings),
        "application_name": application,
        "options": f"-c timezone=UTC -c jit=off {options}",
        "connect_timeout": connect_seconds,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "autocommit": True,
    }


def connect(settings: Settings, application: str) -> psycopg.Connection:
    """Open a connection in autocommit mode. Raises UnavailableError, and ConfigurationError where it is turned away."""
    options = _PLANNER + _STANDSTILL.format(STANDSTILL_SECONDS)
    try:
        return psycopg.connect(**parameters(settings, application, options, _CONNECT_SECONDS))
    except psycopg.Error as error:
        raise _turned_away(error) from error


@contextmanager
def unblocking(connection: psycopg.Connection) -> Iterator[None]:
    """Where a lock is not had within STANDSTILL_SECONDS, end the sessions that stand still in a COPY for as long.

    Raises psycopg.errors.LockNotAvailable all the same: the caller tries again.
    """
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        connection.execute(_END_STANDING_COPIES, (STANDSTILL_SECONDS,))
        raise


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as UnavailableError.

    All of it: which error a server in trouble gives (a missing table during a migration, a full disk, a deadlock, a
    restart) says little about whether it passes, and nothing may be dead-lettered or lost because a server is unwell.
    The two that do speak about a row, DataError and IntegrityError, are caught where rows are copied.
    """
    try:
        yield
    except psycopg.Error as error:
        raise _unavailable(error) from error


def _turned_away(error: psycopg.Error) -> PipelineError:
    """Tell a refusal that no waiting mends; libpq gives no SQLSTATE before a connection stands, so by its text."""
    said = str(error)
    if any(refusal in said for refusal in _WRONG_ACCOUNT):
        return ConfigurationError(f"DB_USER, DB_PASSWORD: {said.strip()}")
    if _WRONG_DATABASE.search(said):
        return ConfigurationError(f"DB_NAME: {said.strip()}")
    return _unavailable(error)


def _unavailable(error: psycopg.Error) -> UnavailableError:
    return UnavailableError(f"PostgreSQL: {type(error).__name__}: {str(error).strip()}")


def copy_in(connection: psycopg.Connection, target: sql.Composable, data: Iterable[bytes]) -> None:
    """Copy binary COPY data into a table, given with its columns where not all are meant."""
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(target)
    with connection.cursor().copy(statement) as copy:
        for piece in data:
            copy.write(piece)
