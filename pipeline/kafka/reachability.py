"""Whether events can be sent, and why not: what the topic last answered, and what became of the last record."""

import time
from typing import Final

import structlog
from confluent_kafka import KafkaError

from pipeline.config import Settings
from pipeline.errors import PipelineError
from pipeline.kafka.client import DENIED, translate

_NEWS_SECONDS: Final = 10.0
"""How long a record that was not confirmed is the last word, while none follows: who is not ready is sent none."""
_LASTING: Final = DENIED | {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001 - public name
"""What a topic answers to a record if it will answer the next one likewise, until someone mends it."""

_log = structlog.get_logger("producer")


class Reachability:
    """What readiness says of Kafka. The loop's.

    reachable: the topic has its leaders, and takes our records. denied: a record was refused for what lasts, so the
    topic's own answer is not enough. broken: the client is, for good; nothing mends that but a new process. met: what
    the topic last answered.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._fault = "not asked yet"
        self._unconfirmed = ("", 0.0)  # why the last record was not, and until when that is news
        self.reachable = self.denied = self.broken = False
        self.met: PipelineError | None = None

    @property
    def fault(self) -> str:
        """Why nothing can be sent, or why the last record was not confirmed; empty: it was."""
        if self._fault or not self._unconfirmed[0]:
            return self._fault
        reason, until = self._unconfirmed
        return reason if time.monotonic() < until else ""

    @property
    def doubtful(self) -> bool:
        """Whether the last record was not confirmed: the next that is ends that news."""
        return bool(self._unconfirmed[0])

    def answered(self, met: PipelineError | None, denial: str = "") -> None:
        """Take in what the topic answered; `denial` is why the account may not write to it, if that was asked."""
        was = self.reachable
        self.denied = self.denied and bool(met or denial)
        if self.broken:
            return
        self.met = met
        self._fault = str(met or "") or denial
        self.reachable = not self._fault
        if was != self.reachable:
            _log.info("Kafka is reachable" if self.reachable else "Kafka is unreachable", fault=self.fault)

    def refused(self, error: KafkaError) -> None:
        """Learn why a record was not confirmed: readiness says so until one is, or for so long as that is news.

        A right that is missing is known to last: each client is told at once, and the probe asks until it is there.
        """
        if error.code() in _LASTING:
            self.denied, self.reachable = True, False
            self._fault = str(translate(error, self._settings))
        elif not self.doubtful:
            _log.warning("Kafka does not confirm", error=error.str())
        self._unconfirmed = (f"Kafka did not confirm: {error.str()}", time.monotonic() + _NEWS_SECONDS)

    def confirmed(self) -> None:
        """Learn that a record was confirmed, after one that was not."""
        self._unconfirmed = ("", 0.0)

    def break_down(self, error: KafkaError) -> bool:
        """Take in that the client is broken for good; whether that is news."""
        self._fault = f"the Kafka client is broken: {error.str()}"
        news, self.reachable, self.broken = not self.broken, False, True
        return news
