"""The boards in Redis against those in PostgreSQL: every place of every board that should be there, and its expiry."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import psycopg
from psycopg import sql
from redis.exceptions import ResponseError

from pipeline.contract.boards import BOARD_KEYS, PERIODS, WEEKLY, Period, board_key, read_board_key
from pipeline.epoch.epoch import Plan
from pipeline.sinks.redis import translated as redis_translated
from pipeline.verify.report import Advance, Report

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000

# Ordered by board, so that a page is of few boards.
_SCORES: Final = "SELECT game_id, {}, player_id, trim_scale({})::text FROM {}{} ORDER BY 1, 2, 3"
_PROVEN: Final = "SELECT game_id, player_id, day, score::text FROM proven_scores WHERE {which}"
_PROVEN_SCHEMA: Final = pl.Schema({"game": pl.String, "player": pl.String, "day": pl.Date, "score": pl.String})
_PROVEN_PAGE: Final = (
    "SELECT game_id, player_id FROM proven_scores WHERE (game_id, player_id) > (%s, %s)"
    " ORDER BY game_id, player_id LIMIT 1 OFFSET %s"
)
_PLACES: Final = 20_000
_SIZES: Final = 50
_NO_KEY: Final = -2
_NO_EXPIRY: Final = -1


@dataclass(slots=True)
class Places:
    """Places that differ, by board key: players; none if the board differs as a whole, in its type or its expiry."""

    players: dict[str, set[str]] = field(default_factory=dict)

    def add(self, key: str, player: str) -> None:
        """Suspect one place."""
        self.players.setdefault(key, set()).add(player)

    def add_board(self, key: str) -> None:
        """Suspect a board as a whole."""
        self.players.setdefault(key, set())


class BoardPages:
    """Compares boards page by page, so that no board need fit in memory."""

    def __init__(self, connection: psycopg.Connection, client: "redis.Redis", plan: Plan) -> None:
        self._connection = connection
        self._client = client
        self._expiry = plan.expiry
        self.compared = 0

    def suspects(self, found: Places, advance: Advance, *, proven: bool) -> Iterator[None]:
        """Compare all as it comes, with what was proven or with the boards; adds the places that differ.

        Yields after each page.
        """
        sizes: dict[str, int] = {}
        for page in self._proven_pages() if proven else self._all_pages():
            if isinstance(page, pl.DataFrame):
                self._compare_boards(page, date.min, sizes, found)
            else:
                self._compare(*page, sizes, found)
            advance("comparing Redis boards", self.compared, 0)
            yield
        with redis_translated():
            scanned = {key.decode("utf-8", "replace") for key in self._client.scan_iter(BOARD_KEYS, count=_PAGE)}
        for number, key in enumerate(sorted(scanned | sizes.keys())):
            self._compare_size(key, sizes.get(key, 0), found)
            if number % _SIZES == 0:
                yield

    def suspects_among(self, places: Sequence[tuple[str, str, date]], found: Places) -> None:
        """Compare the boards that places (game, player, day) are on with what was proven; adds those that differ."""
        for start in range(0, len(places), _PLACES):
            part = places[start : start + _PLACES]
            pairs = sorted({(game, player) for game, player, _ in part})
            named = sql.SQL("(game_id, player_id) IN (SELECT unnest({}::text[]), unnest({}::text[]))").format(
                sql.Literal([game for game, _ in pairs]), sql.Literal([player for _, player in pairs])
            )
            since = min(WEEKLY.first_day(day) for _, _, day in part)
            self._compare_boards(self._proven(named), since, {}, found)

    def suspects_again(self, places: Places) -> Places:
        """Compare places once more as they come, with the boards; returns those that differ."""
        found = Places()
        for key, players in places.players.items():
            if not players:
                found.add_board(key)
            ordered = sorted(players)
            for start in range(0, len(ordered), _PAGE):
                page = ordered[start : start + _PAGE]
                expected = self._expected(key, page)
                for player, score in zip(page, self._scores(key, page), strict=True):
                    if not _same(expected.get(player), score):
                        found.add(key, player)
        return found

    def confirm(self, places: Places, report: Report) -> None:
        """Read places again, with the epochs held off, and report those that differ."""
        for key, players in sorted(places.players.items()):
            self._confirm_board(key, report)
            ordered = sorted(players)
            for start in range(0, len(ordered), _PAGE):
                page = ordered[start : start + _PAGE]
                expected = self._expected(key, page)
                for player, score in zip(page, self._scores(key, page), strict=True):
                    self._report(key, player, expected.get(player), score, report)

    # -- as it comes -------------------------------------------------------------------------------------------------

    def _compare(self, period: Period, page: list[tuple[Any, ...]], sizes: dict[str, int], found: Places) -> None:
        for (game, start), rows in groupby(page, key=itemgetter(0, 1)):
            if not self._lives(period, start):
                continue
            key = board_key(game, period.label(start or date.min))
            expected = {player: score for _, _, player, score in rows}
            sizes[key] = sizes.get(key, 0) + len(expected)
            self.compared += len(expected)
            for (player, score), stored in zip(expected.items(), self._scores(key, list(expected)), strict=True):
                if not _same(score, stored):
                    found.add(key, player)

    def _compare_boards(self, scores: pl.DataFrame, since: date, sizes: dict[str, int], found: Places) -> None:
        """Compare scores (game, player, day, score) with every board that they add up on, of days from `since` on."""
        boards = [_board(scores, period, since) for period in PERIODS.values()]
        places = pl.concat(boards).group_by("game", "period", "day", maintain_order=True).agg("player", "score")
        asked: list[tuple[str, list[str], pl.Series]] = []
        pipe = self._client.pipeline(transaction=False)
        for game, name, day, players, expected in places.iter_rows():
            period = PERIODS[name]
            if self._lives(period, day):
                key = board_key(game, period.label(day or date.min))
                sizes[key] = sizes.get(key, 0) + len(players)
                self.compared += len(players)
                asked.append((key, players, pl.Series(expected, dtype=pl.Float64)))
                pipe.zmscore(key, players)
        with redis_translated():
            answers = pipe.execute(raise_on_error=False)
        for (key, players, expected), answer in zip(asked, answers, strict=True):
            if isinstance(answer, ResponseError):  # a key of another type has no places
                found.players.setdefault(key, set()).update(players)
                continue
            differs = expected.ne_missing(pl.Series(answer, dtype=pl.Float64))
            for place in differs.arg_true():
                found.add(key, players[place])

    def _compare_size(self, key: str, size: int, found: Places) -> None:
        """If a board has more or fewer places than it should, look for those that should not be there."""
        with redis_translated():
            kind = _kind(self._client.type(key))
        if kind not in {"zset", "none"} or _parts(key) is None:
            found.add_board(key)
            return
        if self._wrong_expiry(key) is not None:
            found.add_board(key)
        with redis_translated():
            if self._client.zcard(key) == size and not found.players.get(key):
                return
        for page in self._members(key):
            expected = self._expected(key, page)
            for player in page:
                if player not in expected:
                    found.add(key, player)

    # -- confirmed -----------------------------------------------------------------------------------------------------

    def _confirm_board(self, key: str, report: Report) -> None:
        with redis_translated():
            kind = _kind(self._client.type(key))
        if _parts(key) is None:
            report.differences.add("Redis board", key, None, f"a {kind}: the name is no board's")
        elif kind not in {"zset", "none"}:
            report.differences.add("Redis board", key, "a sorted set", f"a {kind}")
        elif wrong := self._wrong_expiry(key):
            report.differences.add("Redis board", f"{key} expiry", *wrong)

    def _report(self, key: str, player: str, expected: str | None, found: float | None, report: Report) -> None:
        if not _same(expected, found):
            shown = None if found is None else f"{found:.0f}" if found == int(found) else repr(found)
            report.differences.add("Redis board", f"{key} player {player!r}", expected, shown)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _wrong_expiry(self, key: str) -> tuple[str, str] | None:
        """Say what a board's expiry should be and what it is; when exactly is left to what was configured back then."""
        parts = _parts(key)
        with redis_translated():
            seconds = self._client.ttl(key)
        forever = parts is not None and not parts[1].dated
        if seconds == _NO_KEY or forever == (seconds == _NO_EXPIRY):
            return None
        return ("never", f"in {seconds} s") if forever else ("some time after its period", "never")

    def _proven_pages(self) -> Iterator[pl.DataFrame]:
        """Yield what was proven in pages of some games' players."""
        last: tuple[str, str] | None = ("", "")
        while last is not None:
            after, last = last, self._connection.execute(_PROVEN_PAGE, (*last, _PLACES)).fetchone()
            which = sql.SQL("(game_id, player_id) > ({}, {})").format(*map(sql.Literal, after))
            if last is not None:
                which += sql.SQL(" AND (game_id, player_id) <= ({}, {})").format(*map(sql.Literal, last))
            yield self._proven(which)

    def _proven(self, which: sql.Composable) -> pl.DataFrame:
        """Read what was proven of some places: game, player, day, score (exact)."""
        rows = self._connection.execute(sql.SQL(_PROVEN).format(which=which)).fetchall()
        columns = zip(*rows, strict=True) if rows else ((), (), (), ())
        frame = pl.DataFrame(dict(zip(_PROVEN_SCHEMA, map(list, columns), strict=True)), _PROVEN_SCHEMA)
        return frame.with_columns(pl.col("score").cast(pl.Int128))

    def _all_pages(self) -> Iterator[tuple[Period, list[tuple[Any, ...]]]]:
        """Yield the boards themselves, period by period."""
        for period in PERIODS.values():
            for page in self._pages(period):
                yield period, page

    def _pages(self, period: Period) -> Iterator[list[tuple[Any, ...]]]:
        with self._connection.transaction(), self._connection.cursor(name="boards") as cursor:
            cursor.execute(_scores(period))
            while page := cursor.fetchmany(_PAGE):
                yield page

    def _expected(self, key: str, players: list[str]) -> dict[str, str]:
        """Return what PostgreSQL has of places on one board, nothing if the board has passed."""
        parts = _parts(key)
        if parts is None or not self._lives(parts[1], parts[2]):
            return {}
        game, period, start = parts
        if not period.dated:
            query = (
                "SELECT player_id, trim_scale(score)::text FROM leaderboard_alltime"
                " WHERE game_id = %(game)s AND player_id = ANY(%(p)s)"
            )
        else:
            query = (
                "SELECT player_id, trim_scale(sum(score))::text FROM leaderboard_daily WHERE game_id = %(game)s"
                " AND day >= %(start)s AND day < %(stop)s AND player_id = ANY(%(p)s) GROUP BY 1"
            )
        span = {"start": start, "stop": start + timedelta(days=period.days)}
        rows = self._connection.execute(query, {"game": game, "p": players, **span}).fetchall()
        return dict(rows)

    def _scores(self, key: str, players: list[str]) -> list[float | None]:
        """Read places; a key of another type has none."""
        with redis_translated():
            try:
                return self._client.zmscore(key, players)
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return [None] * len(players)

    def _members(self, key: str) -> Iterator[list[str]]:
        page: list[str] = []
        with redis_translated():
            for member, _ in self._client.zscan_iter(key, count=_PAGE):
                page.append(member.decode("utf-8", "replace"))
                if len(page) >= _PAGE:
                    yield page
                    page = []
        if page:
            yield page

    def _lives(self, period: Period, start: date | None) -> bool:
        """Whether a board should be in Redis now: for ever, or for a while after its period."""
        return period.lives(start or date.min, self._expiry.of(period), datetime.now(UTC))


def _scores(period: Period) -> sql.Composed:
    """Select game, first day of the period, player and score of every board."""
    whole = period.days > 1
    return sql.SQL(_SCORES).format(
        sql.SQL(period.sql_first_day),
        sql.SQL("sum(score)" if whole else "score"),
        sql.Identifier("leaderboard_daily" if period.dated else "leaderboard_alltime"),
        sql.SQL(" GROUP BY 1, 2, 3" if whole else ""),
    )


def _board(scores: pl.DataFrame, period: Period, since: date) -> pl.DataFrame:
    """Add up scores of days (game, player, day, score) to those of a period's boards; those of all time have no day."""
    if period.dated:
        first = scores.filter(pl.col("day") >= since).with_columns(day=period.first_days(pl.col("day")))
    else:
        first = scores.with_columns(day=pl.lit(None, pl.Date))
    summed = first.group_by("game", "day", "player").agg(pl.col("score").sum().cast(pl.Float64))
    return summed.select("game", "day", "player", "score", period=pl.lit(period.name))


def _kind(answer: bytes | str) -> str:
    return answer.decode() if isinstance(answer, bytes) else answer


def _parts(key: str) -> tuple[str, Period, date] | None:
    try:
        return read_board_key(key)
    except ValueError:
        return None


def _same(expected: str | None, found: float | None) -> bool:
    """Compare an exact sum with a Redis score, a double: exact to 2^53, and the nearest double beyond."""
    return found is None if expected is None else found is not None and float(expected) == found
