"""How large a record and a batch of them may be, as the topic says; a producer that sends more stores none of it."""

import contextlib
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import ConfigResource

from pipeline.config import Settings
from pipeline.errors import ConfigurationError
from pipeline.kafka.client import ASK_SECONDS, DELIVERY, KeptAdmin, client_config
from pipeline.logs import librdkafka

BATCH_BYTES: Final = 1_000_000
"""What librdkafka puts into one batch of itself."""

FRAME_BYTES: Final = 512
"""What a batch of one of our records holds beside key and value, at most: its own head, the record's, two headers."""

STORED_NOT: Final = frozenset(
    {
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaError.RECORD_LIST_TOO_LARGE,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.INVALID_RECORD,
        KafkaError.POLICY_VIOLATION,
    }
)
"""What a broker answers if it looked at a batch and stored none of it: nobody need wonder whether it did."""

TOO_LARGE: Final = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})

_LARGEST: Final = 1 << 30
_SETTING: Final = "max.message.bytes"


class SizeLimit:
    """What one topic takes at once, asked of it (`ask` blocks), or learnt if the account may not ask.

    `topic` is its max.message.bytes, None if it is not known. `batch` is how large a batch is made, and `largest` how
    many bytes of key and value a record may have, as far as is known.
    """

    def __init__(self, settings: Settings) -> None:
        self._name = settings.kafka_topic
        self._admin = KeptAdmin(settings)
        self.topic: int | None = None
        self.batch = BATCH_BYTES
        self.largest = _LARGEST

    def ask(self, within: float) -> None:
        """Ask the topic; what is known stays if it does not answer, or the account may not ask."""
        try:
            admin = self._admin.get()
        except (ConfigurationError, KafkaException):
            return  # a file of TLS is away
        resource = ConfigResource(ConfigResource.Type.TOPIC, self._name)
        with contextlib.suppress(KafkaException, TimeoutError):
            found = admin.describe_configs([resource], request_timeout=within)[resource].result(within + 1)
            self.note(found[_SETTING].value if _SETTING in found else None)

    def note(self, text: str | None) -> None:
        """Take in what the topic says; what is no size within reason says nothing."""
        if text is None or not (text.isascii() and text.isdigit()) or len(text) > len(str(_LARGEST)):
            return
        self.topic = min(int(text), _LARGEST)
        self.batch = max(1, min(BATCH_BYTES, self.topic - FRAME_BYTES))
        self.largest = max(0, self.topic - FRAME_BYTES)

    def refused(self) -> None:
        """Learn from a batch that was too large, if the topic cannot be asked: half as much from now on."""
        if self.topic is None:
            self.batch = max(1, self.batch // 2)

    def fault(self, size: int) -> str:
        """Return why a record of so many bytes of key and value can never be stored; nothing if it can, or may."""
        if size <= self.largest:
            return ""
        return f"the record has {size} bytes; Kafka's topic {self._name} takes {self.largest} ({_SETTING} {self.topic})"

    def lasting(self, size: int) -> str:
        """Return why a record that was refused as too large always will be; nothing if a smaller batch may pass."""
        if self.topic is None and self.batch <= size:
            return f"the record has {size} bytes, more than Kafka's topic {self._name} takes ({_SETTING})"
        return self.fault(size)


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
