"""What became of an event, from what was found of it. Pure: the same findings tell the same trail."""

from datetime import date, datetime, timedelta
from typing import Final

from pipeline.contract.boards import PERIODS, Expiry, Period, board_key
from pipeline.contract.event import Scoring, format_timestamp, score_of
from pipeline.contract.offsets import Watermark
from pipeline.errors import EventError
from pipeline.trail.found import Asked, Found, FoundRecord, GroupStanding
from pipeline.trail.told import (
    Behind,
    Counted,
    Effects,
    Fate,
    Hop,
    LetterTold,
    RecordPlace,
    Scored,
    State,
    Step,
    Trail,
)

_MILLISECOND: Final = timedelta(milliseconds=1)


class Teller:
    """Tells trails under one scoring table and one expiry of boards."""

    def __init__(self, scoring: Scoring, expiry: Expiry) -> None:
        self._scoring = scoring
        self._expiry = expiry

    def tell(self, asked: Asked, found: Found, now: datetime) -> Trail:
        """Say what became of an event."""
        fate, summary = _fate(asked, found)
        timestamp = found.timestamp or asked.timestamp
        effects = self._effects(found)
        original = found.original
        return Trail(
            player_id=asked.player_id,
            event_id=str(asked.event_id),
            timestamp=format_timestamp(timestamp) if timestamp is not None else None,
            fate=fate,
            summary=summary,
            hops=_hops(found, fate, self._left_redis(found, now)),
            effects=effects,
            duplicate_of=RecordPlace(*original.position) if fate == "duplicate" and original is not None else None,
            dead_letter=_letter(found, fate),
            lag=_behind(found, now) if fate == "not_read" else None,
        )

    def _effects(self, found: Found) -> Effects:
        """Say what the event added to each projection whose group has counted it."""
        counted = {projection for group in found.groups if group.counted for projection in group.projections}
        kind, game, score = self._scored(found)
        if kind is None or game is None or found.timestamp is None:
            return Effects([], [])
        day, boards = found.timestamp.date(), list[Scored]()
        if score is not None:
            boards = [scored(game, period, day, score) for period in PERIODS.values()]
        return Effects(
            [Counted(kind, 1)] if "stats" in counted else [],
            boards if "leaderboard" in counted else [],
        )

    def _scored(self, found: Found) -> tuple[str | None, str | None, int | None]:
        """Return the event's type, its game and its score."""
        if found.row is not None:
            try:
                score = score_of(found.row.event_type, found.row.data, self._scoring)
            except EventError:  # by rules that came after it
                score = None
            return found.row.event_type, found.row.game_id, score
        event = found.record.event if found.record is not None else None
        return (event.event_type, event.game_id, event.score) if event is not None else (None, None, None)

    def _left_redis(self, found: Found, now: datetime) -> str:
        """Say which of the event's boards are not kept in Redis any more."""
        _, game, score = self._scored(found)
        if score is None or game is None or found.timestamp is None:
            return ""
        day = found.timestamp.date()
        gone = [
            board_key(game, period.label(day))
            for period in PERIODS.values()
            if not period.lives(day, self._expiry.of(period), now)
        ]
        return f"; {', '.join(gone)} only in PostgreSQL, its time in Redis has passed" if gone else ""


def scored(game: str, period: Period, day: date, score: int) -> Scored:
    """Tell what a score of a day added to one of its boards."""
    dated = (period.stamp_of(day), period.first_day(day).isoformat()) if period.dated else (None, None)
    return Scored(board_key(game, period.label(day)), score, game, period.name, *dated)


# -- fates ---------------------------------------------------------------------------------------------------------


def _fate(asked: Asked, found: Found) -> tuple[Fate, str]:
    letter, record = found.letter, found.record
    named = record is not None and record.position in asked.positions
    if letter is not None and (not found.counted or (named and record is not None and letter.is_of(record))):
        return "dead_letter", _letter_summary(found)
    if found.counted:
        return _counted(found, named=named)
    if record is not None:
        return _met(found, record)
    return _nowhere(asked, found)


def _counted(found: Found, *, named: bool) -> tuple[Fate, str]:
    record, original, also = found.record, found.original, _alike(found)
    behind = [group.id for group in found.groups if not group.counted and group.mark is not None]
    if named and record is not None and (original is None or record.position != original.position):
        which = _place(original) if original is not None else "a record that the topic has no more"
        if _unread(found, record):
            return "not_read", f"{_place(record)} is not read yet, and will count nothing: it is a copy of {which}."
        return "duplicate", f"{_place(record)} is a copy and counted nothing: {which} was counted in its place.{also}"
    waiting = f" Still to count it: {', '.join(behind)}." if behind else ""
    again = " It was a dead letter first, and was sent again." if found.letter is not None else ""
    return "counted", f"Counted once{_at(found)}.{again}{waiting}{also}"


def _met(found: Found, record: FoundRecord) -> tuple[Fate, str]:
    """Tell the fate of a record that no group has counted."""
    mark = _mark(found)
    if mark is None:
        return "not_read", f"Kafka has it at {_place(record)}, and no consumer has begun to read that."
    if record.offset >= mark.next_offset:
        return "not_read", (
            f"Kafka has it at {_place(record)}; the consumer stands at offset {mark.next_offset}, "
            f"{record.offset + 1 - mark.next_offset} records before it is counted."
        )
    if record.offset < mark.first_offset:
        return "not_read", (
            f"Kafka has it at {_place(record)}, before offset {mark.first_offset}, where the consumer began: "
            "it is never read."
        )
    if found.timestamp is not None and found.events_since is not None and found.timestamp < found.events_since:
        return "expired", (
            f"It was read from {_place(record)}; what it became is not kept: events are, "
            f"since {format_timestamp(found.events_since)}."
        )
    return "unknown", (
        f"{_place(record)} was read, and neither an event nor a dead letter is there of it: it was deleted, or lost. "
        "`gamemetrics verify` says which records are."
    )


def _nowhere(asked: Asked, found: Found) -> tuple[Fate, str]:
    moment = asked.timestamp or asked.made_at
    past_events = moment is not None and found.events_since is not None and moment < found.events_since
    past_log = moment is not None and found.log_since is not None and moment < found.log_since
    kept = [
        f"{what} since {format_timestamp(since)}"
        for what, since in (("events", found.events_since), ("the topic", found.log_since))
        if since is not None
    ]
    if past_events and past_log:
        return "expired", f"It is older than what is kept: {', '.join(kept)}."
    at_that_time = " at that time" if asked.timestamp is not None else ""
    return "unknown", (
        f"No such event of this player{at_that_time} is known: not among the events, not among the dead letters, "
        f"and not in the topic {found.searched}."
    )


def _letter_summary(found: Found) -> str:
    letter = found.letter
    assert letter is not None
    what = f"It is dead letter {letter.id} ({letter.code}), which counts nothing: {letter.error}."
    if found.counted:
        return f"{what} Sent again, it was counted."
    if letter.redriven_at is not None:
        return f"{what} It was sent again at {format_timestamp(letter.redriven_at)}."
    return f"{what} It was dropped." if letter.dropped_at is not None else what


def _letter(found: Found, fate: Fate) -> LetterTold | None:
    letter = found.letter
    return LetterTold(letter.id, letter.code, letter.error) if fate == "dead_letter" and letter is not None else None


def _behind(found: Found, now: datetime) -> Behind | None:
    record, mark = found.record, _mark(found)
    if record is None:
        return None
    waited = max(0.0, (now - record.moment).total_seconds()) if record.moment is not None else None
    first = mark.next_offset if mark is not None else 0
    return Behind(max(0, record.offset + 1 - first), waited)


def _unread(found: Found, record: FoundRecord) -> bool:
    mark = _mark(found)
    return mark is None or record.offset >= mark.next_offset


# -- hops ----------------------------------------------------------------------------------------------------------


def _hops(found: Found, fate: Fate, left_redis: str) -> list[Hop]:
    """Tell the way of the record that is asked about; each step's time counts from the one before that has one."""
    steps = [_acknowledged(found), _read(found, fate), _was_counted(found, fate), _in_redis(found, fate, left_redis)]
    hops, before = list[Hop](), None
    for hop, state, at, detail in steps:
        after = round((at - before) / _MILLISECOND, 3) if at is not None and before is not None else None
        hops.append(Hop(hop, state, format_timestamp(at) if at is not None else None, after, detail))
        before = at or before
    return hops


_Told = tuple[Step, State, datetime | None, str]


def _acknowledged(found: Found) -> _Told:
    record, letter = found.record, found.letter
    if record is not None:
        return "acknowledged", "done", record.moment, _place(record)
    if found.row is not None:
        gone = found.log_fault or "its record is not in the topic any more"
        return "acknowledged", "done", found.row.ingested_at, gone
    if letter is not None:
        partition, offset = letter.position
        return "acknowledged", "done", None, f"partition {partition}, offset {offset}"
    return "acknowledged", "none", None, found.log_fault or "no record of it was found"


def _read(found: Found, fate: Fate) -> _Told:
    mark = _mark(found)
    stands = f"{_teller(found).id} stands at offset {mark.next_offset}" if mark is not None else "nobody reads it yet"
    if fate == "not_read":
        return "read", "waiting", None, stands
    if fate in {"unknown", "expired"} and found.record is None:
        return "read", "none", None, ""
    # All of an epoch is read before its transaction begins, whose time its rows bear.
    if found.letter is not None and fate == "dead_letter":
        return "read", "done", found.letter.created_at, "by the epoch that began then"
    if found.row is not None and fate == "counted":
        return "read", "done", found.row.created_at, "by the epoch that began then"
    return "read", "done", None, stands


def _was_counted(found: Found, fate: Fate) -> _Told:
    if fate == "not_read":
        return "counted", "waiting", None, ""
    if fate != "counted":
        why = {"duplicate": "a copy of it was", "dead_letter": "it is a dead letter"}.get(fate, "")
        return "counted", "none", None, why
    row, left_out = found.row, [group for group in found.groups if not group.counted]
    details = [f"{group.id}: {_why_not(group, found.original)}" for group in left_out]
    state: State = "waiting" if left_out else "done"
    if row is None:
        return "counted", state, None, "; ".join(["in no table of events", *details])
    epoch = f"in the epoch of {format_timestamp(row.created_at)}"
    if row.committed_at is None:
        epoch += ", when its transaction began; its commit is not timed (track_commit_timestamp is off)"
    return "counted", state, row.committed_at or row.created_at, "; ".join([epoch, *details])


def _in_redis(found: Found, fate: Fate, left_redis: str) -> _Told:
    groups = [group for group in found.groups if group.counters]
    if fate == "not_read" and groups:
        return "redis", "waiting", None, ""
    if fate != "counted" or not groups:
        return "redis", "none", None, ""
    offset = found.original.offset if found.original is not None else None
    states = [_redis_state(group, offset) for group in groups]
    state: State = "waiting" if "waiting" in states else "none" if "none" in states else "done"
    stands = [
        group.redis_fault or f"Redis stands at offset {group.redis} for {group.id}"
        for group in groups
        if group.redis_fault or group.redis is not None
    ]
    return "redis", state, None, "; ".join(stands or ["Redis knows no offset"]) + left_redis


def _why_not(group: GroupStanding, original: FoundRecord | None) -> str:
    """Say why a group has not counted what another has."""
    if group.mark is None:
        return "nobody reads for it yet"
    if original is not None and original.offset < group.mark.first_offset:
        return f"it began at offset {group.mark.first_offset}, after it"
    if original is not None and original.offset < group.mark.next_offset:
        return "it passed it, and its ledger does not have it"
    return f"not yet, it stands at offset {group.mark.next_offset}"


def _redis_state(group: GroupStanding, offset: int | None) -> State:
    """Whether Redis has a record; if its place is not known, whether Redis has all that is counted."""
    if group.redis_fault:
        return "none"
    if not group.counted or group.redis is None or group.mark is None:
        return "waiting"
    if offset is not None:
        return "done" if group.redis > offset else "waiting"
    return "done" if group.redis >= group.mark.next_offset else "none"


# -- words ---------------------------------------------------------------------------------------------------------


def _teller(found: Found) -> GroupStanding:
    """Return the group by which fates are told: that which writes events, or the first."""
    return next((one for one in found.groups if "events" in one.projections), found.groups[0])


def _mark(found: Found) -> Watermark | None:
    return _teller(found).mark if found.groups else None


def _place(record: FoundRecord) -> str:
    return f"partition {record.partition}, offset {record.offset}"


def _at(found: Found) -> str:
    return f", from {_place(found.original)}" if found.original is not None else ""


def _alike(found: Found) -> str:
    if not found.alike:
        return ""
    return f" The player has {found.alike} more with this id, at another time: say which by its timestamp."
