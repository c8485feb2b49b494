"""The boards in Redis against those in PostgreSQL: every place of every board that should be there, and its expiry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain, groupby
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import psycopg
from psycopg import sql
from redis.exceptions import ResponseError

from pipeline.contract.boards import BOARD_KEYS, PERIODS, WEEKLY, Period, board_key, read_board_key
from pipeline.contract.names import is_text, name_of, printable, raw_of, texts
from pipeline.epoch.epoch import Plan
from pipeline.sinks.redis import translated as redis_translated
from pipeline.verify.differences import Difference
from pipeline.verify.report import Advance

if TYPE_CHECKING:
    import redis

_PAGE: Final = 2_000

# What a board adds up, each by its key: what was settled, and days.
_SETTLED: Final = (
    "SELECT player_id, score FROM leaderboard_settled WHERE game_id = %s AND player_id > %s ORDER BY player_id LIMIT %s"
)
_OF_DAY: Final = (
    "SELECT player_id, score FROM leaderboard_daily WHERE game_id = %s AND day = %s AND player_id > %s"
    " ORDER BY player_id LIMIT %s"
)
_NEXT_GAME: Final = (
    "SELECT least((SELECT min(game_id) FROM leaderboard_daily WHERE game_id > %(game)s),"
    " (SELECT min(game_id) FROM leaderboard_settled WHERE game_id > %(game)s))"
)
_NEXT_DAY: Final = "SELECT min(day) FROM leaderboard_daily WHERE game_id = %s AND day > %s"
_PROVEN: Final = "SELECT game_id, player_id, day, score::text FROM proven_scores WHERE {which}"
_PROVEN_SCHEMA: Final = pl.Schema({"game": pl.String, "player": pl.String, "day": pl.Date, "score": pl.String})
_PROVEN_PAGE: Final = (
    "SELECT game_id, player_id FROM proven_scores WHERE (game_id, player_id) > (%s, %s)"
    " ORDER BY game_id, player_id LIMIT 1 OFFSET %s"
)
_PLACES: Final = 20_000
_LEAST: Final = 100
_ZERO: Final = Decimal(0)
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
        told = self.compared
        for page in self._proven_pages() if proven else self._all_pages():
            if isinstance(page, pl.DataFrame):
                self._compare_boards(page, date.min, sizes, found)
            else:
                self._compare(*page, sizes, found)
            # Boards may be many and small: of these a page is several.
            if proven or self.compared - told >= _PAGE:
                told = self.compared
                advance("comparing Redis boards", told, 0)
                yield
        with redis_translated():
            scanned = {name_of(key) for key in self._client.scan_iter(BOARD_KEYS, count=_PAGE)}
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

    def suspects_again(self, places: Places, until: float) -> Places:
        """Compare places once more as they come, with the boards, until then (monotonic); returns those that differ.

        Those that it did not come to are among them.
        """
        found = Places()
        for key, page in pages_of(places):
            if not page:
                found.add_board(key)
            elif monotonic() > until:
                found.players.setdefault(key, set()).update(page)
            else:
                for player, _, _ in self._differing(key, page):
                    found.add(key, player)
        return found

    def confirm(self, key: str, page: list[str]) -> Iterator[Difference]:
        """Read some places of a board again, with the epochs held off; yields what differs.

        With no places, what differs about the board as a whole.
        """
        if not page:
            yield from self._confirm_board(key)
            return
        for player, expected, found in self._differing(key, page):
            shown = None if found is None else f"{found:.0f}" if found.is_integer() else repr(found)
            yield Difference.of("Redis board", f"{key} player {printable(player)!r}", expected, shown)

    def _differing(self, key: str, page: list[str]) -> list[tuple[str, str | None, float | None]]:
        """Compare places of one board: those that differ, with what should be and what is there."""
        expected = self._expected(key, page)
        scores = zip(page, self._scores(key, page), strict=True)
        return [
            (player, expected.get(player), score) for player, score in scores if not _same(expected.get(player), score)
        ]

    # -- as it comes -------------------------------------------------------------------------------------------------

    def _compare(self, key: str, expected: Mapping[str, Decimal], sizes: dict[str, int], found: Places) -> None:
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
            kind = _kind(self._client.type(raw_of(key)))
        if kind not in {"zset", "none"} or _parts(key) is None:
            found.add_board(key)
            return
        if self._wrong_expiry(key) is not None:
            found.add_board(key)
        with redis_translated():
            if self._client.zcard(raw_of(key)) == size and not found.players.get(key):
                return
        for page in self._members(key):
            expected = self._expected(key, page)
            for player in page:
                if player not in expected:
                    found.add(key, player)

    # -- confirmed -----------------------------------------------------------------------------------------------------

    def _confirm_board(self, key: str) -> Iterator[Difference]:
        with redis_translated():
            kind = _kind(self._client.type(raw_of(key)))
        if _parts(key) is None:
            yield Difference.of("Redis board", key, None, f"a {kind}: the name is no board's")
        elif kind not in {"zset", "none"}:
            yield Difference.of("Redis board", key, "a sorted set", f"a {kind}")
        elif wrong := self._wrong_expiry(key):
            yield Difference.of("Redis board", f"{key} expiry", *wrong)

    # -- reading -----------------------------------------------------------------------------------------------------

    def _wrong_expiry(self, key: str) -> tuple[str, str] | None:
        """Say what a board's expiry should be and what it is; when exactly is left to what was configured back then."""
        parts = _parts(key)
        with redis_translated():
            seconds = self._client.ttl(raw_of(key))
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

    def _all_pages(self) -> Iterator[tuple[str, dict[str, Decimal]]]:
        """Yield the boards themselves, game by game, in pages by key: a board's key, and the scores of some players.

        Each statement is short: between two pages minutes may pass, and no snapshot may be held meanwhile.
        """
        (horizon,) = self._connection.execute(
            "SELECT greatest(settled_before, '0001-01-01') FROM leaderboard_horizon"  # it may be -infinity
        ).fetchone() or (date.min,)
        game = ""
        while game := self._connection.execute(_NEXT_GAME, {"game": game}).fetchone()[0] or "":  # type: ignore[index]
            days = list(self._days(game))
            for period in PERIODS.values():
                for start, its in groupby(days, key=period.first_day) if period.dated else [(date.min, days)]:
                    if self._lives(period, start):
                        parts = [(_OF_DAY, (game, day)) for day in its if period.dated or day >= horizon]
                        added = [] if period.dated else [(_SETTLED, (game,))]
                        for page in self._pages([*added, *parts]):
                            yield board_key(game, period.label(start)), page

    def _days(self, game: str) -> Iterator[date]:
        """Yield the days of which a game has scores."""
        day: date | None = date.min
        while day := self._connection.execute(_NEXT_DAY, (game, day)).fetchone()[0]:  # type: ignore[index]
            yield day

    def _pages(self, parts: Sequence[tuple[str, tuple[Any, ...]]]) -> Iterator[dict[str, Decimal]]:
        """Add up what a board is made of, by players in the order of their names: as far as every part was read."""
        limit = max(_LEAST, _PAGE // max(1, len(parts)))
        after: str | None = ""
        while after is not None:
            read = [self._connection.execute(part.encode(), (*of, after, limit)).fetchall() for part, of in parts]
            # A part that ended may have players beyond the page: they are read again with the next one.
            after = min((rows[-1][0] for rows in read if len(rows) == limit), default=None)
            page: dict[str, Decimal] = {}
            for player, score in chain.from_iterable(read):
                if after is None or player <= after:
                    page[player] = page.get(player, _ZERO) + score
            if page:
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
                " AND day = ANY(%(days)s) AND player_id = ANY(%(p)s) GROUP BY 1"
            )
        days = [start + timedelta(days=number) for number in range(period.days)]  # one by one, as the key has them
        rows = self._connection.execute(query, {"game": game, "p": texts(players), "days": days}).fetchall()
        return dict(rows)

    def _scores(self, key: str, players: list[str]) -> list[float | None]:
        """Read places; a key of another type has none."""
        with redis_translated():
            try:
                return self._client.zmscore(raw_of(key), list(map(raw_of, players)))  # type: ignore[arg-type]  # bytes do
            except ResponseError as error:
                if not str(error).startswith("WRONGTYPE"):
                    raise
                return [None] * len(players)

    def _members(self, key: str) -> Iterator[list[str]]:
        page: list[str] = []
        with redis_translated():
            for member, _ in self._client.zscan_iter(raw_of(key), count=_PAGE):
                page.append(name_of(member))
                if len(page) >= _PAGE:
                    yield page
                    page = []
        if page:
            yield page

    def _lives(self, period: Period, start: date | None) -> bool:
        """Whether a board should be in Redis now: for ever, or for a while after its period."""
        return period.lives(start or date.min, self._expiry.of(period), datetime.now(UTC))


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
        return read_board_key(key) if is_text(key) else None
    except ValueError:
        return None


def pages_of(places: Places) -> Iterator[tuple[str, list[str]]]:
    """Yield suspects by board, each board in pages; first a page without players, which is the board as a whole."""
    for key, players in sorted(places.players.items()):
        yield key, []
        ordered = sorted(players)
        for start in range(0, len(ordered), _PAGE):
            yield key, ordered[start : start + _PAGE]


def _same(expected: str | Decimal | None, found: float | None) -> bool:
    """Compare an exact sum with a Redis score, a double: exact to 2^53, and the nearest double beyond."""
    return found is None if expected is None else found is not None and float(expected) == found
