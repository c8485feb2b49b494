"""What statements have read, by PostgreSQL's own statistics."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg


def rows_read(connection: "psycopg.Connection[Any]", tables: str = "") -> int:
    """Count the rows that scans of tables have read, of those whose names match a regular expression."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    (row,) = connection.execute(
        "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables WHERE relname ~ %s", (tables,)
    ).fetchall()
    return int(row[0])
