"""POST /api/v1/events/batch: up to 2,000 events, each judged and answered for itself.

What a body may cost is bounded before it is known to be good: no more is cut out of it than a batch may hold, what is
refused is charged for, and a large batch is judged in parts, between which the loop serves everybody else.
"""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, Message

from pipeline.api.access.keyring import Caller
from pipeline.api.access.limits import Allowance
from pipeline.api.access.rights import game_fault
from pipeline.api.context import Context
from pipeline.api.events.short_cut import Accepted
from pipeline.api.events.stamps import Tick
from pipeline.api.http.bodies import JSON_TYPES, LINE_TYPES, plain
from pipeline.api.http.connection import Connection
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Header, Refusal, encode_json
from pipeline.contract.receipts import HEADER, write_receipt
from pipeline.errors import EventError
from pipeline.kafka.sizes import STORED_NOT

MAX_EVENTS: Final = 2_000
MAX_BYTES: Final = 4 * 1024 * 1024
_UNCONFIRMED: Final = (
    "Kafka did not confirm every event in time: those under unconfirmed may have been stored or not; send them again "
    "with these event_ids and timestamps, and each counts once"
)
_REFUSED: Final = (
    "Kafka refused those under unconfirmed and stored none of them: send them again as they were, and each counts once"
)
_MAX_LINES: Final = 2 * MAX_EVENTS
"""Blank ones counted."""
_AT_ONCE_BYTES: Final = 256 * 1024
"""Bytes of events that are judged in one go: 1,000 ordinary events, some 5 ms, or the worst that there are, some 20."""
_SMALL_BYTES: Final = 64 * 1024
_NONE: Final = msgspec.Raw()

_split_small = msgspec.json.Decoder(list[msgspec.Raw]).decode
# An array read as a struct ends at the first element too many. A list's length is only looked at when all of it was
# decoded: two million ones, 4 KB when compressed, took 190 MB and 0.4 s.
_split_large = msgspec.json.Decoder(
    msgspec.defstruct(
        "Batch",
        [(f"at_{number}", msgspec.Raw, _NONE) for number in range(MAX_EVENTS)],
        array_like=True,
        forbid_unknown_fields=True,
        gc=False,
    )
).decode


def post_batch(context: Context, connection: Connection, head: Head, body: bytes, caller: Caller) -> None:
    """Charge the caller for every event, judge each, publish those that pass. Raises Refusal."""
    allowance = context.limits.allowance(caller, connection.peer)
    outcome = _Outcome(context, connection, allowance, caller)
    sent = b""
    try:
        sent = plain(head, body, MAX_BYTES)
        raws = split(head, sent)
    except Refusal as refusal:
        inflated = MAX_BYTES if refusal.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else len(body)
        if _charge_refused(outcome, len(sent) or inflated, refusal):
            raise
        return
    context.metrics.received += len(raws)
    size = sum(map(len, raws))
    try:
        charged = allowance is None or allowance.take(len(raws), size, connection.started)
        if charged and size <= _AT_ONCE_BYTES:
            _publish(outcome, raws)
        else:
            context.spawn(connection, _publish_later(outcome, raws, size, charged=charged))
    except Refusal:
        context.metrics.failed += len(raws)
        raise


def split(head: Head, body: bytes) -> list[bytes]:
    """Cut a batch into the bytes of its events. Raises Refusal."""
    if head.media_type in LINE_TYPES:
        lines = body.split(b"\n", _MAX_LINES)
        if len(lines) > _MAX_LINES:
            raise Refusal(413, f"a batch has at most {_MAX_LINES} lines, blank ones counted")
        raws = [line for line in lines if line and not line.isspace()]
    elif head.media_type in JSON_TYPES:
        raws = _split_array(body)
    else:
        raise Refusal(415, "Content-Type must be application/json (an array) or application/x-ndjson")
    if not raws:
        raise Refusal(400, "a batch holds at least one event")
    if len(raws) > MAX_EVENTS:
        raise _too_many()
    return raws


def _split_array(body: bytes) -> list[bytes]:
    try:
        if len(body) <= _SMALL_BYTES:
            return [bytes(raw) for raw in _split_small(body)]
        raws = msgspec.structs.astuple(_split_large(body))
    except msgspec.ValidationError as error:
        if body.lstrip().startswith(b"["):
            raise _too_many() from None
        raise Refusal(400, f"not a JSON array of events: {error}") from None
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Refusal(400, f"not a JSON array of events: {error}") from None
    return [bytes(raw) for raw in (raws[: raws.index(_NONE)] if raws[-1] == _NONE else raws)]


def _too_many() -> Refusal:
    return Refusal(413, f"a batch has at most {MAX_EVENTS} events")


def _charge_refused(outcome: "_Outcome", size: int, refusal: Refusal) -> bool:
    """Charge for a body that is no batch as for one event of its size; False if it is answered later."""
    allowance = outcome.allowance
    if allowance is not None and not allowance.take(1, size, outcome.connection.started):
        outcome.context.spawn(outcome.connection, _refuse_charged(outcome, allowance, size, refusal))
        return False
    outcome.context.refusals.note_refusal(outcome.caller, b"", refusal)
    return True


async def _refuse_charged(outcome: "_Outcome", allowance: Allowance, size: int, refusal: Refusal) -> None:
    await outcome.context.limits.charge(allowance, 1, size)
    outcome.context.refusals.note_refusal(outcome.caller, b"", refusal)
    try:
        raise refusal
    finally:
        del refusal  # it would hold this frame, and this frame it, and 4 MiB of body, until the collector comes


def _publish(outcome: "_Outcome", raws: list[bytes]) -> None:
    outcome.context.require_kafka()
    outcome.judge(0, raws, outcome.context.tick())
    outcome.publish()


async def _publish_later(outcome: "_Outcome", raws: list[bytes], size: int, *, charged: bool) -> None:
    """Charge for what was not charged yet, and publish a batch of any size. Raises Refusal."""
    try:
        if outcome.allowance is not None and not charged:
            await outcome.context.limits.charge(outcome.allowance, len(raws), size)
        if size <= _AT_ONCE_BYTES:
            _publish(outcome, raws)
        else:
            await _publish_in_parts(outcome, raws, size)
    except Refusal:
        outcome.context.metrics.failed += len(raws)
        raise


async def _publish_in_parts(outcome: "_Outcome", raws: list[bytes], size: int) -> None:
    """Publish a large batch, and let the loop turn between its parts. Raises Refusal.

    One is judged at a time, so that however many come the loop is away for no longer than a part takes. Those that wait
    are held within the budget of bytes: they have left that of bodies which arrive.
    """
    context = outcome.context
    context.require_kafka()
    tick = context.tick()
    context.pressure.enter(size)
    try:
        async with context.judging:
            for start, part in _parts(raws):
                outcome.judge(start, part, tick)
                await asyncio.sleep(0)
    finally:
        context.pressure.leave(size)
    outcome.publish()


def _parts(raws: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """Cut a batch into parts of at most _AT_ONCE_BYTES, or one event; each with the index of its first."""
    start = size = 0
    for index, raw in enumerate(raws):
        if size + len(raw) > _AT_ONCE_BYTES and size:
            yield start, raws[start:index]
            start, size = index, 0
        size += len(raw)
    yield start, raws[start:]


class _Outcome:
    """What became of each event of one batch; replies when Kafka has spoken of the last."""

    __slots__ = (
        "_all_lost",
        "_last",
        "_lost",
        "_pending",
        "_refused",
        "_rejected",
        "_size",
        "_unclear",
        "allowance",
        "caller",
        "connection",
        "context",
        "events",
    )  # fmt: skip

    def __init__(self, context: Context, connection: Connection, allowance: Allowance | None, caller: Caller) -> None:
        self.context = context
        self.caller = caller
        self.connection = connection
        self.allowance = allowance
        self._rejected: list[dict[str, Any]] = []
        self._lost = set[bytes]()  # by value: two events with one value share one fate to a client
        self._all_lost = False  # it is not known which
        self._refused: KafkaError | None = None  # an error that says that nothing was stored
        self._unclear = False  # one that does not
        self._pending = 0
        self._size = 0
        self._last: dict[int | None, Message] = {}  # of each partition: its reports come in the order of its offsets
        self.events = list[Accepted]()

    def reject(self, index: int, raw: bytes, error: str, field: str) -> None:
        """Note an event that breaks the contract, and in which field; empty for the whole of it."""
        self.context.refusals.note(self.caller, raw, error, field)
        self._rejected.append({"index": index, "error": error})

    def judge(self, start: int, raws: list[bytes], tick: Tick) -> None:
        """Judge events, of which the first has the index `start` in the batch."""
        accept, limited = self.context.short_cut.accept, self.caller.games is not None
        too_large = self.context.producer.sizes.fault
        size = 0
        for index, raw in enumerate(raws, start):
            try:
                accepted = accept(raw, tick)
            except EventError as error:
                self.reject(index, raw, str(error), error.field)
                continue
            if limited and (fault := game_fault(self.caller, accepted.game_id)):
                self.reject(index, raw, fault, "game_id")
                continue
            if fault := too_large(len(accepted.key) + len(accepted.value)):
                self.reject(index, raw, fault, "")
                continue
            self.events.append(accepted)
            size += len(accepted.value)
        self._size += size

    def publish(self) -> None:
        """Send the events that passed. Raises Refusal if there is no room for them."""
        self.context.pressure.enter(self._size)
        self._pending = len(self.events) + 1
        publish, on_delivery = self.context.producer.publish, self._delivered
        for event in self.events:
            publish(event, on_delivery)
        self._count_down()

    def _delivered(self, error: KafkaError | None, message: Message | None) -> None:
        if error is not None:
            value = (message.value() if message is not None else None) or b""
            self._all_lost = self._all_lost or message is None
            self._lost.add(value)
            if error.code() in STORED_NOT:
                self._refused = error
                self.context.producer.note_refused(error, len(value))
            else:
                self._unclear = True
                self.context.producer.note(error)
        elif message is not None:
            self._last[message.partition()] = message
        self._count_down()

    def _count_down(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._finish()

    def _finish(self) -> None:
        context = self.context
        context.pressure.leave(self._size)
        rejected = {one["index"] for one in self._rejected}
        total = len(self.events) + len(rejected)
        indexes = [index for index in range(total) if index not in rejected] if rejected else range(total)
        lost = [
            {"index": index, "event_id": event.event_id, "timestamp": event.timestamp}
            for index, event in zip(indexes, self.events, strict=True)
            if self._all_lost or event.value in self._lost
        ] if self._lost else []  # fmt: skip
        accepted = len(self.events) - len(lost)
        context.metrics.published += accepted
        context.metrics.failed += total - accepted
        content: dict[str, Any] = {
            "accepted": accepted,
            "rejected": self._rejected,
            "event_ids": self._ids(total, rejected),
        }
        headers: list[Header] = self.allowance.headers() if self.allowance is not None else []
        if self._last:
            headers = [(HEADER, self._receipt()), *headers]
        status = 200
        if lost:
            status = 503
            error = f"{_REFUSED} ({self._refused.str()})" if self._refused and not self._unclear else _UNCONFIRMED
            content = {"error": error, "unconfirmed": lost, **content}
            headers = [("Retry-After", "1"), *headers]
        elif not accepted:
            status = 400
            content = {"error": f"no event of this batch is valid; the first: {self._rejected[0]['error']}", **content}
        self.connection.reply(status, encode_json(status, content, headers))

    def _receipt(self) -> str:
        """Return the last place in each partition."""
        places = [(partition, message.offset()) for partition, message in self._last.items()]
        return write_receipt({p: offset for p, offset in places if p is not None and offset is not None})

    def _ids(self, total: int, rejected: set[int]) -> list[str | None]:
        """Return an id for each event of the request, in its order, and null for those rejected."""
        ids = iter(self.events)
        return [None if index in rejected else next(ids).event_id for index in range(total)]
