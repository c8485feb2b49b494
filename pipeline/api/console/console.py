"""What the console's calls share: its own connections to PostgreSQL, the collector, the reader of the topic."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial

from pipeline.api.access.origins import Origins, configured_origins
from pipeline.api.console.collector import Collector
from pipeline.api.console.overview import Composer
from pipeline.api.console.reader import Reader
from pipeline.api.console.sources import (
    LETTERS_SECONDS,
    Kafka,
    Question,
    ask_marks,
    ask_proof,
    ask_redis,
    ask_waiting,
)
from pipeline.api.database import Database
from pipeline.api.metrics import EdgeMetrics
from pipeline.api.valkey import Valkey
from pipeline.config import Settings
from pipeline.kafka.producer import EventProducer


@dataclass(slots=True, eq=False)
class Console:
    """The console of one process."""

    topic: str
    origins: Origins
    database: Database
    composer: Composer
    collector: Collector
    reader: Reader
    kafka: Kafka
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin to collect, until the stack ends."""
        stack.callback(self.kafka.close)
        stack.push_async_callback(self.reader.close)
        stack.push_async_callback(self.database.close)
        await self.database.open()
        await self.collector.start(stack)


def make_console(settings: Settings, producer: EventProducer, metrics: EdgeMetrics, valkey: Valkey) -> Console:
    """Put the console together. Raises ConfigurationError.

    Its pool is its own: whoever looks at a busy database must not take the connections of those who play.
    """
    topic, database, kafka = settings.kafka_topic, Database(settings), Kafka(settings)
    marks = Question(partial(ask_marks, database, topic))

    def groups() -> list[str]:
        return sorted({mark.group for mark in marks.reading.value}) if marks.reading is not None else []

    composer = Composer(
        topic,
        lambda: producer.fault,
        lambda: (metrics.published, metrics.failed),
        (
            Question(kafka.bounds),
            marks,
            Question(partial(ask_redis, valkey, topic, groups)),
            Question(partial(ask_waiting, database), LETTERS_SECONDS),
        ),
        Question(partial(ask_proof, database, topic), LETTERS_SECONDS),
    )
    origins = configured_origins(settings)
    return Console(topic, origins, database, composer, Collector(composer), Reader(settings), kafka)
