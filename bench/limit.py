"""The limit: what the same servers take from a bare client that says a run's bytes again.

Nothing is polled, decoded, added up or encoded here; a thread sends transactions and waits as the protocol makes it
wait, another sends each epoch's calls once its transaction is committed. What remains is PostgreSQL, Valkey and the
system's sockets: no consumer of this design, in any language, goes faster on this machine.
"""

import os
import queue
import socket
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Final

import hiredis

from bench.capture import TapedEpoch, TapedRun, capture, make_ready, plain
from bench.meter import read_servers
from bench.rig import Fixture, Rig
from bench.truth import Truth, require
from bench.wire import Answers, Step
from pipeline.config import Settings
from pipeline.sinks.connection import connect

_CHUNK: Final = 1 << 16
_ERROR: Final = ord("E")


@dataclass(frozen=True, slots=True)
class Limit:
    """What the bare client reached. CPU is in seconds per million events; Kafka has no part in it."""

    events: int
    seconds: float
    cpu: dict[str, float]
    sent_bytes_per_event: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_total(self) -> float:
        return sum(self.cpu.values())


class ReplayError(Exception):
    """A server refused what the run's own client had said."""


class PostgresWire:
    """A session whose protocol is spoken by hand: logged in by the driver, whose socket is then taken over."""

    def __init__(self, settings: Settings) -> None:
        self._driver = connect(plain(settings), "bench-limit")
        self._socket = socket.socket(fileno=os.dup(self._driver.fileno()))
        self._socket.setblocking(True)  # noqa: FBT003 - its only argument
        self._answers = Answers()

    def close(self) -> None:
        self._socket.close()
        self._driver.close()

    def play(self, step: Step) -> None:
        """Say one step and wait for its answers."""
        self._socket.sendall(step.said)
        missing = step.answers
        while missing > 0:
            piece = self._socket.recv(_CHUNK)
            kinds = self._answers.kinds(piece)
            if not piece or _ERROR in kinds:
                raise ReplayError(f"PostgreSQL refused: {piece[:300]!r}")
            missing -= kinds.count(b"Z") + kinds.count(b"G")


class RedisWire:
    """A connection that sends packed commands and counts replies."""

    def __init__(self, settings: Settings) -> None:
        self._socket = socket.create_connection((settings.redis_host, settings.redis_port))
        self._reader = hiredis.Reader()
        password = settings.redis_password.get_secret_value()
        self.play(packed("AUTH", password) + packed("SELECT", str(settings.redis_db)), 2)

    def close(self) -> None:
        self._socket.close()

    def play(self, said: bytes, replies: int) -> None:
        """Say commands in one go, reading replies meanwhile, so that full buffers cannot stop both sides."""
        sender = threading.Thread(target=self._socket.sendall, args=(said,))
        sender.start()
        for _ in range(replies):
            while (reply := self._reader.gets()) is False:
                self._reader.feed(self._socket.recv(_CHUNK))
            if isinstance(reply, Exception) or (isinstance(reply, list) and reply[0] != b"applied"):
                raise ReplayError(f"Valkey refused: {reply!r}")
        sender.join()


def packed(*words: str) -> bytes:
    """Write a command in Redis' protocol."""
    bodies = (b"$%d\r\n%b\r\n" % (len(word), word) for word in map(str.encode, words))
    return b"*%d\r\n" % len(words) + b"".join(bodies)


def measure(rig: Rig, fixture: Fixture, truth: Truth) -> Limit:
    """Tape the finished run of a fixture, and replay it, each into fresh databases. Raises WrongSumsError."""
    with rig.sibling(fixture, same_group=True) as copy:
        taped = capture(fixture, copy)
    with rig.sibling(fixture, same_group=True) as target:
        found = replay(rig, target, taped, truth.events)
        require(target, truth, recount=False)
    return found


def replay(rig: Rig, fixture: Fixture, taped: TapedRun, events: int) -> Limit:
    """Say a run's bytes to a fresh fixture of its topic, and time it."""
    make_ready(fixture)
    with closing(PostgresWire(fixture.settings)) as postgres, closing(RedisWire(fixture.settings)) as redis:
        for step in taped.opening:
            postgres.play(step)
        rig.checkpoint()
        servers, client = read_servers(fixture.stack), time.process_time()
        _play(postgres, redis, taped.epochs)
        ended = read_servers(fixture.stack)
        cpu = {"client": time.process_time() - client, **ended.since(servers)}
    cpu.pop("kafka", None)
    million = events / 1e6
    return Limit(
        events, ended.at - servers.at, {name: spent / million for name, spent in cpu.items()}, taped.size / events
    )


def _play(postgres: PostgresWire, redis: RedisWire, epochs: list[TapedEpoch]) -> None:
    committed: queue.SimpleQueue[TapedEpoch | None] = queue.SimpleQueue()
    refused: list[ReplayError] = []

    def apply() -> None:
        while (epoch := committed.get()) is not None:
            try:
                redis.play(epoch.calls, epoch.replies)
            except ReplayError as error:
                refused.append(error)
                return

    thread = threading.Thread(target=apply, name="redis")
    thread.start()
    try:
        for epoch in epochs:
            for step in epoch.steps:
                postgres.play(step)
            committed.put(epoch)
    finally:
        committed.put(None)
        thread.join()
    if refused:
        raise refused[0]
