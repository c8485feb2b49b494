"""Where the logs of the topic begin and end, asked for by who reads no record."""

from time import monotonic
from typing import Final

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.kafka.client import KeptAdmin, is_authentication, translate

_LAYOUT_SECONDS: Final = 10.0
"""How long the partitions and the beginnings of their logs, which seldom move, are believed."""

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]

Bounds = dict[int, tuple[int, int]]
"""By partition: the first position, and the one after the last."""


class LogEnds:
    """Asks for the bounds of one topic's logs. It blocks; one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topic = settings.kafka_topic
        self._admin = KeptAdmin(settings, error_cb=self._on_error)
        self._refused: KafkaError | None = None
        self._firsts: dict[int, int] = {}
        self._known_until = 0.0

    def ask(self, within: float) -> Bounds:
        """Return the bounds, in about `within` seconds. Raises what `client.translate` makes of Kafka's errors."""
        deadline = monotonic() + within
        self._refused = None
        admin = self._admin.get()
        try:
            if monotonic() > self._known_until:
                found = admin.list_topics(self._topic, timeout=within).topics[self._topic]
                if found.error is not None:
                    raise translate(found.error, self._settings)
                self._firsts = self._offsets(admin, list(found.partitions), _EARLIEST, deadline)
                self._known_until = monotonic() + _LAYOUT_SECONDS
            ends = self._offsets(admin, list(self._firsts), _LATEST, deadline)
        except KafkaException as error:
            self._known_until = 0.0
            admin.poll(0)  # brings the reason, if there was one, to _on_error
            raise translate(self._refused or error.args[0], self._settings) from error
        except TimeoutError as error:
            self._known_until = 0.0
            raise UnavailableError(f"Kafka: no answer from {self._settings.kafka_bootstrap_servers}") from error
        return {partition: (min(self._firsts[partition], end), end) for partition, end in sorted(ends.items())}

    def _offsets(self, admin: AdminClient, partitions: list[int], which: OffsetSpec, deadline: float) -> dict[int, int]:
        if not partitions:
            return {}
        left = max(0.1, deadline - monotonic())
        asked = admin.list_offsets(
            {TopicPartition(self._topic, partition): which for partition in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=left,
        )
        return {place.partition: answer.result(left + 0.5).offset for place, answer in asked.items()}

    def _on_error(self, error: KafkaError) -> None:
        if is_authentication(error):
            self._refused = error
