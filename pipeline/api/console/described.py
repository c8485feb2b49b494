"""The console's calls as the OpenAPI document tells of them: by what each is asked, an example, its errors.

The paths and rights are the edge's (`edge.CALLS`), the bounds those of the handlers, the shapes those of `schemas`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pipeline.api.access.origins import PAGE, REQUESTED_BY
from pipeline.api.console import letters, players, redrive, schemas, topic
from pipeline.api.console.audit import ENTRIES
from pipeline.api.console.collector import STEP_SECONDS
from pipeline.api.parameters import Whole
from pipeline.api.schemas import EXAMPLE_DAY, EXAMPLE_GAME, EXAMPLE_PLAYER, EXAMPLE_TIME
from pipeline.contract import event

_PATH: Final = "/api/v1/console/"
_TIME: Final = event.format_timestamp(event.parse_timestamp(EXAMPLE_TIME))
_NAME: Final = {"type": "string", "minLength": 1, "maxLength": event.MAX_ID_CHARACTERS, "pattern": event.ID_PATTERN}
_COUNT: Final = {"type": "integer", "minimum": 0}


@dataclass(frozen=True, slots=True)
class Text:
    """A parameter that is a text: where it stands, its schema, what it says."""

    name: str
    schema: dict[str, Any]
    description: str
    place: str = "query"
    example: str | int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One call; with a body it is a POST. `answer` is an example, None for the stream of events."""

    path: str
    name: str
    summary: str
    description: str
    asked: Sequence[Whole | Text]
    answer: msgspec.Struct | None
    errors: tuple[int, ...] = ()
    body: redrive.Asked | None = None


_EDGE: Final = schemas.Edge("ok", "", "api-1", 812.4, 0.0, 120_000, 3)
_MARK: Final = schemas.Partition(0, 0, 40_012, 40_000, 40_000, None, 12, _TIME)
_GROUP: Final = schemas.Group(
    "event-pipeline-group", "ok", "", 811.0, 12, 0.04, 0.06, schemas.Epoch(41, "wait", _TIME), 39_990, 9, 1, [_MARK]
)
_OVERVIEW: Final = schemas.Overview(
    at=_TIME,
    uptime_seconds=120.5,
    topic="player.events.raw",
    edge=_EDGE,
    kafka=schemas.Log("ok", "", 812.0, 40_012, 1),
    groups=[_GROUP],
    postgres=schemas.Server("ok", ""),
    redis=schemas.Counters("ok", "", 0),
    dead_letters=schemas.DeadLetters(1, {"invalid": 1}, at_least=False),
    proof=None,
)
_HISTORY: Final = schemas.History(
    STEP_SECONDS, schemas.Series([None, 812.4], [None, 811.0], [0, 12], [0, 0.06], [0, 1])
)
_EVENT: Final = schemas.Counted(event.EXAMPLE_UUID, "player_score", EXAMPLE_GAME, _TIME, _TIME, _TIME, {"score": 1500})
_LETTER: Final = schemas.Letter(
    7, "invalid", "game_id: required", "{}", "player.events.raw", 0, 17, _TIME, _TIME, None, None, "event-consumer"
)
_WHOLE: Final = schemas.WholeLetter(**msgspec.structs.asdict(_LETTER), key=EXAMPLE_PLAYER, value_base64="e30=")
_RECORD: Final = schemas.Record(17, _TIME, EXAMPLE_PLAYER, "{}", None, [["event_type", "player_score"]], 2)
_CHANGE: Final = schemas.Change(1, [_LETTER], done=True)
_ASKED: Final = redrive.Asked(ids=[7], reason="the rule was mended", preview=False)
_ENTRY: Final = schemas.AuditEntry(_TIME, "ops", "redrive", "the rule was mended", 1)

_BY_PAGE: Final = Text(
    REQUESTED_BY, {"const": PAGE}, "No other site's page can say so without asking first", "header", PAGE
)
_PLAYER: Final = Text("player_id", _NAME, "The record's key, or this field of its value")
_CODE: Final = Text("code", {"enum": list(letters.CODES)}, "Only those of this code")
_STATE: Final = Text("state", {"enum": list(letters.STATES)}, "Only those in this state")
_SINCE: Final = Text(
    "since",
    {"type": "string", "format": "date-time"},
    "Records that are as new as this, the oldest first",
    example=_TIME,
)
_PARTITION: Final = Text("partition", {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "", "path", 0)
_CHANGES: Final = (
    "A part of those of a code at a time, until `done`; each part is a row of the audit. For keys of scope admin. "
    "With `preview`, nothing is done and no reason needed."
)

CALLS: Final = (
    Call("overview", "getOverview", "The pipeline at one moment", "", (), _OVERVIEW),
    Call("history", "getHistory", "The last quarter of an hour", "", (), _HISTORY),
    Call(
        "stream",
        "getStream",
        "Both as server-sent events",
        "`history` once, then `overview` each second, until either side ends it.",
        (),
        None,
    ),
    Call(
        "games",
        "getGames",
        "Games that have boards",
        "",
        (players.GAMES, Text("after", _NAME, "Games after this one")),
        schemas.Games([EXAMPLE_GAME], None),
    ),
    Call(
        "games/{game_id}/days",
        "getDays",
        "Days on which a game has scores",
        "",
        (Text("game_id", _NAME, "", "path", EXAMPLE_GAME), players.DAYS),
        players.days_of(EXAMPLE_GAME, [EXAMPLE_DAY]),
    ),
    Call(
        "players/{player_id}",
        "getPlayer",
        "A player's statistics and newest events",
        "",
        (Text("player_id", _NAME, "", "path", EXAMPLE_PLAYER), players.EVENTS),
        schemas.Player(EXAMPLE_PLAYER, None, [_EVENT], [EXAMPLE_GAME]),
    ),
    Call(
        "dead-letters",
        "getDeadLetters",
        "Dead letters, the newest first",
        "",
        (letters.LETTERS, letters.BEFORE, _CODE, _STATE),
        schemas.Letters([_LETTER], None, {"invalid": 1}),
    ),
    Call(
        "dead-letters/{id}",
        "getDeadLetter",
        "One dead letter, whole",
        "",
        (Text("id", {"type": "integer", "minimum": 1, "maximum": 2**63 - 1}, "", "path", 7),),
        _WHOLE,
        (404,),
    ),
    Call(
        "dead-letters/redrive",
        "redrive",
        "Send dead letters to the topic again, under the identity that they had",
        _CHANGES,
        (_BY_PAGE,),
        _CHANGE,
        (404, 408, 409, 413, 415),
        _ASKED,
    ),
    Call(
        "dead-letters/drop",
        "drop",
        "Give dead letters up: they stay, marked",
        _CHANGES,
        (_BY_PAGE,),
        _CHANGE,
        (404, 408, 409, 413, 415),
        _ASKED,
    ),
    Call("audit", "getAudit", "What was changed, by whom and why", "", (ENTRIES,), schemas.Audit([_ENTRY])),
    Call(
        "topic",
        "getTopic",
        "The topic's partitions",
        "",
        (),
        schemas.Topic("player.events.raw", [schemas.Bounds(0, 0, 18)]),
    ),
    Call(
        "topic/{partition}",
        "getRecords",
        "Records of a partition",
        "The newest first, or from an offset or a time on the oldest first; bounded in records, bytes and time.",
        (
            _PARTITION,
            topic.RECORDS,
            topic.OFFSET,
            topic.BEFORE,
            _SINCE,
            _PLAYER,
            Text("event_type", {"type": "string"}, "The record's header, or this field of its value"),
        ),
        schemas.Records(0, 0, 18, [_RECORD], None, 1),
        (404,),
    ),
)
PUBLISHED: Final = (
    schemas.Overview, schemas.History, schemas.Games, schemas.Days, schemas.Player, schemas.Letters,
    schemas.WholeLetter, schemas.Change, schemas.Audit, schemas.Topic, schemas.Records, redrive.Asked,
)  # fmt: skip


def path_of(call: Call) -> str:
    """Return the whole path of a call."""
    return _PATH + call.path
