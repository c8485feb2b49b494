"""GET /openapi.json: the API in OpenAPI 3.1, with an example of everything and every error."""

from typing import Any, Final

import orjson

from pipeline.api.boards.get_boards import MAX_AROUND, MAX_LIMIT, MAX_OFFSET
from pipeline.api.events.post_batch import MAX_BYTES, MAX_EVENTS
from pipeline.api.openapi_parts import (
    answered,
    batch_result,
    board,
    errors,
    neighbourhood,
    page,
    place,
    player,
    query,
    segment,
    signature_scheme,
    statistics,
)
from pipeline.contract import event
from pipeline.contract.boards import ALLTIME, PERIODS

EXAMPLE_EVENT: Final = {
    "event_type": "player_score",
    "player_id": "player-test-001",
    "game_id": "game-test-001",
    "timestamp": "2024-01-15T10:35:00Z",
    "data": {"score": 1500},
}
_WRITERS: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}, {"signature": []}, {}]
_ID: Final = "550e8400-e29b-41d4-a716-446655440000"


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
            "security": [{"bearer": []}, {"apiKey": []}, {}],
            "paths": {**_write_paths(), **_read_paths(), **_service_paths()},
            "components": {
                "securitySchemes": {
                    "bearer": {"type": "http", "scheme": "bearer"},
                    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                    "signature": signature_scheme(),
                },
                "schemas": {
                    "Event": _event(),
                    "Accepted": _accepted(),
                    "BatchResult": batch_result(),
                    "Statistics": statistics(),
                    "Board": board(),
                    "Place": place(),
                    "Error": _error(),
                },
            },
        }
    )


def _write_paths() -> dict[str, Any]:
    event_body = {"schema": {"$ref": "#/components/schemas/Event"}, "example": EXAMPLE_EVENT}
    lines = {"schema": {"type": "string"}, "example": orjson.dumps(EXAMPLE_EVENT).decode() + "\n"}
    events = {
        "schema": {
            "type": "array",
            "items": {"$ref": "#/components/schemas/Event"},
            "minItems": 1,
        },
        "example": [EXAMPLE_EVENT],
    }
    return {
        "/api/v1/events": {
            "post": {
                "operationId": "postEvent",
                "security": _WRITERS,
                "summary": "Send one event",
                "description": "To make a retry safe, set event_id and timestamp; then send the event again, as it "
                "was, until a 200. A body may be compressed: Content-Encoding: gzip or zstd.",
                "requestBody": {"required": True, "content": {"application/json": event_body}},
                "responses": {
                    "200": answered("Kafka has the event", "Accepted", {"status": "success", "event_id": _ID}),
                    **errors(400, 401, 403, 408, 413, 415, 429, 431, 503),
                },
            }
        },
        "/api/v1/events/batch": {
            "post": {
                "operationId": "postEvents",
                "security": _WRITERS,
                "summary": f"Send up to {MAX_EVENTS} events of {MAX_BYTES >> 20} MiB in all",
                "description": "A JSON array, or NDJSON; gzip or zstd, if Content-Encoding says so. Each event is "
                "judged for itself. event_ids has an entry for each event in its order, null where it was rejected. "
                "A 503 with unconfirmed says which events Kafka did not confirm; those may have been stored or not.",
                "requestBody": {
                    "required": True,
                    "content": {"application/json": events, "application/x-ndjson": lines},
                },
                "responses": {
                    "200": answered(
                        "Kafka has the events that were not rejected",
                        "BatchResult",
                        {
                            "accepted": 1,
                            "rejected": [{"index": 1, "error": "player_id: required"}],
                            "event_ids": [_ID, None],
                        },
                    ),
                    **errors(400, 401, 403, 408, 413, 415, 429, 431, 503),
                },
            }
        },
    }


def _read_paths() -> dict[str, Any]:
    day = query("date", {"type": "string", "format": "date"}, "A day in UTC, or any day of the week; missing: today")
    period = query("period", {"enum": list(PERIODS), "default": ALLTIME.name}, "Which board")
    failures = errors(400, 401, 403, 404, 431, 503)
    return {
        "/api/v1/players/{player_id}/stats": {
            "get": {
                "operationId": "getStatistics",
                "summary": "A player's statistics",
                "parameters": [segment("player_id", "player-test-001")],
                "responses": {"200": answered("Found", "Statistics", player()), **failures},
            }
        },
        "/api/v1/leaderboards/{game_id}": {
            "get": {
                "operationId": "getBoard",
                "summary": "A page of a board",
                "description": "Highest score first; of equal scores, the greater player_id in byte order first.",
                "parameters": [
                    segment("game_id", "game-test-001"),
                    period,
                    day,
                    query("limit", _whole(1, MAX_LIMIT, 10), "How many places"),
                    query("offset", _whole(0, MAX_OFFSET, 0), "How many places to pass over"),
                ],
                "responses": {"200": answered("The page", "Board", page()), **errors(400, 401, 403, 431, 503)},
            }
        },
        "/api/v1/leaderboards/{game_id}/players/{player_id}": {
            "get": {
                "operationId": "getPlace",
                "summary": "A player's place on a board, and its neighbours",
                "parameters": [
                    segment("game_id", "game-test-001"),
                    segment("player_id", "player-test-001"),
                    period,
                    day,
                    query("around", _whole(0, MAX_AROUND, 5), "How many neighbours on either side"),
                ],
                "responses": {
                    "200": answered("Found", "Place", neighbourhood()),
                    **failures,
                },
            }
        },
    }


def _service_paths() -> dict[str, Any]:
    text = {"content": {"text/plain": {"schema": {"type": "string"}}}}
    return {
        "/health/live": {
            "get": {
                "operationId": "getLive",
                "summary": "Whether the process works",
                "security": [],
                "responses": {"200": _status("live")},
            }
        },
        "/health/ready": {
            "get": {
                "operationId": "getReady",
                "summary": "Whether events would be accepted",
                "security": [],
                "responses": {"200": _status("ready"), "503": _status("unavailable")},
            }
        },
        "/metrics": {
            "get": {
                "operationId": "getMetrics",
                "summary": "Metrics for Prometheus",
                "security": [],
                "responses": {"200": {"description": "Prometheus' text format", **text}},
            }
        },
    }


def _whole(least: int, most: int, missing: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": least, "maximum": most, "default": missing}


def _status(status: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": status}, "error": {"type": "string"}},
    }
    return {"description": status, "content": {"application/json": {"schema": schema, "example": {"status": status}}}}


def _event() -> dict[str, Any]:
    identifier = {"type": "string", "minLength": 1, "maxLength": event.MAX_ID_CHARACTERS, "pattern": event.ID_PATTERN}
    return {
        "type": "object",
        "required": ["event_type", "player_id", "game_id"],
        "additionalProperties": False,
        "dependentRequired": {"event_id": ["timestamp"]},
        "allOf": [_scored(event_type, rule) for event_type, rule in event.load_scoring().items()],
        "properties": {
            "event_type": {"type": "string", "pattern": event.EVENT_TYPE_PATTERN, "examples": ["player_score"]},
            "player_id": {**identifier, "examples": ["player-test-001"]},
            "game_id": {**identifier, "examples": ["game-test-001"]},
            "timestamp": {
                "type": "string",
                "format": "date-time",
                "pattern": event.TIMESTAMP_PATTERN,
                "description": "RFC 3339 with offset, from the year 2000 to 24 hours ahead; missing: the server's time",
                "examples": ["2024-01-15T10:35:00Z"],
            },
            "event_id": {
                "type": "string",
                "format": "uuid",
                "pattern": event.UUID_PATTERN,
                "description": "Missing: the server makes a UUIDv7. With it, timestamp is required",
            },
            "data": {
                "type": "object",
                "description": f"Missing: {{}}. The whole event has at most {event.MAX_EVENT_BYTES} bytes and "
                f"{event.MAX_NESTING} levels; no NUL, and numbers are finite. Of player_score, score is required.",
            },
        },
    }


def _scored(event_type: str, rule: event.ScoreRule) -> dict[str, Any]:
    """Say what data must hold for one type that scores."""
    score = {"type": "integer", "minimum": -event.MAX_SCORE, "maximum": event.MAX_SCORE}
    data: dict[str, Any] = {"properties": {rule.field: score}}
    then: dict[str, Any] = {"properties": {"data": data}}
    if rule.default is None:
        data["required"] = [rule.field]
        then["required"] = ["data"]
    return {"if": {"properties": {"event_type": {"const": event_type}}}, "then": then}


def _accepted() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["status", "event_id"],
        "properties": {"status": {"const": "success"}, "event_id": {"type": "string", "format": "uuid"}},
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "What is wrong, with the field's or parameter's name first"},
            "event_id": {"type": "string", "format": "uuid", "description": "503 unconfirmed: send it again with this"},
            "timestamp": {"type": "string", "format": "date-time", "description": "503 unconfirmed: and with this"},
        },
    }
