"""Each check of the verifier switched off in turn: what it is there to find must then go unnamed.

The table that this prints says what else would have found it: a row whose `left` is not empty is covered twice.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from pipeline.contract.boards import watermark_key
from pipeline.sinks.dialect import DISTRIBUTED
from pipeline.verify.boards import BoardPages
from pipeline.verify.checkpoints import Checkpoints
from pipeline.verify.columns import ColumnJudge
from pipeline.verify.findings import Findings
from pipeline.verify.piece import Piece
from pipeline.verify.projection_checks import GroupCheck
from pipeline.verify.redis import Hashes, RedisComparison
from pipeline.verify.sums import Sums
from tests.chaos.sabotage import no_ledger
from tests.consuming import consume_all
from tests.events import encoded, now
from tests.place import Place
from tests.real.verify.test_steps import ALTERATIONS, GAME, NEW, a_round, found_in, go_on, new_records
from tests.real.verify.test_verify import NONE, YESTERDAY, a_mixed_load, events

pytestmark = [pytest.mark.real, pytest.mark.chaos]

APART = pytest.mark.parametrize("dialect", [DISTRIBUTED.name])
"""On a plain server, whose own statements the tests beside the verifier run."""

Off = Callable[[pytest.MonkeyPatch], None]


def without(owner: Any, name: str, answer: Any = None) -> Off:
    """Have a check answer as if all were well."""
    return lambda patch: patch.setattr(owner, name, lambda *_, **__: answer)


def blind(owner: Any, name: str) -> Off:
    """Have a check do its work, and say that nobody is off."""
    original = getattr(owner, name)

    def nobody(*given: Any) -> set[str]:
        original(*given)
        return set()

    return lambda patch: patch.setattr(owner, name, nobody)


def silent(owner: Any, name: str) -> Off:
    """Have a check that goes through pages have none."""

    def none(*_: object, **__: object) -> Iterator[None]:
        yield from ()

    return lambda patch: patch.setattr(owner, name, none)


@dataclass(frozen=True)
class Row:
    """A check, how it is switched off, what is altered and how back, which kind it names, and what is without it."""

    check: str
    off: Off
    do: Sequence[str | list[Any]]
    undo: Sequence[str | list[Any]]
    kind: str
    left: frozenset[str] = frozenset()


def altered(name: str) -> tuple[Sequence[str], Sequence[str]]:
    return ALTERATIONS[name].do, ALTERATIONS[name].undo


def by_one(statement: str, player: str) -> tuple[list[str], list[str]]:
    return [statement.format("+", player)], [statement.format("-", player)]


def once_more(*command: Any) -> tuple[list[list[Any]], list[list[Any]]]:
    """An increment of Redis, and back."""
    *start, member = command
    if start[0] == "HINCRBY":
        return [[*start, member, 1]], [[*start, member, -1]]
    return [[*start, 1, member]], [[*start, -1, member]]


def misjudged(patch: pytest.MonkeyPatch) -> None:
    """The judge in columns takes every event for one of another game."""
    judged = ColumnJudge._check  # noqa: SLF001 - the fault is ours to make

    def wrong(self: ColumnJudge, *given: Any) -> Any:
        vouched, passed_on = judged(self, *given)
        return vouched.with_columns(pl.lit("elsewhere").alias("game_id")), passed_on

    patch.setattr(ColumnJudge, "_check", wrong)


OLD = "player-3"
MARKS = "the group's watermarks"
COUNT = "UPDATE player_event_counts SET events = events {} 1 WHERE player_id = '{}'"
DAY = "UPDATE leaderboard_daily SET score = score {} 1 WHERE player_id = '{}'"
BOARD = f"leaderboard:{GAME}:daily:{YESTERDAY}"
REDIS_SUMS = frozenset({"Redis statistics"})
AFRESH = [
    Row("ledger: events and contents", without(Piece, "wrong", set()), *altered("data altered"), "event"),
    Row("dead letters of bad records", without(Checkpoints, "suspect_records"), *altered("a dead letter lost"),
        "dead letter", frozenset({"rows in dlq_events"})),
    Row("whole: records", without(Findings, "balance"), *altered("a record lost between watermarks"),
        "records", frozenset({"admitted"})),
    Row("whole: dead letters", without(Findings, "balance"), *altered("a dead letter booked as a duplicate"),
        "dead-lettered"),
    Row("whole: sums", without(Findings, "totals"), *altered("an admitted event booked as a duplicate"), "admitted"),
    Row("sums of all events", without(Sums, "recount", set()), *by_one(COUNT, OLD), "statistics", REDIS_SUMS),
    Row("a close look at the ledger", without(GroupCheck, "_ledger"), *altered("data altered"), "event"),
    Row("a close look at the sums", without(GroupCheck, "_sums"), *by_one(COUNT, OLD), "statistics",
        REDIS_SUMS | {"undecided"}),
    Row("Redis: hashes", silent(Hashes, "suspects"), *once_more("HINCRBY", f"player_stats:{OLD}", "total_events"),
        "Redis statistics"),
    Row("Redis: hashes of nobody", without(Hashes, "unknown", set()), [["HSET", "player_stats:nobody", "a", 1]],
        [["DEL", "player_stats:nobody"]], "Redis statistics"),
    Row("Redis: scores", without(BoardPages, "_compare_boards"), *once_more("ZINCRBY", BOARD, OLD), "Redis board"),
    Row("Redis: places of nobody", without(BoardPages, "_compare_size"), [["ZADD", BOARD, 1, "nobody"]],
        [["ZREM", BOARD, "nobody"]], "Redis board"),
    Row("Redis: expiries", without(BoardPages, "_wrong_expiry"), [["PERSIST", BOARD]],
        [["EXPIRE", BOARD, 86_400]], "Redis board"),
    Row("Redis: watermarks", without(RedisComparison, "_standings", ()), [["RENAME", MARKS, "away"]],
        [["RENAME", "away", MARKS]], "Redis watermark"),
]  # fmt: skip
ONWARD = [
    Row("watermarks and checkpoints of one log", without(Findings, "misplaced", answer=False),
        *altered("a topic that was another"), "checkpoint"),
    Row("sums of what is new", without(Sums, "touched", set()), *by_one(COUNT, NEW), "statistics",
        REDIS_SUMS | {"admitted"}),
    Row("Redis: hashes of what is new", without(Hashes, "suspects_among", set()),
        *once_more("HINCRBY", f"player_stats:{NEW}", "total_events"), "Redis statistics"),
    Row("Redis: scores of what is new", without(BoardPages, "suspects_among"),
        *once_more("ZINCRBY", f"leaderboard:{GAME}:alltime", NEW), "Redis board"),
]  # fmt: skip
ROUND = [
    Row("round: events that were proven", without(Sums, "changed", set()),
        ["UPDATE events SET data = data || '{\"note\": 1}' WHERE player_id = 'player-3'"],
        ["UPDATE events SET data = data - 'note' WHERE player_id = 'player-3'"], "event"),
    Row("round: sums of what is old", blind(Sums, "recount"), *by_one(COUNT, OLD), "statistics"),
    Row("round: boards", without(Sums, "boards_off", (set(), None)),
        ["INSERT INTO leaderboard_daily VALUES ('game-0', current_date, 'a-wraith', 1, now())"],
        ["DELETE FROM leaderboard_daily WHERE player_id = 'a-wraith'"], "board"),
]  # fmt: skip


def alter(place: Place, statements: Sequence[str | list[Any]]) -> None:
    with place.pg() as connection, place.redis() as client:
        for statement in statements:
            if isinstance(statement, str):
                connection.execute(statement.encode())
            else:
                named = [watermark_key(place.group) if word == MARKS else word for word in statement]
                client.execute_command(*named)


def kinds(place: Place, *, full: bool = False) -> set[str]:
    return found_in(go_on(place, full=full))[1]


def kinds_of_a_round(place: Place) -> set[str]:
    a_round(place)
    return kinds(place)


def begun(place: Place) -> None:
    a_mixed_load(place)
    new_records(place, 1)
    consume_all(place)
    assert found_in(go_on(place)) == NONE


def told(row: Row, off: set[str], on: set[str]) -> None:
    """Print a row of the table, and hold it."""
    print(f"{row.check:40} {', '.join(sorted(on)):45} without it: {', '.join(sorted(off)) or 'nothing'}")  # noqa: T201 - the table
    assert row.kind in on - off, row.check
    assert off == row.left, row.check


def test_afresh(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(place)
    for row in AFRESH:
        alter(place, row.do)
        with monkeypatch.context() as patch:
            row.off(patch)
            off = kinds(place, full=True)
        told(row, off, kinds(place, full=True))
        alter(place, row.undo)
    assert kinds(place, full=True) == set()


@APART
def test_onward(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is new is asked for once: so there is something new each time."""
    begun(place)
    found: list[set[str]] = []
    for number, row in enumerate(ONWARD):
        for again in range(2):
            new_records(place, 10 + 2 * number + again)
            consume_all(place)
            alter(place, row.do)
            with monkeypatch.context() as patch:
                if not again:
                    row.off(patch)
                found.append(kinds(place))
            alter(place, row.undo)
            assert kinds(place, full=not again) == set(), row.check  # what was not proven may be owed
        told(row, *found[-2:])
    assert kinds(place, full=True) == set()


@APART
def test_a_round(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    begun(place)
    for row in ROUND:
        alter(place, row.do)
        with monkeypatch.context() as patch:
            row.off(patch)
            off = kinds_of_a_round(place)
        told(row, off, kinds_of_a_round(place))
        alter(place, row.undo)
        assert kinds(place) == set(), row.check
    assert kinds(place, full=True) == set()


def test_an_event_counted_again_seconds_later_is_found(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a consumer that books it as admitted, so that every account holds; in a step after the one that proved it."""
    load = events(200)
    no_ledger(monkeypatch)
    place.produce(load)
    consume_all(place)
    assert kinds(place) == set()
    for copies in (load[:20], load):
        place.produce(copies)
        consume_all(place)
        assert "statistics" in kinds(place)


def test_a_judge_that_is_wrong(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain judge sees a share of what the one in columns vouched for."""
    place.produce([encoded(ingested_at=now(), player_id=f"p{number}") for number in range(200)])
    consume_all(place)
    assert found_in(go_on(place)) == NONE
    misjudged(monkeypatch)
    assert kinds(place, full=True) == {"judge"}
    monkeypatch.setattr(ColumnJudge, "_again", lambda _self, _records, vouched: ([], vouched))
    assert kinds(place, full=True) == set()  # the ledger seems to differ, and a close look finds that it does not
