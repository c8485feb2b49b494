"""What a call asks of a key: a scope, and the games that the call is about.

The edge's table of routes gives each call its right, and refuses by it before the call is made. A call without one
cannot be written down (`edge.Route`), so that the next one does not forget it.
"""

from dataclasses import dataclass
from typing import Literal

from pipeline.api.access.keyring import Caller, Scope
from pipeline.api.http.replies import Refusal

About = Literal[
    "the game in the path", "the games in the body", "the games of the key", "the game of the event", "every game"
]
"""Which games a call touches. Of those in the body each event is judged for itself, with `game_fault`; if it is
those of the key, the answer holds what that key may see (`api.refusals.shared`); of what is found to be another game's,
`hide_other_games` says no more than of what is not there."""


@dataclass(frozen=True, slots=True)
class Right:
    """A scope, over some games; `page`: a browser's page asks, and `origins` judges which page it is."""

    scope: Scope
    about: About
    page: bool = False


def game_fault(caller: Caller, game_id: str) -> str:
    """Return why a key may not touch a game; nothing if it may."""
    if caller.games is None or game_id in caller.games:
        return ""
    return f"game_id: the key {caller.name} may not touch this game"


def check_game(caller: Caller, game_id: str) -> None:
    """Raise Refusal (403) for a game that the key may not touch."""
    if fault := game_fault(caller, game_id):
        raise Refusal(403, fault, field="game_id")


def check_every_game(caller: Caller) -> None:
    """Raise Refusal (403) for a key that is limited to some games."""
    if caller.games is not None:
        raise Refusal(403, f"this is counted over all games, and the key {caller.name} is limited to some")


def hide_other_games(caller: Caller, game_id: str | None) -> None:
    """Raise Refusal (404) for an event of a game that the key may not touch, or of nobody knows which."""
    if caller.games is not None and (game_id is None or game_id not in caller.games):
        raise Refusal(404, f"event_id: no such event of the games that the key {caller.name} is limited to")
