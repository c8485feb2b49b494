"""A PostgreSQL connection as the sinks use it: opened when needed, translated errors, nothing planned by surprise."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from pipeline.config import Settings
from pipeline.errors import UnavailableError

# The pipeline joins a sorted batch to a keyed table, and must go through the key however little the planner knows of
# either; the other plans read the whole table. JIT costs more than any of these statements.
_PLANNER = "-c enable_hashjoin=off -c enable_mergejoin=off -c jit=off -c timezone=UTC"


def connect(settings: Settings, application: str) -> psycopg.Connection:
    """Open a connection in autocommit mode. Raises UnavailableError.

    Keepalives notice a vanished server within half a minute; a server that is only slow is waited for.
    """
    with translated():
        return psycopg.connect(
            host=settings.db_host,
            port=settings.db_port,
            dbname=settings.db_name,
            user=settings.db_user,
            password=settings.db_password.get_secret_value(),
            sslmode=settings.db_sslmode,
            application_name=application,
            options=_PLANNER,
            connect_timeout=5,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
            autocommit=True,
        )


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
        raise UnavailableError(f"PostgreSQL: {type(error).__name__}: {str(error).strip()}") from error
