"""Sums that are owed, and the round over what is old: some pages in each step, in its snapshot.

What a step's records touched is held to what was proven and what is new (`sums`). Whom that does not clear is owed a
recount of all events; whom that does not clear either differs.
"""

from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Any, Final

from pipeline.verify.board_pages import DAYS, SETTLED
from pipeline.verify.checkpoints import Checkpoints, ProofState
from pipeline.verify.report import Report
from pipeline.verify.sums import Players, Sums

PAGE_EVENTS: Final = 60_000
PAGE_PLACES: Final = 20_000
SUMS_SECONDS: Final = 1.5
"""How long a transaction goes on with sums that are owed: it is begun anew after that."""

_PARTS: Final = ("players", "days", "settled")
"""What a round over what is old goes through: players' events and sums, the boards of days, the settled scores."""

_NAMED: Final = 500


class Rounds:
    """The sums of a group, in the caller's steps.

    `rolled`: how many players or places were on the last page; `ended`: whether it was the last of a round.
    """

    def __init__(self, checkpoints: Checkpoints, sums: Sums, report: Report) -> None:
        self._checkpoints = checkpoints
        self._sums = sums
        self._report = report
        self.rolled = 0
        self.ended = False

    def touched(self, runs: Sequence[tuple[datetime, datetime]], players: list[str], standing: ProofState) -> None:
        """Hold the sums of a piece's players to what was proven and what is new."""
        left_out = set(players) - set(swept(players, standing)) | self._checkpoints.suspects_among(players)
        off = self._sums.touched(runs, standing.level_at, left_out)
        self._report.compare("players", len(players) - len(left_out))
        self._checkpoints.suspect(off, differs=False)

    def go_on(self, standing: ProofState, pages: int) -> bool:
        """Recount players that are owed, and go on with the sweep, for a while; returns whether more is left.

        After that go on with the round over what is old: so many pages, and all of the first.
        """
        until = monotonic() + SUMS_SECONDS
        swept_to, first_round = standing.swept_to, standing.round_seconds is None
        while monotonic() < until:
            if named := self._checkpoints.suspects(_NAMED, differing=False):
                wrong = self._recount(Players(named=tuple(named)))
                self._checkpoints.clear(set(named) - wrong)
            elif swept_to is not None:
                page = self._sums.page(swept_to, PAGE_EVENTS)
                self._recount(page)
                swept_to = page.upto
                self._checkpoints.swept(swept_to)
            elif first_round or pages:
                self.ended = self._roll()
                first_round = first_round and not self.ended
                pages = max(0, pages - 1)
            else:
                return False
        return swept_to is not None or first_round or self._checkpoints.count_suspects(differing=False) > 0

    def _roll(self) -> bool:
        """Look at one page of what is old: that it still is what was proven; returns whether a round has ended."""
        standing = self._checkpoints.standing()
        at = dict(standing.rolled_to) if standing is not None else {}
        part = at.pop("part", "players")
        last: dict[str, Any] | None
        if part == "players":
            page = self._sums.page(at.get("player", ""), PAGE_EVENTS)
            off, changed = self._sums.recount(page), self._sums.changed(page)
            self._suspect_new(changed, changed=True)
            self.rolled = self._sums.recounted()
            last = {"player": page.upto} if page.upto is not None else None
        else:
            self.rolled = PAGE_PLACES
            off, last = self._sums.boards_off(DAYS if part == "days" else SETTLED, at, PAGE_PLACES)
        self._suspect_new(off)
        if last is not None:
            self._checkpoints.rolled({"part": part, **last}, ended=False)
            return False
        following = _PARTS[(_PARTS.index(part) + 1) % len(_PARTS)]
        self._checkpoints.rolled({"part": following}, ended=following == _PARTS[0])
        return following == _PARTS[0]

    def _suspect_new(self, players: set[str], *, changed: bool = False) -> None:
        known = self._checkpoints.suspects_among(sorted(players))
        self._checkpoints.suspect(players - known, differs=True, changed=changed)

    def altered(self, players: Sequence[str]) -> set[str]:
        """Return those of whom what was proven is not there any more, in the caller's snapshot."""
        named = Players(named=tuple(players))
        self._sums.recount(named, moments=True)
        return self._sums.altered(named)

    def _recount(self, players: Players) -> set[str]:
        """Sum players up anew, and keep that as proven of those with whom all is well; returns the others."""
        known = self._sums.any_proven(players)
        wrong = self._sums.recount(players, moments=known)
        self._report.compare("players", self._sums.recounted())
        # What is kept now is what rounds ask for from here on: what was altered before would never be found.
        altered = self._sums.altered(players) if known else set()
        # Of whom a record differs, what there is now is none of that.
        out = wrong | altered | self._checkpoints.differing(players.where())
        self._sums.leave_out(out)
        self._sums.replace(players, out)
        self._checkpoints.suspect(wrong, differs=True)
        self._checkpoints.suspect(altered, differs=True, changed=True)
        return wrong | altered


def swept(players: list[str], standing: ProofState) -> list[str]:
    """Return the players whose sums were proven once. By bytes, as PostgreSQL orders them here."""
    if standing.swept_to is None:
        return players
    upto = standing.swept_to.encode()
    return [player for player in players if player.encode() <= upto]
