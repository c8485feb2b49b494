"""The producer: events to Kafka, and their acknowledgements back to the event loop.

An event is acknowledged when every in-sync replica has it (acks=all, idempotent). Everything happens on the loop's own
thread, in turns: a turn hands librdkafka what has gathered, in one burst, and takes the delivery reports. A thread of
its own, blocked in poll(), would have to win the interpreter lock from the loop for each report, which cost more CPU
than all else that the edge does for an event.

One burst is in flight at a time, and the next gathers meanwhile: so bursts fit the broker's pace by themselves, and a
quiet edge sends at once. librdkafka would have it no other way: an idempotent producer with five messages of a
partition in flight sends no more of it, and while some wait past linger.ms its thread polls without pause (seen: half
a core, taken from the broker). Hence linger.ms is long, and flush() says when a burst is whole.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sized
from typing import Any, Final

import msgspec
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AclOperation, TopicMetadata

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import (
    ASK_SECONDS,
    DELIVERY,
    DENIED,
    Account,
    client_config,
    topic_id,
    translate,
    turns_away,
    why_refused,
)
from pipeline.kafka.sizes import TOO_LARGE, SizeLimit
from pipeline.logs import Seldom, librdkafka
from pipeline.tasks import cancel, watched

DELIVERY_TIMEOUT_MS: Final = 3_000
"""How long Kafka may take to confirm an event before its sender is told that nobody knows (503, within 5 s).

The clock starts when a burst is handed over, and librdkafka looks for records past it once a second: on a busy machine
a 503 came 1.5 s after this time, which therefore leaves 2 of the 5.
"""
_WAIT_SECONDS: Final = 0.001
_HOLD_SECONDS: Final = 0.25
"""How long a burst may be held back by one that the broker does not confirm; part of the 5 s in which a 503 comes."""
_PROBE_EVERY_SECONDS: Final = 2.0
_PROBE_TIMEOUT_SECONDS: Final = 2.0
_SIZES_EVERY: Final = 15
"""After so many probes the topic is asked how much it takes, and at once after it took less than it was sent."""
_NEWS_SECONDS: Final = 10.0
"""How long a record that was not confirmed is the last word, while none follows: who is not ready is sent none."""
_LASTING: Final = DENIED | {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001 - public name
"""What a topic answers to a record if it will answer the next one likewise, until someone mends it."""

OnDelivery = Callable[[KafkaError | None, Message | None], None]
"""Called once for each record, on the loop's thread, with None when Kafka has it. It must not raise."""

_log = structlog.get_logger("producer")


Headers = list[tuple[str, str | bytes | None]]


class Record(msgspec.Struct, gc=False, frozen=True):
    """One Kafka record, as bytes. `milliseconds` since 1970 are its time: of the clock that judged what is in it."""

    key: bytes
    value: bytes
    headers: Headers
    milliseconds: int


class Resent(msgspec.Struct, gc=False, frozen=True):
    """A record that is sent again, of whoever produced it: it may have no key, and be a tombstone."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    milliseconds: int


class EventProducer:
    """The topic, as the edge sees it: publish a record, learn its fate.

    While `others` is not empty, something else waits on the loop, and waiting for Kafka must not block it.
    """

    def __init__(self, settings: Settings, max_in_flight_bytes: int, others: Sized = ()) -> None:
        self._others = others
        self._settings = settings
        self._topic = settings.kafka_topic
        self._turned_away: KafkaError | None = None
        self._renewing = False
        self._met: PipelineError | None = None
        self._max_in_flight_bytes = max_in_flight_bytes
        self._account = Account(settings)
        self._seldom = Seldom()
        self.sizes = SizeLimit(settings)
        self._batch_bytes = self.sizes.batch
        self._producer = self._made()
        self._next: Producer | None = None
        self._probes = 0
        self._doubted = asyncio.Event()
        self._gathered: list[tuple[Record | Resent, OnDelivery]] = []
        self._held = 0
        self._since = 0.0
        self._armed = False
        self._loop = asyncio.get_running_loop()
        self._probing: asyncio.Task[None] | None = None
        self._denied = self._broken = False
        self._unconfirmed = ("", 0.0)  # why the last record was not, and until when that is news
        self.reachable = False
        self._fault = "not asked yet"

    @property
    def fault(self) -> str:
        """Why nothing can be sent, or why the last record was not confirmed; empty: it was."""
        if self._fault or not self._unconfirmed[0]:
            return self._fault
        reason, until = self._unconfirmed
        return reason if time.monotonic() < until else ""

    async def start(self) -> None:
        """Ask Kafka for the topic, and keep asking in the background.

        Raises ConfigurationError when Kafka answers that the credentials or the topic are wrong, or denied. A broker
        that is away is no error: readiness says so until it comes.
        """
        await self._probe()
        if isinstance(self._met, ConfigurationError | RefusedError):
            raise ConfigurationError(str(self._met)) from self._met
        if self.reachable and (denial := await self._denial()):
            raise ConfigurationError(denial)
        self._probing = watched(self._keep_probing())

    def publish(self, record: Record | Resent, on_delivery: OnDelivery) -> None:
        """Send one record; `on_delivery` is called later, once."""
        if self._unconfirmed[0]:
            on_delivery = self._noting(on_delivery)
        if not self._gathered:
            self._since = time.monotonic()
        self._gathered.append((record, on_delivery))
        if not self._armed:
            self._armed = True
            self._loop.call_soon(self._turn)

    def note_refused(self, error: KafkaError, size: int) -> None:
        """Learn from what Kafka looked at and did not store, of a record of `size` bytes that the edge itself dated.

        What is not about its size meets the next record too: a broker whose clock is wrong takes the edge's time from
        none, and whoever asks must hear that the edge is not ready.
        """
        if error.code() in TOO_LARGE:
            self.doubt_sizes(error, size)
        else:
            self.note(error)

    def doubt_sizes(self, error: KafkaError, size: int) -> None:
        """Ask the topic anew how much it takes, after it refused a record of `size` bytes, unless for that alone."""
        current = self._next is None and self._batch_bytes == self.sizes.batch
        if error.code() in TOO_LARGE and current and not self.sizes.lasting(size):
            self._doubted.set()

    def note(self, error: KafkaError) -> None:
        """Learn why a record was not confirmed: readiness says so until one is, or for so long as that is news.

        A right that is missing is known to last: each client is told at once, and the probe asks until it is there.
        """
        if error.code() in _LASTING:
            self._denied, self.reachable = True, False
            self._fault = str(translate(error, self._settings))
        elif not self._unconfirmed[0]:
            _log.warning("Kafka does not confirm", error=error.str())
        self._unconfirmed = (f"Kafka did not confirm: {error.str()}", time.monotonic() + _NEWS_SECONDS)

    def _noting(self, on_delivery: OnDelivery) -> OnDelivery:
        """Let a record that is confirmed end the news that the last one was not."""

        def told(error: KafkaError | None, message: Message | None) -> None:
            if error is None:
                self._unconfirmed = ("", 0.0)
            on_delivery(error, message)

        return told

    def in_flight(self) -> int:
        """Count the records that Kafka has not yet confirmed or refused."""
        return len(self._gathered) + len(self._producer)

    async def close(self, within: float) -> int:
        """Wait for what is in flight; return how many records were still unconfirmed after `within` seconds."""
        if self._probing is not None:
            await cancel(self._probing)
        deadline = time.monotonic() + within
        while self.in_flight() and time.monotonic() < deadline:
            await asyncio.sleep(0.002)
            self._poll(0)  # what the client has to say counts as in flight until it is heard
        return self.in_flight()

    def _turn(self) -> None:
        """Hand over what has gathered, take what was delivered; again while anything is in flight."""
        gathered = len(self._gathered)
        idle = gathered == self._held
        if self._next is not None and not len(self._producer):
            self._take_over(self._next)
        if gathered and (self._broken or not len(self._producer) or time.monotonic() - self._since > _HOLD_SECONDS):
            self._hand_over()
            self._held = 0
            self._poll(_WAIT_SECONDS, self._producer.flush)
        else:
            self._held = gathered
            # With nothing new from clients, wait for a report here: it is seen at once, and meanwhile requests gather.
            # A read takes several rounds of the loop, and would wait here in each (seen: 5.1 ms for 0.6).
            self._poll(_WAIT_SECONDS if idle and not self._others else 0)
        self._armed = bool(self._gathered) or len(self._producer) > 0
        if self._armed and idle and self._others:
            self._loop.call_later(_WAIT_SECONDS, self._turn)
        elif self._armed:
            self._loop.call_soon(self._turn)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        produce, topic = self._producer.produce, self._topic
        for record, on_delivery in gathered:
            try:
                produce(topic, record.value, record.key, -1, on_delivery, None, record.milliseconds, record.headers)
            except BufferError:
                on_delivery(KafkaError(KafkaError._QUEUE_FULL), None)  # noqa: SLF001
            except KafkaException as error:  # a topic that the client knows to be denied, or a client that is broken
                on_delivery(error.args[0], None)

    def _poll(self, seconds: float, wait: Callable[[float], int] | None = None) -> None:
        """Take what the client has to say. What ends it for good it raises here: the process must end then.

        What is in flight is still reported, and what comes is refused, while the edge drains.
        """
        try:
            (wait or self._producer.poll)(seconds)
            if self._renewing:  # asked for by the callback, which may not do it
                self._renew()
        except KafkaException as error:
            self._fault = f"the Kafka client is broken: {error.args[0].str()}"
            if not self._broken:
                self._loop.call_exception_handler({"message": self._fault, "exception": error})
            self.reachable, self._broken = False, True

    def _made(self) -> Producer:
        """Make a client that makes batches of the size that is known now."""
        config = producer_config(self._settings, self._max_in_flight_bytes)
        config |= {"error_cb": self._on_error, "batch.size": self.sizes.batch}
        made = Producer(config, logger=librdkafka())
        self._batch_bytes = self.sizes.batch
        return made

    def _take_over(self, made: Producer) -> None:
        old, self._producer, self._next = [self._producer], made, None
        self._loop.run_in_executor(None, old.clear)  # its end waits for its threads, which the loop must not
        _log.info("batches have another size", bytes=self._batch_bytes)

    async def _keep_probing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), _PROBE_EVERY_SECONDS)
                self._probes = 0
                self.sizes.refused()
            await self._probe()
            self._doubted.clear()
            self._poll(0)  # an edge that is sent nothing must also hear that its client is broken

    async def _learn_sizes(self) -> None:
        """Ask now and then how much the topic takes, and have a client ready that makes such batches."""
        if self._probes % _SIZES_EVERY == 0:
            await asyncio.to_thread(self.sizes.ask, _PROBE_TIMEOUT_SECONDS)
        self._probes += 1
        if self.sizes.batch != self._batch_bytes:
            try:
                made = self._made()
            except (
                ConfigurationError,
                KafkaException,
            ) as error:  # a file of TLS is away: the client that stands goes on
                _log.warning("batches keep their size", error=str(error))
                return
            with contextlib.suppress(KafkaException):  # connects, so that its first burst need not
                await asyncio.to_thread(made.list_topics, self._topic, _PROBE_TIMEOUT_SECONDS)
            self._next = made
            if not self._armed:
                self._take_over(made)

    async def _probe(self) -> None:
        """Learn whether the topic's partitions have leaders; in a thread, because the call blocks."""
        was = self.reachable
        self._renew()
        try:
            found = await asyncio.to_thread(self._producer.list_topics, self._topic, _PROBE_TIMEOUT_SECONDS)
            met = fault_of(found.topics[self._topic], self._settings)
        except KafkaException as error:
            self._poll(0)  # brings the reason, if there was one, to _on_error
            met = translate(error.args[0], self._settings)
        if met is None:
            self._turned_away = None
            await self._learn_sizes()
        elif isinstance(met, UnavailableError):
            turned_away = [self._turned_away] if self._turned_away is not None else []
            met = await asyncio.to_thread(why_refused, turned_away, self._settings) or met
        fault = str(met or "")
        if met is None and self._denied:
            fault = await self._denial()
            self._denied = bool(fault)
        if self._broken:
            return
        self._met = met
        self.reachable, self._fault = not fault, fault
        if was != self.reachable:
            _log.info("Kafka is reachable" if self.reachable else "Kafka is unreachable", fault=self.fault)

    def _renew(self) -> None:
        """Have the client take up an account that has changed; what the one before was told is then no news."""
        self._renewing = False
        if self._account.renew(self._producer):
            self._turned_away = None

    async def _denial(self) -> str:
        """Ask whether the account may write to the topic; return why not."""
        try:
            await asyncio.to_thread(topic_id, self._settings, AclOperation.WRITE)
        except (ConfigurationError, RefusedError) as error:
            return str(error)
        except UnavailableError as error:
            return str(error) if self._denied else ""
        return ""

    def _on_error(self, error: KafkaError) -> None:
        if turns_away(error):
            self._turned_away, self._renewing = error, True
        if self._seldom(error.str()):
            _log.warning("Kafka client", error=error.str())


def fault_of(topic: TopicMetadata, settings: Settings) -> PipelineError | None:
    """Say what keeps the topic from taking events: ConfigurationError if waiting mends nothing."""
    if topic.error is not None:
        return translate(topic.error, settings)
    leaderless = [number for number, partition in topic.partitions.items() if partition.leader < 0]
    return UnavailableError(f"no leader for partitions {leaderless} of {topic.topic}") if leaderless else None


def producer_config(settings: Settings, max_in_flight_bytes: int) -> dict[str, Any]:
    """Return the librdkafka settings of the edge's producer: those of every client, and how events are delivered."""
    return {
        **client_config(settings),
        "client.id": "gamemetrics-edge",
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
        **DELIVERY,
        "message.timeout.ms": DELIVERY_TIMEOUT_MS,
        "retry.backoff.ms": 50,
        "linger.ms": 5,  # flush() ends the wait
        # A burst is a request for each partition, on one connection: with Nagle's algorithm the second waits until the
        # first is answered.
        "socket.nagle.disable": True,
        # The edge's own budget refuses long before these; they are what stands if it ever failed to.
        "queue.buffering.max.messages": 1_000_000,
        "queue.buffering.max.kbytes": 2 * max_in_flight_bytes // 1024 + 1024,
    }


def plain_producer(settings: Settings, within: float) -> Producer:
    """Return a client for records sent now and then, each within so many seconds, in batches that the topic takes.

    Asks the topic how large they may be, which blocks. Raises ConfigurationError if a file of TLS is no use.
    """
    sizes = SizeLimit(settings)
    sizes.ask(ASK_SECONDS)
    config = {
        **client_config(settings),
        **DELIVERY,
        "message.timeout.ms": int(within * 1000),
        "batch.size": sizes.batch,
    }
    return Producer(config, logger=librdkafka())
