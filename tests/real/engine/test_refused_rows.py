"""Rows that PostgreSQL refuses and the judge accepts: what they cost, and what becomes of their neighbours.

What the judge knows that PostgreSQL refuses it refuses itself; here the database is made stricter than it.
"""

from collections.abc import Iterable
from typing import Any

import polars as pl
import psycopg
import pytest

from pipeline.errors import HaltError
from pipeline.sinks import admission
from pipeline.sinks import connection as connection_module
from tests.chaos.truth import recount
from tests.consuming import consume_all
from tests.events import encoded
from tests.place import Place

pytestmark = pytest.mark.real

ONE_EPOCH: dict[str, Any] = {"batch_max_wait_ms": 3_000}

STRICTER = {
    "a constraint": "ALTER TABLE {} ADD CONSTRAINT no_bots CHECK (player_id !~ '^bot')",
    "a value that does not convert": (
        "ALTER TABLE {} ADD CONSTRAINT levels CHECK (player_id !~ '^bot' OR player_id::integer > 0)"
    ),
}


def stricter(place: Place, how: str, ledger: str = "events") -> None:
    with place.pg() as connection:
        connection.execute(STRICTER[how].format(ledger).encode())


def counts(place: Place) -> tuple[int, int, int]:
    """Events, dead letters that PostgreSQL refused, and the sum of the all-time board."""
    with place.pg() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM events), (SELECT count(*) FROM dlq_events WHERE code = 'refused'),"
            " (SELECT coalesce(sum(score), 0)::bigint FROM leaderboards WHERE period = 'alltime')"
        ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def some(good: int, bad: int) -> list[bytes]:
    """Good events with bad ones spread among them."""
    players = [f"bot{n}" if bad and n % (good // bad + 1) == 0 else f"p{n % 50}" for n in range(good + bad)]
    return [encoded(player_id=player, data={"score": 1}) for player in players]


@pytest.mark.parametrize("how", STRICTER)
@pytest.mark.parametrize("bad", [1, 10, 600])
def test_refused_rows_cost_one_pass_whatever_their_number(
    place: Place, monkeypatch: pytest.MonkeyPatch, how: str, bad: int
) -> None:
    stricter(place, how)
    copies = list[int]()
    whole = connection_module.copy_in

    def counted(connection: psycopg.Connection, target: Any, data: Iterable[bytes]) -> None:
        copies.append(1)
        whole(connection, target, data)

    monkeypatch.setattr(admission, "copy_in", counted)
    records = some(3_000, bad)
    refused = sum(b"bot" in value for value in records)
    place.produce(records, partition=0)
    consume_all(place, **ONE_EPOCH)
    assert counts(place) == (len(records) - refused, refused, len(records) - refused)
    assert len(copies) <= 6, "two for each epoch, of which there are at most three"


def test_duplicates_among_refused_rows_count_once(place: Place) -> None:
    stricter(place, "a constraint")
    values = some(100, 10)
    place.produce([*values, *values[50:], *values[:50]], partition=0)
    consume_all(place, **ONE_EPOCH)
    place.produce(values, partition=0)
    consume_all(place, **ONE_EPOCH)
    events, _, score = counts(place)
    assert events == score == len({value for value in values if b"bot" not in value})
    with place.pg() as connection:
        row = connection.execute(
            "SELECT sum(admitted + duplicates + dead_lettered) FROM pipeline_watermarks"
        ).fetchone()
    assert row == (3 * len(values),)
    assert len(recount(place).events) == len(values)


def test_texts_of_every_alphabet_and_deep_data_come_through_the_stage(place: Place) -> None:
    stricter(place, "a constraint")
    data = {"x": ["é", "名前", "👾", {"a": [1.5, None, True, '\\ " \n']}], "score": 7}
    place.produce([encoded(player_id="bot"), encoded(player_id="Зоя 👾", game_id="ゲーム", data=data)], partition=0)
    consume_all(place, **ONE_EPOCH)
    with place.pg() as connection:
        rows = connection.execute("SELECT player_id, game_id, data FROM events").fetchall()
    assert rows == [("Зоя 👾", "ゲーム", data)]


def test_a_role_with_a_ledger_of_its_own_admits_so_too(place: Place) -> None:
    stricter(place, "a constraint", "stats_ledger")
    place.produce(some(100, 10), partition=0)
    consume_all(place, "stats", **ONE_EPOCH)
    with place.pg() as connection:
        row = connection.execute(
            "SELECT (SELECT sum(total_events) FROM player_statistics), (SELECT count(*) FROM dlq_events)"
        ).fetchone()
    assert row is not None
    assert sum(row) == 110


def test_an_epoch_of_refused_rows_halts_before_all_are_tried(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    stricter(place, "a constraint")
    fates = list[int]()
    whole = admission.Admission._one_by_one  # noqa: SLF001 - from outside

    def noted(self: Any, connection: psycopg.Connection, events: pl.DataFrame, around: Any) -> Any:
        try:
            return whole(self, connection, events, around)
        finally:
            row = connection.execute("SELECT count(*) FROM row_fates").fetchone()
            fates.append(row[0] if row is not None else -1)

    monkeypatch.setattr(admission.Admission, "_one_by_one", noted)
    place.produce([("bot", encoded(player_id="bot")) for _ in range(3_000)], partition=0)
    with pytest.raises(HaltError, match="PostgreSQL refused"):
        consume_all(place, dlq_halt_count=100, **ONE_EPOCH)
    assert counts(place) == (0, 0, 0)
    assert max(fates) <= 1_600, "half of the epoch and a little"
