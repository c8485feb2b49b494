"""GET /openapi.json: the API in OpenAPI 3.1, with an example of everything and every error.

What requests and replies hold is not written here: the schemas are made of the types of `api.schemas`, limits and
patterns are the contract's, and an example is a value of its type.
"""

from typing import Any, Final

import msgspec
import orjson

from pipeline.api import schemas
from pipeline.api.access.signatures import TOLERANCE_SECONDS
from pipeline.api.boards.get_boards import AROUND, LIMIT, OFFSET
from pipeline.api.boards.receipts import AFTER, WAIT
from pipeline.api.console import described
from pipeline.api.events.post_batch import MAX_BYTES, MAX_EVENTS
from pipeline.api.http.heads import MAX_HEAD_BYTES
from pipeline.api.parameters import Whole
from pipeline.api.refusals.get_refusals import NEWEST, OF_KEY
from pipeline.api.schemas import EXAMPLE_GAME, EXAMPLE_PLAYER, EXAMPLE_TIME
from pipeline.contract import event, receipts
from pipeline.contract.boards import ALLTIME, PERIODS, board_key
from pipeline.trail import told

_REF: Final = "#/components/schemas/{name}"
_PUBLISHED: Final = (
    schemas.Event, schemas.Accepted, schemas.BatchResult, schemas.Statistics, schemas.Board, schemas.Place,
    schemas.Trail, schemas.RefusedEvents, schemas.Status, schemas.Error,
)  # fmt: skip
_READERS: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {}]
_WRITERS: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {"signature": []}, {}]
_JSON: Final = "application/json"

_EVENT: Final = schemas.Event("player_score", EXAMPLE_PLAYER, EXAMPLE_GAME, EXAMPLE_TIME, data={"score": 1500})
_ENTRY: Final = schemas.Entry(1, EXAMPLE_PLAYER, 1500)
_STATISTICS: Final = schemas.Statistics(
    EXAMPLE_PLAYER,
    2,
    {"player_level_up": 1, "player_score": 1},
    event.format_timestamp(event.parse_timestamp(EXAMPLE_TIME)),
)
_SCORED: Final = told.Scored(board_key(EXAMPLE_GAME, ALLTIME.name), 1500, EXAMPLE_GAME, ALLTIME.name, None, None)
_TRAIL: Final = schemas.Trail(
    player_id=EXAMPLE_PLAYER,
    event_id=event.EXAMPLE_UUID,
    timestamp=_STATISTICS.last_event,
    fate="counted",
    summary="Counted once, from partition 3, offset 17.",
    hops=[told.Hop("acknowledged", "done", "2024-01-15T10:35:01.250000Z", None, "partition 3, offset 17")],
    effects=told.Effects([told.Counted("player_score", 1)], [_SCORED]),
    duplicate_of=None,
    dead_letter=None,
    lag=None,
)
_BATCH: Final = schemas.BatchResult(1, [schemas.Rejected(1, "player_id: required")], [event.EXAMPLE_UUID, None])

_REFUSED: Final = schemas.RefusedEvent(
    EXAMPLE_TIME, "game-server", "player_id: required", "player_id", "player_score", None, event.EXAMPLE_UUID,
    EXAMPLE_GAME, {"score": "number", "mail": "string(17)"},
)  # fmt: skip

_ERRORS: Final = {
    400: ("The request breaks the contract; the error names the field", "player_id: required"),
    401: ("No API key or signature, or a wrong one", "the API key is not known, or is revoked"),
    403: ("The key may not do this, or not for this game", "the key dashboard may not write"),
    404: ("Not found", "player_id: this player is not on this board"),
    408: ("The request did not arrive in time", "the request's body did not arrive in time"),
    409: ("Something else is under way, or it was done otherwise before", "another change is under way"),
    413: ("Too large", f"the body is longer than {event.MAX_EVENT_BYTES} bytes"),
    415: (
        "A media type or content coding that is not taken here; the error names those that are",
        "Content-Encoding must be gzip, zstd or identity",
    ),
    429: ("Over the rate limit", "over the rate limit of this key; nothing was accepted"),
    431: ("The head of the request is too large", f"the head of a request has at most {MAX_HEAD_BYTES} bytes"),
    503: (
        "Not now; the error says whether anything may have been accepted",
        "too much is in flight; nothing was accepted",
    ),
    504: (
        "What `after` names is not counted yet; the error says how far the consumer is",
        "after: not counted yet: partition 3, offset 17: event-pipeline-group stands at 12 in PostgreSQL, Redis at 12",
    ),
}
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}, "required": True},
}
_LIMITS: Final = {
    "RateLimit-Limit": {"description": "Events at once", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Events left now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until all are left", "schema": {"type": "integer"}},
}
_HEADERS: Final = {429: {**_RETRY_AFTER, **_LIMITS}, 503: _RETRY_AFTER, 504: _RETRY_AFTER}


def document() -> bytes:
    """Return the document."""
    return orjson.dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Game events",
                "version": "1",
                "description": "Events in, statistics and leaderboards out. A 200 for an event means that every "
                "in-sync replica of Kafka has it. Sent again with the same player_id, timestamp and event_id, "
                "it counts once.",
                "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            },
            "security": _READERS,
            "paths": {**_write_paths(), **_read_paths(), **_console_paths(), **_service_paths()},
            "components": {
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "signature": _signature(),
                },
                "schemas": _components(),
            },
        }
    )


# -- paths ---------------------------------------------------------------------------------------------------------


def _write_paths() -> dict[str, Any]:
    one = msgspec.to_builtins(_EVENT)
    events = {"schema": {"type": "array", "items": _ref(schemas.Event), "minItems": 1}, "example": [one]}
    lines = {"schema": {"type": "string"}, "example": orjson.dumps(one).decode() + "\n"}
    failures = _errors(400, 401, 403, 408, 413, 415, 429, 431, 503)
    return {
        "/api/v1/events": _call(
            "post",
            "postEvent",
            "Send one event",
            "To make a retry safe, set event_id and timestamp; then send the event again, as it was, until a 200. "
            "A body may be compressed: Content-Encoding: gzip or zstd.",
            security=_WRITERS,
            requestBody={"required": True, "content": _content(_EVENT)},
            responses={
                "200": _placed(_answered("Kafka has the event", schemas.Accepted("success", event.EXAMPLE_UUID))),
                **failures,
            },
        ),
        "/api/v1/events/batch": _call(
            "post",
            "postEvents",
            f"Send up to {MAX_EVENTS} events of {MAX_BYTES >> 20} MiB in all",
            "A JSON array, or NDJSON; gzip or zstd, if Content-Encoding says so. Each event is judged for itself. "
            "event_ids has an entry for each event in its order, null if it was rejected. A 503 with unconfirmed "
            "says which events Kafka did not confirm; those may have been stored or not.",
            security=_WRITERS,
            requestBody={"required": True, "content": {_JSON: events, "application/x-ndjson": lines}},
            responses={"200": _placed(_answered("Kafka has the events that were not rejected", _BATCH)), **failures},
        ),
    }


def _read_paths() -> dict[str, Any]:
    player, game = _segment("player_id", EXAMPLE_PLAYER), _segment("game_id", EXAMPLE_GAME)
    day = _query("date", {"type": "string", "format": "date"}, "A day in UTC, or any day of the week; missing: today")
    period = _query("period", {"enum": list(PERIODS), "default": ALLTIME.name}, "Which board")
    page = schemas.Board(EXAMPLE_GAME, ALLTIME.name, 1, [_ENTRY], None)
    place = schemas.Place(EXAMPLE_GAME, ALLTIME.name, EXAMPLE_PLAYER, _ENTRY.rank, _ENTRY.score, 1, [_ENTRY])
    after, failures = _receipts(), _errors(400, 401, 403, 404, 431, 503, 504)
    return {
        "/api/v1/players/{player_id}/stats": _call(
            "get",
            "getStatistics",
            "A player's statistics",
            parameters=[player, *after],
            responses={"200": _answered("Found", _STATISTICS), **failures},
        ),
        "/api/v1/leaderboards/{game_id}": _call(
            "get",
            "getBoard",
            "A page of a board",
            "Highest score first; of equal scores, the greater player_id in byte order first.",
            parameters=[game, period, day, _whole(LIMIT), _whole(OFFSET), *after],
            responses={"200": _answered("The page", page), **_errors(400, 401, 403, 431, 503, 504)},
        ),
        "/api/v1/leaderboards/{game_id}/players/{player_id}": _call(
            "get",
            "getPlace",
            "A player's place on a board, and its neighbours",
            parameters=[game, player, period, day, _whole(AROUND), *after],
            responses={"200": _answered("Found", place), **failures},
        ),
        "/api/v1/refusals": _call(
            "get",
            "getRefusals",
            "The last refusals of the keys that this one may see, the newest first",
            "Those of keys that may touch no game that this one may not; a key for all games sees all. For what its "
            "sender did not see: an event that was accepted is not here, and if it was refused later it is a dead "
            "letter. Kept for a few days, the last of each key, and of a flood of them a part.",
            parameters=[_query(OF_KEY, {"type": "string"}, "Only those of the key of this name"), _whole(NEWEST)],
            responses={"200": _answered("Found", schemas.RefusedEvents([_REFUSED])), **_errors(400, 401, 403, 431)},
        ),
        "/api/v1/events/{player_id}/{event_id}": _call(
            "get",
            "getTrail",
            "What became of an event",
            "Its way through Kafka, PostgreSQL and Redis, and what it added; or why it did not count. 200 for every "
            "fate, unknown too; a key that is limited to games gets 404 for what is not known to be of one of them.",
            parameters=[player, _event_id(), _timestamp(), *after],
            responses={"200": _answered("Found, or looked for", _TRAIL), **failures},
        ),
    }


def _console_paths() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in described.CALLS:
        events = {"description": "Events", "content": {"text/event-stream": {"schema": {"type": "string"}}}}
        more: dict[str, Any] = {"parameters": [_parameter(asked) for asked in one.asked]}
        if one.body is not None:
            more["requestBody"] = {"required": True, "content": _content(one.body)}
        more["responses"] = {
            "200": events if one.answer is None else _answered("Found, or done", one.answer),
            **_errors(*sorted({400, 401, 403, 431, 503, *one.errors})),
        }
        method = "get" if one.body is None else "post"
        found[described.path_of(one)] = _call(method, one.name, one.summary, one.description, **more)
    return found


def _service_paths() -> dict[str, Any]:
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    live, ready, unavailable = (schemas.Status(status) for status in ("live", "ready", "unavailable"))
    return {
        "/health/live": _call(
            "get", "getLive", "Whether the process works", security=[], responses={"200": _stands(live)}
        ),
        "/health/ready": _call(
            "get",
            "getReady",
            "Whether events would be accepted",
            security=[],
            responses={"200": _stands(ready), "503": _stands(unavailable)},
        ),
        "/metrics": _call(
            "get",
            "getMetrics",
            "Metrics for Prometheus",
            security=[],
            responses={"200": {"description": "Prometheus' text format", **text}},
        ),
    }


# -- parts ---------------------------------------------------------------------------------------------------------


def _call(method: str, name: str, summary: str, description: str = "", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Describe a path that knows one method."""
    described = {"description": description} if description else {}
    return {method: {"operationId": name, "summary": summary, **described, **more}}


def _ref(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REF.format(name=kind.__name__)}


def _content(example: msgspec.Struct) -> dict[str, Any]:
    """Describe a body by an example of its type."""
    return {_JSON: {"schema": _ref(type(example)), "example": msgspec.to_builtins(example)}}


def _answered(description: str, example: msgspec.Struct) -> dict[str, Any]:
    return {"description": description, "content": _content(example)}


def _stands(status: schemas.Status) -> dict[str, Any]:
    """Describe the reply that says how the process stands, in no other way."""
    answer = _answered(status.status, status)
    only = {"properties": {"status": {"const": status.status}}}
    answer["content"][_JSON]["schema"] = {"allOf": [_ref(schemas.Status), only]}
    return answer


def _errors(*statuses: int) -> dict[str, Any]:
    found = {}
    for status in statuses:
        description, example = _ERRORS[status]
        headers = {"headers": _HEADERS[status]} if status in _HEADERS else {}
        found[str(status)] = {**_answered(description, schemas.Error(example)), **headers}
    return found


def _query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def _whole(one: Whole) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": one.least, "maximum": one.most, "default": one.missing}
    return _query(one.name, schema, one.description)


def _parameter(one: Whole | described.Text) -> dict[str, Any]:
    if isinstance(one, Whole):
        return _whole(one)
    example = {"example": one.example} if one.example is not None else {}
    required = one.place != "query"
    described_so = {"description": one.description} if one.description else {}
    return {"name": one.name, "in": one.place, "required": required, "schema": one.schema, **described_so, **example}


def _segment(name: str, example: str) -> dict[str, Any]:
    schema = msgspec.json.schema(schemas.Identifier)
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def _event_id() -> dict[str, Any]:
    schema = {"type": "string", "format": "uuid", "pattern": event.UUID_PATTERN}
    return {"name": "event_id", "in": "path", "required": True, "schema": schema, "example": event.EXAMPLE_UUID}


def _timestamp() -> dict[str, Any]:
    schema = {"type": "string", "format": "date-time", "pattern": event.TIMESTAMP_PATTERN}
    return _query("timestamp", schema, "The event's time, if it is known: it is found faster")


def _receipts() -> list[dict[str, Any]]:
    """Describe how a read waits for what was written."""
    about = (
        f"{receipts.HEADER} of a POST's reply, several with commas between, or several times: answer when all "
        "of it is counted"
    )
    schema = {"type": "string", "pattern": receipts.PATTERN}
    return [{**_query(AFTER, schema, about), "example": "0:0"}, _whole(WAIT)]


def _placed(answer: dict[str, Any]) -> dict[str, Any]:
    """Describe the receipt that a reply carries."""
    about = (
        "Where the topic has it: partition:offset, of a batch the last in each partition. A read takes it as `after`"
    )
    header = {"description": about, "schema": {"type": "string", "pattern": receipts.PATTERN}}
    return {**answer, "headers": {receipts.HEADER: header}}


def _signature() -> dict[str, Any]:
    return {
        "type": "http",
        "scheme": "HMAC-SHA256",
        "description": "Authorization: HMAC-SHA256 key=ID, t=UNIX_TIME, v1=SIGNATURE, where SIGNATURE is, in "
        "hexadecimal, the HMAC-SHA256 under the key's secret of UNIX_TIME, a full stop, and the body as it is sent. "
        f"UNIX_TIME may be {TOLERANCE_SECONDS} s off. For keys made with `gamemetrics keys create NAME --signing`.",
    }


# -- schemas -------------------------------------------------------------------------------------------------------


def _components() -> dict[str, Any]:
    """Describe the types, and of an event also what no type says: which fields need which."""
    _, found = msgspec.json.schema_components((*_PUBLISHED, *described.PUBLISHED), ref_template=_REF)
    scoring = event.load_scoring()
    found["Event"] |= {
        "dependentRequired": {"event_id": ["timestamp"]},
        "allOf": [_scored(event_type, rule) for event_type, rule in scoring.items()],
    }
    found["Asked"] |= {
        "oneOf": [{"required": ["ids"]}, {"required": ["code"]}],
        "anyOf": [
            {"properties": {"preview": {"const": True}}, "required": ["preview"]},
            {"properties": {"reason": {"pattern": r"\S"}}, "required": ["reason"]},
        ],
    }
    needed = [f" Of {kind}, {rule.field} is required." for kind, rule in scoring.items() if rule.default is None]
    found["Event"]["properties"]["data"]["description"] += "".join(needed)
    return found


def _scored(event_type: str, rule: event.ScoreRule) -> dict[str, Any]:
    """Say what data must hold for one type that scores."""
    score = {"type": "integer", "minimum": -event.MAX_SCORE, "maximum": event.MAX_SCORE}
    data: dict[str, Any] = {"properties": {rule.field: score}}
    then: dict[str, Any] = {"properties": {"data": data}}
    if rule.default is None:
        data["required"] = [rule.field]
        then["required"] = ["data"]
    return {"if": {"properties": {"event_type": {"const": event_type}}}, "then": then}
