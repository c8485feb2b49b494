"""What a PostgreSQL session must be like before a statement of ours runs in it: pinned, read back, refused by name.

Statements mean what the session's settings make of them, and those come from the server, the database, the role, the
client's environment or a pooler that dropped what was asked for. So nothing is asked for at the start-up (a pooler
refuses it, or ignores it without a word): all is set by a statement and read back by another.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, LiteralString

import psycopg

from pipeline import tls
from pipeline.config import Settings
from pipeline.errors import ConfigurationError, UnavailableError

STANDSTILL_SECONDS: Final = 60
"""How long a frozen consumer may keep its peers from the rows and locks that it holds."""

VANISHED_SECONDS: Final = 15
"""How long a server's host may leave data of ours unacknowledged before the connection is given up."""

MEANING: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    "TimeZone": "UTC",  # current_date, casts of dates, and the zone of what the driver returns
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",  # a dead letter's missing key travels in an array
    "transform_null_equals": "off",
    "row_security": "off",  # rows that a policy hides would be missing without a word; so it is an error
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "idle_session_timeout": "0",
    "client_min_messages": "warning",
}
"""On these the meaning of a statement depends, or whether it can end at all: a role's statement_timeout of some seconds
undoes each epoch for ever, and a transaction_timeout each refill. Not search_path: it says where the schema is."""

_SINKS: Final[Mapping[str, str]] = {
    # The pipeline joins a sorted batch to a keyed table, and must go through the key however little the planner knows
    # of either; the other plans read the whole table. JIT costs more than any of these statements.
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "jit": "off",
}

_WHERE_KNOWN: Final[Mapping[str, str]] = {
    "transaction_timeout": "0",  # of PostgreSQL 17
    # The server notices a vanished client (its own default is two hours). They read 0 on a Unix socket, and there is no
    # host to vanish behind one.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "60s",
}
"""Set if the server knows them, and not read back."""

_SET: Final = (
    "SELECT name, CASE WHEN current_setting(name, true) IS NOT NULL THEN set_config(name, value, false) END"
    " FROM unnest(%s::text[], %s::text[]) AS wanted(name, value)"
)
_READ: Final = (
    "SELECT current_setting('server_encoding'), pg_is_in_recovery(), current_database(),"
    " ARRAY(SELECT current_setting(name, true) FROM unnest(%s::text[]) WITH ORDINALITY AS pinned(name, place)"
    " ORDER BY place)"
)

Statement = tuple[LiteralString, Sequence[object]]
Rows = list[tuple[Any, ...]]


def sinks() -> dict[str, str]:
    """Return what the sinks' sessions are pinned to beside.

    The server ends a transaction that stands still. It cannot end one that stands still in the middle of a COPY, for it
    waits for the client there: `connection.unblocking` does that.
    """
    standstill = f"{STANDSTILL_SECONDS}s"
    return {**_SINKS, "idle_in_transaction_session_timeout": standstill, "lock_timeout": standstill}


def address(settings: Settings) -> dict[str, Any]:
    """Return the parameters of libpq that every connection shares: where, and as whom.

    Asked anew for each connection, for passwords and certificates change while we run.
    """
    files = certificates(settings)
    given = {
        "sslrootcert": files.authority,
        "sslcert": files.certificate,
        "sslkey": files.key,
        "sslpassword": files.password,
    }
    return {
        "host": settings.db_host,
        "port": settings.db_port,
        "dbname": settings.db_name,
        "user": settings.current("db_user"),
        "password": settings.current("db_password"),
        "sslmode": settings.db_sslmode,
        **{name: value for name, value in given.items() if value},
    }


def certificates(settings: Settings) -> tls.Files:
    """Return the files of TLS, and how far the server's certificate is looked at."""
    verified = settings.db_sslmode.startswith("verify") or (
        settings.db_sslmode == "require" and bool(settings.db_sslrootcert)
    )
    return settings.tls(tls.POSTGRES, verified=verified, named=settings.db_sslmode == "verify-full")


def speaks_tls(settings: Settings) -> bool:
    """Whether a connection without TLS is none for us."""
    return settings.db_sslmode.startswith(("verify", "require"))


def parameters(settings: Settings, application: str) -> dict[str, Any]:
    """Return what a connection is opened with: where, as whom, asking for a primary, and giving up a vanished host.

    `options` is empty so that PGOPTIONS does not slip in: a pooler refuses whatever stands there.
    """
    return {
        **address(settings),
        "application_name": application,
        "options": "",
        "target_session_attrs": "primary",
        "connect_timeout": 5,
        # Keepalives rest while data is unacknowledged; that is the other time-out's.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": VANISHED_SECONDS * 1000,
        "autocommit": True,
    }


def pinning(wanted: Mapping[str, str]) -> Generator[Statement, Rows, None]:
    """Yield the statements that make a new session ours, and be sent what each returned.

    Raises ConfigurationError naming what the session or the database cannot be, UnavailableError at a standby.
    """
    asked = {**MEANING, **wanted}
    every = {**_WHERE_KNOWN, **asked}
    # As the server prints them: "60s" comes back as "1min".
    spelled: dict[str, str] = dict((yield _SET, (list(every), list(every.values()))))
    rows = yield _READ, (list(asked),)
    encoding, standby, database, found = rows[0]
    if standby:
        raise UnavailableError("PostgreSQL: DB_HOST leads to a standby: it takes no writes, and its locks hold nobody")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"DB_NAME: the database {database!r} stores text in {encoding}, which does not hold every text. "
            f"Make one with ENCODING 'UTF8' TEMPLATE template0, and move the data by pg_dump"
        )
    for name, seen in zip(asked, found, strict=True):
        if seen != spelled[name]:
            raise ConfigurationError(
                f"DB_HOST, DB_USER: the session's {name} is {seen!r} and does not become {asked[name]!r}: something "
                f"between here and the server drops or shares settings (a pooler in transaction mode?)"
            )


def pin(connection: psycopg.Connection, wanted: Mapping[str, str]) -> None:
    """Set and verify a new session's settings. Raises as `pinning` does, and psycopg.Error."""
    steps, answer = pinning(wanted), None
    while (statement := _next(steps, answer)) is not None:
        answer = connection.execute(*statement).fetchall()
    _told(connection.info)


async def pin_async(connection: psycopg.AsyncConnection[tuple[Any, ...]], wanted: Mapping[str, str]) -> None:
    """Do the same on a connection of the edge."""
    steps, answer = pinning(wanted), None
    while (statement := _next(steps, answer)) is not None:
        answer = await (await connection.execute(*statement)).fetchall()
    _told(connection.info)


def _next(steps: Generator[Statement, Rows, None], answer: Rows | None) -> Statement | None:
    try:
        return next(steps) if answer is None else steps.send(answer)
    except StopIteration:
        return None


def _told(info: psycopg.ConnectionInfo) -> None:
    """Check what the driver was told of the session, by the server or a pooler: it reads times and text by that."""
    for name, value in (("TimeZone", "UTC"), ("client_encoding", "UTF8")):
        seen = info.parameter_status(name)
        if seen is not None and seen != value:
            raise ConfigurationError(
                f"DB_HOST: {name} was set to {value!r}, and a pooler tells the driver that it is {seen!r}: "
                f"connect without it"
            )
