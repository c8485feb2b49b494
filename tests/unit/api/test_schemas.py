"""The document and the types it is made of: they are the contract's, and what the fast code reads is the same."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from pipeline.api import schemas
from pipeline.api.console import schemas as console
from pipeline.api.edge import CALLS
from pipeline.api.events import short_cut
from pipeline.api.openapi import document
from pipeline.contract.event import CLIENT_FIELDS, RECORD_FIELDS, Origin, load_scoring, parse_edge, parse_timestamp
from pipeline.epoch import layout, typed
from tests.ticks import tick_at

DOCUMENT = json.loads(document())
SCHEMAS = DOCUMENT["components"]["schemas"]


def parts(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the document."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from parts(child)


def test_whoever_reads_an_event_knows_the_contracts_fields() -> None:
    needed = ["event_type", "player_id", "game_id"]
    assert set(schemas.Event.__struct_fields__) == set(short_cut._Plain.__struct_fields__) == CLIENT_FIELDS  # noqa: SLF001 - it is what is tested
    assert set(typed._Typed.__struct_fields__) == set(RECORD_FIELDS)  # noqa: SLF001
    assert SCHEMAS["Event"]["required"] == needed
    assert [one.name for one in msgspec.structs.fields(short_cut._Plain) if one.required] == needed  # noqa: SLF001
    markers = (layout._START, *layout._MARKERS.values())  # noqa: SLF001
    assert re.findall(r'"(\w+)":', "".join(markers)) == list(RECORD_FIELDS)


def test_the_edge_writes_the_contracts_fields_in_their_order() -> None:
    """Both of its ways: the layout lane knows that order, and leaves what has another to slower ones."""
    asked, tick = short_cut.ShortCut(load_scoring()), tick_at(1_768_473_000_000)
    raw = b'{"data":{},"game_id":"g","player_id":"p","event_type":"login"}'
    plain, exact = asked.accept_plain(raw, tick), asked.accept_exact(raw, tick)
    assert plain is not None
    assert list(json.loads(plain.value)) == list(json.loads(exact.value)) == list(RECORD_FIELDS)


def test_the_documents_event_is_one_that_the_judge_takes() -> None:
    example = DOCUMENT["paths"]["/api/v1/events"]["post"]["requestBody"]["content"]["application/json"]["example"]
    raw = json.dumps(example).encode()
    now = parse_timestamp("2026-01-15T10:30:00Z")
    assert parse_edge(raw, Origin(uuid.UUID(int=1), now), load_scoring()).score == example["data"]["score"]


def test_every_reference_is_to_a_schema_that_is_there() -> None:
    references = {one["$ref"].removeprefix("#/components/schemas/") for one in parts(DOCUMENT) if "$ref" in one}
    assert references == set(SCHEMAS)


def test_every_reply_has_an_example_that_is_of_its_schema() -> None:
    checked = 0
    for reply in parts(DOCUMENT["paths"]):
        for media in reply.get("content", {}).values() if "description" in reply else ():
            schema = media["schema"]
            reference = schema.get("$ref") or schema.get("allOf", [{}])[0].get("$ref")
            if reference is None:
                assert schema == {"type": "string"}
                continue
            name = reference.rpartition("/")[2]
            kind = getattr(schemas, name, None) or getattr(console, name)
            example = media["example"]
            assert msgspec.to_builtins(msgspec.convert(example, kind)) == example
            checked += 1
    assert checked > 30


def test_every_call_is_described_with_its_method() -> None:
    described = {path: list(methods) for path, methods in DOCUMENT["paths"].items() if path.startswith("/api/")}
    assert described == {route.template: ["post" if route.post is not None else "get"] for route in CALLS}


@pytest.mark.parametrize("status", [400, 401, 403, 408, 413, 415, 429, 431, 503])
def test_every_error_of_a_post_is_described(status: int) -> None:
    for path in ("/api/v1/events", "/api/v1/events/batch"):
        reply = DOCUMENT["paths"][path]["post"]["responses"][str(status)]
        assert reply["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Error"}
        assert ("Retry-After" in reply.get("headers", {})) == (status in {429, 503})
        assert ("RateLimit-Limit" in reply.get("headers", {})) == (status == 429)
