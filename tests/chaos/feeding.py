"""What chaos tests send: seeded events over few players, so that every epoch meets the same rows and keys."""

import json
import random
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from tests.place import Place

KINDS = ("player_score", "login", "quest_completed", "boss_defeated", "level_up")
PLAYERS = 12
GAMES = 3


class Feed:
    """Sends seeded records to a place's topic, and remembers them, so that they can be sent again."""

    def __init__(self, place: Place, seed: int, *, bad: float = 0.05, again: float = 0.1) -> None:
        self._topic = place.topic
        self.random = random.Random(seed)
        self._bad = bad
        self._again = again
        self._producer = Producer({**place.stack.kafka.config(), "enable.idempotence": True, "linger.ms": 2})
        self.sent: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._producer.flush(30)

    def event(self) -> bytes:
        """Make one new event."""
        draw = self.random
        kind = draw.choice(KINDS)
        age = timedelta(seconds=draw.uniform(0, 60)) if draw.random() < 0.8 else timedelta(days=draw.randrange(1, 60))
        moment = datetime.now(UTC) - age
        event = {
            "event_type": kind,
            "player_id": f"p{draw.randrange(PLAYERS)}",
            "game_id": f"g{draw.randrange(GAMES)}",
            "event_id": str(uuid.UUID(int=draw.getrandbits(128), version=4)),
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "data": {"score": draw.randrange(-5, 1_000)} if kind == "player_score" else {"level": draw.randrange(9)},
        }
        return json.dumps(event).encode()

    def send(self, count: int) -> None:
        """Send this many records: new events, some sent before, some bad; to partitions at random."""
        values = []
        for _ in range(count):
            chance = self.random.random()
            if chance < self._bad:
                values.append(b"{junk %d" % len(self.sent))
            elif chance < self._bad + self._again and self.sent:
                values.append(self.random.choice(self.sent))
            else:
                values.append(self.event())
                self.sent.append(values[-1])
        self.send_these(values)

    def send_these(self, values: Sequence[bytes], partition: int = -1) -> None:
        """Send records as they are, and wait until the broker has them."""
        refused: list[object] = []
        for value in values:
            self._producer.produce(
                self._topic,
                value,
                partition=partition,
                on_delivery=lambda error, _: None if error is None else refused.append(error),
            )
        assert self._producer.flush(60) == 0
        assert not refused, refused[0]
