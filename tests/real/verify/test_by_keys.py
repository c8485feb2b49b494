"""What the verifier reads of tables that were filled a moment ago, of which PostgreSQL has no statistics."""

from collections.abc import Callable
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.sinks.connection import connect
from pipeline.sinks.redis import RedisSink
from pipeline.verify.by_keys import go_by_keys
from pipeline.verify.redis import Hashes
from tests.place import Place
from tests.scans import rows_read

if TYPE_CHECKING:
    import psycopg

pytestmark = pytest.mark.real

PLAYERS, TYPES, PAGES = 50_000, 4, 3


@pytest.mark.parametrize(
    ("session", "by_page"), [(go_by_keys, True), (lambda _: None, False)], ids=["by keys", "as is"]
)
def test_a_page_of_players_is_read_by_its_keys(
    place: Place, session: Callable[["psycopg.Connection[Any]"], None], *, by_page: bool
) -> None:
    """As it is, a session adds all players up for each page: the test can fail."""
    with (
        place.pg() as watching,
        connect(place.settings, "test") as connection,
        closing(RedisSink(place.settings, place.group)) as sink,
    ):
        connection.execute("ALTER TABLE player_event_counts SET (autovacuum_enabled = off)")
        connection.execute(
            "INSERT INTO player_event_counts SELECT 'player-' || number %% %s, 'type-' || number / %s, 1, now()"
            " FROM generate_series(0, %s) AS number",
            (PLAYERS, PLAYERS, PLAYERS * TYPES - 1),
        )
        session(connection)
        read = rows_read(connection)
        hashes = Hashes(connection, sink.client)
        list(islice(hashes.suspects(set(), lambda *_: None), PAGES))
        rows = rows_read(connection) - read
        analysed = watching.execute("SELECT 1 FROM pg_stats WHERE tablename = 'player_event_counts'").fetchall()
    assert not analysed, "nothing was tried"
    assert (rows < 2 * hashes.compared * TYPES) == by_page, rows
