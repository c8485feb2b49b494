"""How the verifier's sessions look rows up: by the key of each table, whatever PostgreSQL knows of it."""

from typing import Final

import psycopg

_SETTINGS: Final = (
    # Every table that is read has the key that it is read by, and is read by little of it at a time.
    "SET enable_seqscan = off",
    # Nor by the ranges of times, nor by a key in the order of pages. Of tables that were filled a moment ago PostgreSQL
    # has no statistics and takes them for some rows: it went through a day for each record of a piece (minutes, for one
    # of 60,000), and added up all players for each page of them (776 ms for 6).
    "SET enable_bitmapscan = off",
)


def go_by_keys(connection: psycopg.Connection) -> None:
    """Have a session do so."""
    for statement in _SETTINGS:
        connection.execute(statement)
