"""A PostgreSQL connection as the sinks use it: opened when needed, translated errors, nothing planned by surprise."""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pipeline import tls
from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.sinks import session, sqlstate
from pipeline.sinks.session import parameters, pin

_END_STANDING_COPIES: Final = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND state = 'active' AND wait_event = 'ClientRead'"
    " AND state_change < now() - make_interval(secs => %s)"
)

_BY_CODE: Final = {
    "28000": "DB_USER, DB_PASSWORD",  # no such role, one that may not log in, no line of pg_hba.conf for it
    "28P01": "DB_USER, DB_PASSWORD",
    "3D000": "DB_NAME",
    "55000": "DB_NAME",  # a database that takes no connections (datallowconn)
    "42501": "DB_USER, DB_NAME",  # the right to connect is missing
}
"""Which settings a refusal concerns that no waiting mends."""

_BY_TEXT: Final = (
    (re.compile(r"authentication failed|no pg_hba.conf entry|no password supplied"), "DB_USER, DB_PASSWORD"),
    (re.compile(r'FATAL:  database ".*" does not exist'), "DB_NAME"),
    # A pooler's own, under a code (08P01) that may as well be a fault of the wire's
    (re.compile(r"FATAL:  no such database"), "DB_NAME"),
    (re.compile(r"FATAL:  no such user"), "DB_USER, DB_PASSWORD"),
    (re.compile(r"FATAL:  unsupported startup parameter"), "DB_HOST"),
)
"""The same by what is said in English: libpq gives no SQLSTATE before a connection stands."""

_WANTS_CERTIFICATE: Final = re.compile(r"valid client certificate|certificate authentication failed")
_WRONG_FILE: Final = {
    "root certificate file": tls.POSTGRES.authority,
    "could not read certificate file": tls.POSTGRES.certificate,
    "private key file": f"{tls.POSTGRES.key}, {tls.POSTGRES.password}",
}


def connect(settings: Settings, application: str) -> psycopg.Connection:
    """Open a connection to the primary in autocommit mode, its session pinned and read back (`sinks.session`).

    Raises UnavailableError, RefusedError if it is turned away, and ConfigurationError if no session of ours can
    be. A server that vanished is noticed within half a minute; one that is only slow is waited for.
    """
    try:
        connection = psycopg.connect(**parameters(settings, application))
    except psycopg.Error as error:
        raise turned_away(error, settings) from error
    try:
        pin(connection, session.sinks())
    except psycopg.Error as error:
        connection.close()
        raise unavailable(error) from error
    except PipelineError:
        connection.close()
        raise
    return connection


class Held:
    """A connection that is opened when needed, and given up after whatever the server said to an operation on it.

    Given up whatever it was: an error tells where one is (at a server that is read only now, that lost the temporary
    tables, that was restored), and what comes next must begin at the server that the name means now.
    """

    def __init__(
        self, settings: Settings, application: str, prepare: Callable[[psycopg.Connection], None] | None = None
    ) -> None:
        self._settings = settings
        self._application = application
        self._prepare = prepare
        self._open: psycopg.Connection | None = None

    def close(self) -> None:
        """Close the connection; what it held is freed, a transaction rolled back."""
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextmanager
    def use(self) -> Iterator[psycopg.Connection]:
        """Give the connection. What psycopg raises comes out as `translated` raises it, and costs the connection."""
        try:
            with translated():
                yield self._connected()
        except UnavailableError as error:
            if isinstance(error.__cause__, psycopg.Error):
                self.close()
            raise

    def _connected(self) -> psycopg.Connection:
        if self._open is None or self._open.closed:
            connection = connect(self._settings, self._application)
            self._open = connection
            if self._prepare is not None:
                self._prepare(connection)
        return self._open


@contextmanager
def unblocking(connection: psycopg.Connection) -> Iterator[None]:
    """If a lock is not had within STANDSTILL_SECONDS, end the sessions that stand still in a COPY for as long.

    Raises psycopg.errors.LockNotAvailable all the same: the caller tries again.
    """
    try:
        yield
    except psycopg.errors.LockNotAvailable:
        connection.execute(_END_STANDING_COPIES, (session.STANDSTILL_SECONDS,))
        raise


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the driver raises as UnavailableError, and as RefusedError if a right is missing.

    All of it: which error a server in trouble gives (a missing table during a migration, a full disk, a deadlock, a
    restart) says little about whether it passes, and nothing may be dead-lettered or lost because a server is unwell.
    The two that do speak about a row, DataError and IntegrityError, are caught where rows are copied.
    """
    try:
        yield
    except psycopg.Error as error:
        raise unavailable(error) from error


def turned_away(error: psycopg.Error, settings: Settings) -> PipelineError:
    """Tell a refusal that no waiting mends: a RefusedError, for it may be mended while we run, and a start ends for it.

    By its text in English, and otherwise by its SQLSTATE, for which the server is asked again. libpq says of a
    certificate only that it does not do, so the server is asked over TLS. Blocks.
    """
    said = str(error).strip()
    if _WANTS_CERTIFICATE.search(said):
        return _lacking(said, session.certificates(settings))
    for text, names in _BY_TEXT:
        if text.search(said):
            return RefusedError(f"{names}: {said}")
    refusals = sqlstate.codes(said, make_conninfo(**session.address(settings), options="")) & _BY_CODE.keys()
    if refusals:
        return RefusedError(f"{_BY_CODE[min(refusals)]}: {said}")
    return (_tls_fault(said, settings) if session.speaks_tls(settings) else None) or unavailable(error)


def _lacking(said: str, files: tls.Files) -> RefusedError:
    """Tell why PostgreSQL was given no certificate: libpq passes over a file that is not there."""
    try:
        files.context()
    except ConfigurationError as wrong:
        return RefusedError(str(wrong))
    return RefusedError(f"{files.names.certificate}, {files.names.key}: PostgreSQL wants a certificate of ours: {said}")


def _tls_fault(said: str, settings: Settings) -> RefusedError | None:
    for refusal, name in _WRONG_FILE.items():
        if refusal in said:
            return RefusedError(f"{name}: {said}")
    if "server does not support SSL" in said:
        return RefusedError(f"{tls.POSTGRES.mode}: PostgreSQL speaks no TLS, and it must: {said}")
    files = session.certificates(settings)
    for host in settings.db_host.split(","):
        if fault := tls.fault(files, host, settings.db_port, tls.POSTGRES_GREETING):
            return RefusedError(fault)
    return None


def unavailable(error: psycopg.Error) -> UnavailableError:
    """Tell what became of a statement: refused for want of a right, or anything that may pass."""
    said = f"{type(error).__name__}: {str(error).strip()}"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return RefusedError(f"DB_USER: PostgreSQL denies the account a right: {said}")
    return UnavailableError(f"PostgreSQL: {said}")


def copy_in(connection: psycopg.Connection, target: sql.Composable, data: Iterable[bytes]) -> None:
    """Copy binary COPY data into a table, given with its columns if not all are meant."""
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary)").format(target)
    with connection.cursor().copy(statement) as copy:
        for piece in data:
            copy.write(piece)
