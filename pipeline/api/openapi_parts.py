"""The pieces of the OpenAPI document that repeat: errors, parameters, the shapes of replies."""

from datetime import date
from typing import Any, Final

from pipeline.api.access.signatures import TOLERANCE_S
from pipeline.contract import event
from pipeline.contract.boards import ALLTIME, PERIODS

_ERRORS: Final = {
    400: ("The request breaks the contract; the error names the field", "player_id: required"),
    401: ("No API key or signature, or a wrong one", "the API key is not known, or is revoked"),
    403: ("The key may not do this, or not for this game", "the key dashboard may not write"),
    404: ("Not found", "player_id: this player is not on this board"),
    408: ("The request did not arrive in time", "the request's body did not arrive in time"),
    413: ("Too large", "the body is longer than 65536 bytes"),
    415: (
        "A media type or content coding that is not taken here; the error names those that are",
        "Content-Encoding must be gzip, zstd or identity",
    ),
    429: ("Over the rate limit", "over the rate limit of this key; nothing was accepted"),
    431: ("The head of the request is too large", "the head of a request has at most 8192 bytes"),
    503: (
        "Not now; the error says whether anything may have been accepted",
        "too much is in flight; nothing was accepted",
    ),
}
_DAY: Final = date(2024, 1, 15)
_RETRY_AFTER: Final = {
    "Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer"}, "required": True},
}
_LIMITS: Final = {
    "RateLimit-Limit": {"description": "Events at once", "schema": {"type": "integer"}},
    "RateLimit-Remaining": {"description": "Events left now", "schema": {"type": "integer"}},
    "RateLimit-Reset": {"description": "Seconds until all are left", "schema": {"type": "integer"}},
}


def errors(*statuses: int) -> dict[str, Any]:
    """Describe the replies of these statuses."""
    found: dict[str, Any] = {}
    for status in statuses:
        description, example = _ERRORS[status]
        content = {"schema": {"$ref": "#/components/schemas/Error"}, "example": {"error": example}}
        found[str(status)] = {"description": description, "content": {"application/json": content}}
        if status in {429, 503}:
            found[str(status)]["headers"] = {**_RETRY_AFTER, **(_LIMITS if status == 429 else {})}  # noqa: PLR2004
    return found


def signature_scheme() -> dict[str, Any]:
    """Describe how a request is signed."""
    return {
        "type": "http",
        "scheme": "HMAC-SHA256",
        "description": "Authorization: HMAC-SHA256 key=ID, t=UNIX_TIME, v1=SIGNATURE, where SIGNATURE is, in "
        "hexadecimal, the HMAC-SHA256 under the key's secret of UNIX_TIME, a full stop, and the body as it is sent. "
        f"UNIX_TIME may be {TOLERANCE_S} s off. For keys made with `gamemetrics keys create NAME --signing`.",
    }


def answered(description: str, schema: str, example: object) -> dict[str, Any]:
    """Describe a reply of one of the document's schemas."""
    content = {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}
    return {"description": description, "content": {"application/json": content}}


def query(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Describe a parameter of the query."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": description}


def segment(name: str, example: str) -> dict[str, Any]:
    """Describe a parameter of the path."""
    schema = {"type": "string", "minLength": 1, "maxLength": event.MAX_ID_CHARACTERS, "pattern": event.ID_PATTERN}
    return {"name": name, "in": "path", "required": True, "schema": schema, "example": example}


def player() -> dict[str, Any]:
    """Return an example of a player's statistics."""
    return {
        "player_id": "player-test-001",
        "total_events": 2,
        "events": {"player_level_up": 1, "player_score": 1},
        "last_event": "2024-01-15T10:35:00.000000Z",
    }


def page() -> dict[str, Any]:
    """Return an example of a page of a board."""
    return {
        "game_id": "game-test-001",
        "period": ALLTIME.name,
        "total": 1,
        "entries": [{"rank": 1, "player_id": "player-test-001", "score": 1500}],
        "next_offset": None,
    }


def neighbourhood() -> dict[str, Any]:
    """Return an example of a player's place."""
    return {
        "game_id": "game-test-001",
        "period": ALLTIME.name,
        "player_id": "player-test-001",
        "rank": 1,
        "score": 1500,
        "total": 1,
        "neighbours": [{"rank": 1, "player_id": "player-test-001", "score": 1500}],
    }


def batch_result() -> dict[str, Any]:
    """Describe the reply to a batch."""
    reference = {
        "event_id": {"type": "string", "format": "uuid"},
        "timestamp": {"type": "string", "format": "date-time"},
    }
    return _object(
        {
            "accepted": {"type": "integer"},
            "rejected": _array(_object({"index": {"type": "integer"}, "error": {"type": "string"}})),
            "event_ids": _array({"type": ["string", "null"], "format": "uuid"}),
            "error": {"type": "string"},
            "unconfirmed": _array(_object({"index": {"type": "integer"}, **reference})),
        },
        optional=("error", "unconfirmed"),
    )


def statistics() -> dict[str, Any]:
    """Describe a player's statistics."""
    return _object(
        {
            "player_id": {"type": "string"},
            "total_events": {"type": "integer"},
            "events": {"type": "object", "additionalProperties": {"type": "integer"}},
            "last_event": {"type": ["string", "null"], "format": "date-time"},
        }
    )


def board() -> dict[str, Any]:
    """Describe a page of a board."""
    return _object(
        {
            "game_id": {"type": "string"},
            "period": {"type": "string", "description": " or ".join(period.label(_DAY) for period in PERIODS.values())},
            "total": {"type": "integer", "description": "How many players are on the board"},
            "entries": _array(_entry()),
            "next_offset": {
                "type": ["integer", "null"],
                "description": "Where the next page starts; null after the last",
            },
        }
    )


def place() -> dict[str, Any]:
    """Describe a player's place."""
    return _object(
        {
            "game_id": {"type": "string"},
            "period": {"type": "string"},
            "player_id": {"type": "string"},
            "rank": {"type": "integer", "minimum": 1},
            "score": {"type": "integer"},
            "total": {"type": "integer"},
            "neighbours": _array(_entry()),
        }
    )


def _entry() -> dict[str, Any]:
    return _object(
        {"rank": {"type": "integer", "minimum": 1}, "player_id": {"type": "string"}, "score": {"type": "integer"}}
    )


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _array(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}
