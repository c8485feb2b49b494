"""The edge's client of Kafka: with the account as it is now, and batches of the size that the topic takes."""

import asyncio
import contextlib
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, RefusedError
from pipeline.kafka.client import DELIVERY, Account, client_config, turns_away, why_refused
from pipeline.kafka.sizes import SizeLimit
from pipeline.logs import Seldom, librdkafka

DELIVERY_TIMEOUT_MS: Final = 3_000
"""How long Kafka may take to confirm an event before its sender is told that nobody knows (503, within 5 s).

The clock starts when a burst is handed over, and librdkafka looks for records past it once a second: on a busy machine
a 503 came 1.5 s after this time, which therefore leaves 2 of the 5.
"""

_log = structlog.get_logger("producer")


class EdgeClient:
    """librdkafka's producer, and the one that takes its place once the topic takes batches of another size.

    `current` is what to send with. `following` is the next one, once it is there: `take_over` when nothing is in
    flight. `renewing` is set by a callback, which may not renew: the account should be looked at. The loop's.
    """

    def __init__(self, settings: Settings, max_in_flight_bytes: int) -> None:
        self._settings = settings
        self._max_in_flight_bytes = max_in_flight_bytes
        self._account = Account(settings)
        self._seldom = Seldom()
        self._turned_away: KafkaError | None = None
        self.renewing = False
        self.sizes = SizeLimit(settings)
        self._batch_bytes = self.sizes.batch
        self.current = self._made()
        self.following: Producer | None = None

    @property
    def fits(self) -> bool:
        """Whether the client makes batches of the size that is known, and no other one is about to."""
        return self.following is None and self._batch_bytes == self.sizes.batch

    def renew(self) -> None:
        """Have the client take up an account that has changed; what the one before was told is then no news."""
        self.renewing = False
        if self._account.renew(self.current):
            self._turned_away = None

    def served(self) -> None:
        """Note that a broker answered: who was turned away before no longer is."""
        self._turned_away = None

    def why_refused(self) -> RefusedError | None:
        """Say why brokers turn the client away, if they do. Blocks."""
        return why_refused([self._turned_away] if self._turned_away is not None else [], self._settings)

    async def learn_sizes(self, within: float, *, ask: bool) -> None:
        """Have a client follow that makes batches of the topic's size, which is asked for first if `ask`."""
        if ask:
            await asyncio.to_thread(self.sizes.ask, within)
        if self.sizes.batch == self._batch_bytes:
            return
        try:
            made = self._made()
        except (ConfigurationError, KafkaException) as error:  # a file of TLS is away: the client that stands goes on
            _log.warning("batches keep their size", error=str(error))
            return
        with contextlib.suppress(KafkaException):  # connects, so that its first burst need not
            await asyncio.to_thread(made.list_topics, self._settings.kafka_topic, within)
        self.following = made

    def take_over(self) -> None:
        """Send with the client that follows, if there is one."""
        if self.following is None:
            return
        old, self.current, self.following = [self.current], self.following, None
        asyncio.get_running_loop().run_in_executor(None, old.clear)  # its end waits for its threads: not the loop's
        _log.info("batches have another size", bytes=self._batch_bytes)

    def _made(self) -> Producer:
        config = producer_config(self._settings, self._max_in_flight_bytes)
        made = Producer({**config, "error_cb": self._on_error, "batch.size": self.sizes.batch}, logger=librdkafka())
        self._batch_bytes = self.sizes.batch
        return made

    def _on_error(self, error: KafkaError) -> None:
        if turns_away(error):
            self._turned_away, self.renewing = error, True
        if self._seldom(error.str()):
            _log.warning("Kafka client", error=error.str())


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
