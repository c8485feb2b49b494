"""The tables of boards in PostgreSQL, page by page, against what was proven of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
from psycopg import sql

# Pages of boards in the order of their keys: what is there and was not proven, and settled days that are not settled.
_DAYS_AFTER: Final = """
FROM leaderboard_daily WHERE (game_id, day, player_id) > (%(game)s, %(day)s, %(player)s)
ORDER BY game_id, day, player_id"""
_WRONG_DAYS: Final = """
WITH kept AS MATERIALIZED (SELECT game_id, day, player_id, score {after} LIMIT %(size)s),
     settled AS MATERIALIZED (
        SELECT game_id, player_id FROM leaderboard_settled WHERE (game_id, player_id) IN
            (SELECT game_id, player_id FROM kept WHERE day < %(horizon)s::date))
SELECT DISTINCT kept.player_id
FROM kept LEFT JOIN proven_scores AS proven
  ON proven.game_id = kept.game_id AND proven.player_id = kept.player_id AND proven.day = kept.day
WHERE proven.score IS DISTINCT FROM kept.score
   OR kept.day < %(horizon)s::date AND NOT EXISTS (
        SELECT FROM settled WHERE settled.game_id = kept.game_id AND settled.player_id = kept.player_id)
"""
_SETTLED_AFTER: Final = """
FROM leaderboard_settled WHERE (game_id, player_id) > (%(game)s, %(player)s) ORDER BY game_id, player_id"""
_WRONG_SETTLED: Final = """
WITH kept AS MATERIALIZED (SELECT game_id, player_id, score {after} LIMIT %(size)s)
SELECT kept.player_id FROM kept
WHERE kept.score IS DISTINCT FROM (
    SELECT sum(proven.score) FROM proven_scores AS proven
    WHERE proven.game_id = kept.game_id AND proven.player_id = kept.player_id AND proven.day < %(horizon)s::date)
"""


@dataclass(frozen=True, slots=True)
class BoardPart:
    """How one table of boards is gone through: who is off in a page of it, the order of the pages, and their keys."""

    wrong: LiteralString
    following: LiteralString
    key: LiteralString
    names: tuple[str, ...]


DAYS: Final = BoardPart(_WRONG_DAYS, _DAYS_AFTER, "game_id, day::text, player_id", ("game", "day", "player"))
SETTLED: Final = BoardPart(_WRONG_SETTLED, _SETTLED_AFTER, "game_id, player_id", ("game", "player"))
_FIRST_PLACE: Final = {"game": "", "day": "-infinity", "player": ""}


def board_off(
    connection: psycopg.Connection, board: BoardPart, after: Mapping[str, Any], size: int
) -> tuple[set[str], dict[str, Any] | None]:
    """Hold a page of boards to what was proven; returns who is off, and the last key (None: there is no more)."""
    following = sql.SQL(board.following)
    (horizon,) = connection.execute("SELECT max(settled_before)::text FROM leaderboard_horizon").fetchone() or (None,)
    place = {**_FIRST_PLACE, **after, "size": size, "horizon": horizon}
    rows = connection.execute(sql.SQL(board.wrong).format(after=following), place).fetchall()
    last = connection.execute(
        sql.SQL("SELECT {} {} LIMIT 1 OFFSET %(size)s - 1").format(sql.SQL(board.key), following), place
    ).fetchone()
    return {row[0] for row in rows}, dict(zip(board.names, last, strict=True)) if last is not None else None
