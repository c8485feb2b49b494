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
from typing import Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message
from confluent_kafka.admin import AclOperation, TopicMetadata

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import topic_id, translate
from pipeline.kafka.edge_client import EdgeClient
from pipeline.kafka.reachability import Reachability
from pipeline.kafka.sizes import TOO_LARGE
from pipeline.tasks import cancel, watched

_WAIT_SECONDS: Final = 0.001
_HOLD_SECONDS: Final = 0.25
"""How long a burst may be held back by one that the broker does not confirm; part of the 5 s in which a 503 comes."""
_PROBE_EVERY_SECONDS: Final = 2.0
_PROBE_TIMEOUT_SECONDS: Final = 2.0
_SIZES_EVERY: Final = 15
"""After so many probes the topic is asked how much it takes, and at once after it took less than it was sent."""

OnDelivery = Callable[[KafkaError | None, Message | None], None]
"""Called once for each record, on the loop's thread, with None when Kafka has it. It must not raise."""

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
        self._settings = settings
        self._topic = settings.kafka_topic
        self._others = others
        self._client = EdgeClient(settings, max_in_flight_bytes)
        self._kafka = Reachability(settings)
        self.sizes = self._client.sizes
        self._gathered: list[tuple[Record | Resent, OnDelivery]] = []
        self._held = 0
        self._since = 0.0
        self._armed = False
        self._loop = asyncio.get_running_loop()
        self._probes = 0
        self._probing: asyncio.Task[None] | None = None
        self._doubted = asyncio.Event()

    @property
    def reachable(self) -> bool:
        """Whether the topic has its leaders, and takes our records."""
        return self._kafka.reachable

    @property
    def fault(self) -> str:
        """Why nothing can be sent, or why the last record was not confirmed; empty: it was."""
        return self._kafka.fault

    async def start(self) -> None:
        """Ask Kafka for the topic, and keep asking in the background.

        Raises ConfigurationError when Kafka answers that the credentials or the topic are wrong, or denied. A broker
        that is away is no error: readiness says so until it comes.
        """
        await self._probe()
        if isinstance(met := self._kafka.met, ConfigurationError | RefusedError):
            raise ConfigurationError(str(met)) from met
        if self.reachable and (denial := await self._denial()):
            raise ConfigurationError(denial)
        self._probing = watched(self._keep_probing())

    def publish(self, record: Record | Resent, on_delivery: OnDelivery) -> None:
        """Send one record; `on_delivery` is called later, once."""
        if self._kafka.doubtful:
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
        if error.code() in TOO_LARGE and self._client.fits and not self.sizes.lasting(size):
            self._doubted.set()

    def note(self, error: KafkaError) -> None:
        """Learn why a record was not confirmed: readiness says so until one is, or for so long as that is news."""
        self._kafka.refused(error)

    def _noting(self, on_delivery: OnDelivery) -> OnDelivery:
        """Let a record that is confirmed end the news that the last one was not."""

        def told(error: KafkaError | None, message: Message | None) -> None:
            if error is None:
                self._kafka.confirmed()
            on_delivery(error, message)

        return told

    def in_flight(self) -> int:
        """Count the records that Kafka has not yet confirmed or refused."""
        return len(self._gathered) + len(self._client.current)

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
        flying = len(self._client.current)
        if not flying:
            self._client.take_over()
        if gathered and (self._kafka.broken or not flying or time.monotonic() - self._since > _HOLD_SECONDS):
            self._hand_over()
            self._held = 0
            self._poll(_WAIT_SECONDS, self._client.current.flush)
        else:
            self._held = gathered
            # With nothing new from clients, wait for a report here: it is seen at once, and meanwhile requests gather.
            # A read takes several rounds of the loop, and would wait here in each (seen: 5.1 ms for 0.6).
            self._poll(_WAIT_SECONDS if idle and not self._others else 0)
        self._armed = bool(self._gathered) or len(self._client.current) > 0
        if self._armed and idle and self._others:
            self._loop.call_later(_WAIT_SECONDS, self._turn)
        elif self._armed:
            self._loop.call_soon(self._turn)

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        produce, topic = self._client.current.produce, self._topic
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
            (wait or self._client.current.poll)(seconds)
            if self._client.renewing:  # asked for by the callback, which may not do it
                self._client.renew()
        except KafkaException as error:
            if self._kafka.break_down(error.args[0]):
                self._loop.call_exception_handler({"message": self._kafka.fault, "exception": error})

    async def _keep_probing(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubted.wait(), _PROBE_EVERY_SECONDS)
                self._probes = 0
                self.sizes.refused()
            await self._probe()
            self._doubted.clear()
            self._poll(0)  # an edge that is sent nothing must also hear that its client is broken

    async def _probe(self) -> None:
        """Learn whether the topic's partitions have leaders; in a thread, because the call blocks."""
        self._client.renew()
        try:
            found = await asyncio.to_thread(self._client.current.list_topics, self._topic, _PROBE_TIMEOUT_SECONDS)
            met = fault_of(found.topics[self._topic], self._settings)
        except KafkaException as error:
            self._poll(0)  # brings the reason, if there was one, to the client
            met = translate(error.args[0], self._settings)
        if met is None:
            self._client.served()
            await self._learn_sizes()
        elif isinstance(met, UnavailableError):
            met = await asyncio.to_thread(self._client.why_refused) or met
        denial = await self._denial() if met is None and self._kafka.denied else ""
        self._kafka.answered(met, denial)

    async def _learn_sizes(self) -> None:
        """Ask now and then how much the topic takes, and send with a client that makes such batches."""
        await self._client.learn_sizes(_PROBE_TIMEOUT_SECONDS, ask=self._probes % _SIZES_EVERY == 0)
        self._probes += 1
        if not self._armed:
            self._client.take_over()

    async def _denial(self) -> str:
        """Ask whether the account may write to the topic; return why not."""
        try:
            await asyncio.to_thread(topic_id, self._settings, AclOperation.WRITE)
        except (ConfigurationError, RefusedError) as error:
            return str(error)
        except UnavailableError as error:
            return str(error) if self._kafka.denied else ""
        return ""


def fault_of(topic: TopicMetadata, settings: Settings) -> PipelineError | None:
    """Say what keeps the topic from taking events: ConfigurationError if waiting mends nothing."""
    if topic.error is not None:
        return translate(topic.error, settings)
    leaderless = [number for number, partition in topic.partitions.items() if partition.leader < 0]
    return UnavailableError(f"no leader for partitions {leaderless} of {topic.topic}") if leaderless else None
