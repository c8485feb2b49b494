"""POST /api/v1/events/batch: up to 2,000 events, each judged and answered for itself."""

from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, Message

from pipeline.api.access.keyring import Caller
from pipeline.api.access.limits import Allowance
from pipeline.api.access.rights import game_fault
from pipeline.api.context import Context
from pipeline.api.events.short_cut import Accepted
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
_split_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def post_batch(context: Context, connection: Connection, head: Head, body: bytes, caller: Caller) -> None:
    """Charge the caller for every event, judge each, publish those that pass. Raises Refusal."""
    try:
        raws = split(head, plain(head, body, MAX_BYTES))
    except Refusal as refusal:
        context.refusals.note_refusal(caller, b"", refusal)
        raise
    context.metrics.received += len(raws)
    allowance = context.limits.allowance(caller, connection.peer)
    size = sum(map(len, raws))
    try:
        if allowance is not None and not allowance.take(len(raws), size, connection.started):
            context.spawn(connection, _publish_charged(context, connection, raws, caller, allowance))
            return
        _publish(context, connection, raws, caller, allowance)
    except Refusal:
        context.metrics.failed += len(raws)
        raise


def split(head: Head, body: bytes) -> list[bytes]:
    """Cut a batch into the bytes of its events. Raises Refusal."""
    if head.media_type in LINE_TYPES:
        raws = [line for line in body.split(b"\n") if line and not line.isspace()]
    elif head.media_type in JSON_TYPES:
        try:
            raws = [bytes(raw) for raw in _split_array(body)]
        except (msgspec.MsgspecError, RecursionError) as error:
            raise Refusal(400, f"not a JSON array of events: {error}") from None
    else:
        raise Refusal(415, "Content-Type must be application/json (an array) or application/x-ndjson")
    if not raws:
        raise Refusal(400, "a batch holds at least one event")
    if len(raws) > MAX_EVENTS:
        raise Refusal(413, f"{len(raws)} events; a batch has at most {MAX_EVENTS}")
    return raws


async def _publish_charged(
    context: Context, connection: Connection, raws: list[bytes], caller: Caller, allowance: Allowance
) -> None:
    try:
        await context.limits.charge(allowance, len(raws), sum(map(len, raws)))
        _publish(context, connection, raws, caller, allowance)
    except Refusal:
        context.metrics.failed += len(raws)
        raise


def _publish(
    context: Context, connection: Connection, raws: list[bytes], caller: Caller, allowance: Allowance | None
) -> None:
    context.require_kafka()
    outcome = _Outcome(context, connection, allowance, caller)
    tick = context.tick()
    accept, limited = context.short_cut.accept, caller.games is not None
    too_large = context.producer.sizes.fault
    size = 0
    for index, raw in enumerate(raws):
        try:
            accepted = accept(raw, tick)
        except EventError as error:
            outcome.reject(index, raw, str(error), error.field)
            continue
        if limited and (fault := game_fault(caller, accepted.game_id)):
            outcome.reject(index, raw, fault, "game_id")
            continue
        if fault := too_large(len(accepted.key) + len(accepted.value)):
            outcome.reject(index, raw, fault, "")
            continue
        outcome.events.append(accepted)
        size += len(accepted.value)
    context.pressure.enter(size)
    outcome.publish(size)


class _Outcome:
    """What became of each event of one batch; replies when Kafka has spoken of the last."""

    __slots__ = (
        "_all_lost",
        "_allowance",
        "_caller",
        "_connection",
        "_context",
        "_last",
        "_lost",
        "_pending",
        "_refused",
        "_rejected",
        "_size",
        "_unclear",
        "events",
    )  # fmt: skip

    def __init__(self, context: Context, connection: Connection, allowance: Allowance | None, caller: Caller) -> None:
        self._context = context
        self._caller = caller
        self._connection = connection
        self._allowance = allowance
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
        self._context.refusals.note(self._caller, raw, error, field)
        self._rejected.append({"index": index, "error": error})

    def publish(self, size: int) -> None:
        """Send the events that passed, whose records have `size` bytes in all."""
        self._size = size
        self._pending = len(self.events) + 1
        publish, on_delivery = self._context.producer.publish, self._delivered
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
                self._context.producer.doubt_sizes(error, len(value))
            else:
                self._unclear = True
                self._context.producer.note(error)
        elif message is not None:
            self._last[message.partition()] = message
        self._count_down()

    def _count_down(self) -> None:
        self._pending -= 1
        if self._pending == 0:
            self._finish()

    def _finish(self) -> None:
        context = self._context
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
        headers: list[Header] = self._allowance.headers() if self._allowance is not None else []
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
        self._connection.reply(status, encode_json(status, content, headers))

    def _receipt(self) -> str:
        """Return the last place in each partition."""
        places = [(partition, message.offset()) for partition, message in self._last.items()]
        return write_receipt({p: offset for p, offset in places if p is not None and offset is not None})

    def _ids(self, total: int, rejected: set[int]) -> list[str | None]:
        """Return an id for each event of the request, in its order, and null for those rejected."""
        ids = iter(self.events)
        return [None if index in rejected else next(ids).event_id for index in range(total)]
