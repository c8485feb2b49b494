"""What the topic is now: its id, which a topic that is created again has anew, and where each partition ends."""

from dataclasses import dataclass

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from pipeline.config import Settings
from pipeline.errors import UnavailableError
from pipeline.kafka.client import KeptAdmin, translate


@dataclass(frozen=True, slots=True)
class Facts:
    """The topic's id, and the end of each partition's log: the offset after the last record."""

    topic_id: str
    ends: dict[int, int]


class TopicFacts:
    """Asks the broker; the client is made when first needed. One thread at a time: its calls block."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = KeptAdmin(settings)

    def ask(self, within: float) -> Facts:
        """Ask for both. Raises what `kafka.client.translate` makes of Kafka's errors."""
        name = self._settings.kafka_topic
        try:
            admin = self._admin.get()
            described = admin.describe_topics(TopicCollection([name]), request_timeout=within)[name]
            topic = described.result(timeout=within + 1)
            # To the last record written: one of a transaction that is not over has a receipt, too.
            asked = {TopicPartition(name, one.id): OffsetSpec.latest() for one in topic.partitions}  # type: ignore[no-untyped-call]
            answers = admin.list_offsets(asked, request_timeout=within)
            ends = {place.partition: answer.result(timeout=within + 1).offset for place, answer in answers.items()}
        except KafkaException as error:
            raise translate(error.args[0], self._settings) from error
        except TimeoutError as error:
            raise UnavailableError("Kafka does not answer") from error
        return Facts(str(topic.topic_id), ends)
