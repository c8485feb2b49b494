"""The application behind the HTTP port: which call goes where, who may make it, and how large it may be."""

import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pipeline.api.access.keyring import ANYONE, Caller, Scope
from pipeline.api.access.rights import Right, check_every_game, check_game
from pipeline.api.boards.get_boards import get_board, get_place, get_statistics
from pipeline.api.boards.get_trail import get_trail
from pipeline.api.console.audit import get_audit
from pipeline.api.console.letters import get_letter, get_letters
from pipeline.api.console.pages import Pages
from pipeline.api.console.players import get_days, get_games, get_player
from pipeline.api.console.redrive import MAX_BODY, post_drop, post_redrive
from pipeline.api.console.stream import get_history, get_overview, get_stream
from pipeline.api.console.topic import get_records, get_topic
from pipeline.api.context import Context
from pipeline.api.docs import Documentation
from pipeline.api.events.post_batch import MAX_BYTES, post_batch
from pipeline.api.events.post_event import post_event
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal, encode, encode_json
from pipeline.api.openapi import document
from pipeline.api.parameters import read_segment
from pipeline.api.refusals.get_refusals import get_refusals
from pipeline.contract.event import MAX_EVENT_BYTES

Post = Callable[[Context, Connection, Head, bytes, Caller], None]
Page = tuple[int, bytes]
Get = Callable[[Context, Connection, Head, Caller], Coroutine[Any, Any, None]]
_GAME: Final = "{game_id}"
_SEND: Final = Right("write", "the games in the body")
_READ_GAME: Final = Right("read", "the game in the path")
_LOOK: Final = Right("read", "every game", page=True)
_CHANGE: Final = Right("admin", "every game", page=True)
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


_TOLD_LATER: Final[frozenset[str]] = frozenset(
    {"the games in the body", "the games of the key", "the game of the event"}
)
"""What a call touches that its head does not tell."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path: its template, which names it in metrics, what answers each method, and what a key must be allowed.

    A page is for everybody. Raises ValueError for a call without a right, or with one that its path cannot tell.
    """

    template: str
    post: Post | None = None
    get: Get | None = None
    page: Callable[[Head], Page] | None = None
    max_body: int = 0
    right: Right | None = None

    def __post_init__(self) -> None:
        if (self.right is None) != (self.page is not None):
            raise ValueError(f"{self.template}: a call needs a right, and a page has none")
        if self.right is not None and (self.right.about == "the game in the path") != (_GAME in self.template):
            raise ValueError(f"{self.template}: say what the right is about")
        if self.right is not None and self.right.about == "the games in the body" and self.post is None:
            raise ValueError(f"{self.template}: only a POST has games in its body")

    def check(self, head: Head, caller: Caller) -> None:
        """Raise Refusal if the key may not make this call, for all that its head tells."""
        if self.right is None or self.right.about in _TOLD_LATER:
            return
        if self.right.about == "every game":
            check_every_game(caller)
        else:
            game = self.template.split("/")[1:].index(_GAME)
            check_game(caller, read_segment(head, game, "game_id"))

    @property
    def scope(self) -> Scope:
        """Return the scope that a key needs. Raises ValueError for a page, which needs no key."""
        if self.right is None:
            raise ValueError(f"{self.template} takes no key")
        return self.right.scope

    @property
    def allow(self) -> str:
        """Return the value of an Allow header."""
        return "POST" if self.post is not None else "GET, HEAD"


CALLS: Final = (
    Route("/api/v1/events", post=post_event, max_body=MAX_EVENT_BYTES, right=_SEND),
    Route("/api/v1/events/batch", post=post_batch, max_body=MAX_BYTES, right=_SEND),
    Route("/api/v1/players/{player_id}/stats", get=get_statistics, right=Right("read", "every game")),
    Route("/api/v1/leaderboards/{game_id}", get=get_board, right=_READ_GAME),
    Route("/api/v1/leaderboards/{game_id}/players/{player_id}", get=get_place, right=_READ_GAME),
    Route("/api/v1/refusals", get=get_refusals, right=Right("read", "the games of the key")),
    Route("/api/v1/console/overview", get=get_overview, right=_LOOK),
    Route("/api/v1/console/history", get=get_history, right=_LOOK),
    Route("/api/v1/console/stream", get=get_stream, right=_LOOK),
    Route("/api/v1/console/games", get=get_games, right=_LOOK),
    Route("/api/v1/console/games/{game_id}/days", get=get_days, right=Right("read", "the game in the path", page=True)),
    Route("/api/v1/console/players/{player_id}", get=get_player, right=_LOOK),
    Route("/api/v1/console/dead-letters", get=get_letters, right=_LOOK),
    Route("/api/v1/console/dead-letters/redrive", post=post_redrive, max_body=MAX_BODY, right=_CHANGE),
    Route("/api/v1/console/dead-letters/drop", post=post_drop, max_body=MAX_BODY, right=_CHANGE),
    Route("/api/v1/console/dead-letters/{id}", get=get_letter, right=_LOOK),
    Route("/api/v1/console/audit", get=get_audit, right=_LOOK),
    Route("/api/v1/console/topic", get=get_topic, right=_LOOK),
    Route("/api/v1/console/topic/{partition}", get=get_records, right=_LOOK),
    Route("/api/v1/events/{player_id}/{event_id}", get=get_trail, right=Right("read", "the game of the event")),
)
"""What takes a key, and what that must be allowed."""


def monitoring_routes(context: Context) -> list[Route]:
    """Return what METRICS_PORT serves, and PORT as well."""
    return [
        Route("/health/live", page=lambda _: (200, encode_json(200, {"status": "live"}))),
        Route("/health/ready", page=lambda _: _ready(context)),
        Route("/metrics", page=lambda _: (200, encode(200, context.metrics.expose(), _METRICS_TYPE))),
    ]


def public_routes(context: Context) -> list[Route]:
    """Return what PORT serves."""
    described, viewer, pages = encode(200, document()), Documentation(), Pages()
    return [
        *monitoring_routes(context),
        *CALLS,
        Route("/openapi.json", page=lambda _: (200, described)),
        Route("/docs", page=viewer.answer),
        Route("/docs/{file}", page=viewer.answer),
        Route("/", page=pages.answer),
        Route("/console/{file}", page=pages.answer),
    ]


class Edge:
    """Answers requests; a connection's application."""

    def __init__(self, context: Context, routes: list[Route]) -> None:
        self._context = context
        self._exact = {route.template.encode(): route for route in routes if "{" not in route.template}
        self._replies = {path: context.metrics.replies(route.template) for path, route in self._exact.items()}
        self._patterns = [
            (re.compile(re.sub(r"\{\w+\}", "[^/]*", route.template).encode() + rb"\Z"), route)
            for route in routes
            if "{" in route.template
        ]

    def body_limit(self, head: Head, peer: str) -> int:
        """Return how many bytes the request's body may have. Raises Refusal if it is refused by its head alone."""
        route = self._route(head)
        if head.method == "POST" and route.post is not None:
            self._caller(route, head, peer, None)
        return route.max_body

    def call(self, connection: Connection, head: Head, body: bytes) -> None:
        """Answer a request, now or later."""
        try:
            route = self._exact.get(head.path) or self._route(head)
            if route.post is not None and head.method == "POST":
                caller = self._caller(route, head, connection.peer, body)
                if len(body) > route.max_body:
                    refusal = Refusal(413, f"the body is longer than {route.max_body} bytes")
                    self._context.refusals.note_refusal(caller, b"", refusal)
                    raise refusal
                route.post(self._context, connection, head, body, caller)
                return
            self._call_get(route, connection, head, body)
        except Refusal as refusal:
            connection.refuse(refusal)

    def turned_away(self, head: Head, refusal: Refusal) -> None:
        """Note a body that is too long, if a key sent it; a signature says whose it is only together with its body."""
        route = self._exact.get(head.path)
        if head.method != "POST" or route is None or route.post is None or head.signature:
            return
        if refusal.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            caller = self._context.keyring.known(head.credential)
            if caller is not None:
                self._context.refusals.note_refusal(caller, b"", refusal)

    def answered(self, head: Head | None, status: int, seconds: float) -> None:
        """Count a reply under its route; unknown paths share one name."""
        replies = None if head is None else self._replies.get(head.path)
        if replies is None:
            route = None if head is None else self._matching(head.path)
            replies = self._context.metrics.replies(route.template if route is not None else "none")
        replies.count(status, seconds)

    def _call_get(self, route: Route, connection: Connection, head: Head, body: bytes) -> None:
        if head.method not in {"GET", "HEAD"} or (route.page is None and route.get is None):
            raise Refusal(405, f"{head.method} is not allowed here", [("Allow", route.allow)])
        if body:
            raise Refusal(400, "a GET has no body")
        if route.page is not None:
            connection.reply(*route.page(head))
        elif route.get is not None:
            caller = self._caller(route, head, connection.peer, body)
            if caller is ANYONE and self._context.keyring.private:
                self._context.console.origins.check_host(head)
            self._context.spawn(connection, route.get(self._context, connection, head, caller))

    def _caller(self, route: Route, head: Head, peer: str, body: bytes | None) -> Caller:
        """Return who makes a call, and may; `body` is None while it is still arriving. Raises Refusal."""
        scope = route.scope
        if head.signature:
            caller = self._context.keyring.signer(head.signature, body, scope, peer, time.time())
        else:
            caller = self._context.keyring.caller(head.credential, scope, peer)
        if caller.games is not None:
            route.check(head, caller)
        if route.right is not None and route.right.page:
            self._context.console.origins.check(head, keyless=caller is ANYONE, changes=scope == "admin")
        elif head.from_page and caller is ANYONE and body is not None and route.post is not None:
            if self._context.keyring.private:
                self._context.console.origins.check_host(head)
            self._context.console.origins.check_site(head)
        return caller

    def _route(self, head: Head) -> Route:
        route = self._exact.get(head.path) or self._matching(head.path)
        if route is None:
            raise Refusal(404, "no such path; /docs lists them")
        return route

    def _matching(self, path: bytes) -> Route | None:
        return next((route for pattern, route in self._patterns if pattern.match(path)), None)


def _ready(context: Context) -> Page:
    fault = "the API keys are not loaded yet" if context.keyring.pending else context.producer.fault
    if fault:
        return 503, encode_json(503, {"status": "unavailable", "error": fault})
    return 200, encode_json(200, {"status": "ready"})
