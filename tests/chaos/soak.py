"""A soak: a steady rate of events, a random fault every few seconds, and exact sums at the end.

    python -m tests.chaos.soak --minutes 20 --seed 1

On a stack of its own, with `gamemetrics verify --watch` beside it, which must raise no false alarm. Prints a sample
every half minute (what must not grow), and at the end the sums; exit code 1 when they are not exact or something grew.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from contextlib import ExitStack, closing
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil
import psycopg
import redis
from prometheus_client.parser import text_string_to_metric_families

from pipeline.local.stack import Stack
from pipeline.operations.migrate import migrate
from tests.chaos.children import Child, child
from tests.chaos.feeding import Feed
from tests.chaos.truth import assert_exact
from tests.consuming import caught_up
from tests.edges import free_port
from tests.place import Place
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

RATE = 200
BATCH = 20
SAMPLE_SECONDS = 30.0
CHANGES: dict[str, Any] = {"batch_max_events": 200, "batch_max_wait_ms": 50, "outbox_keep_seconds": 30}


class Sample(NamedTuple):
    """What must not grow, and how far the work is."""

    seconds: int
    sent: int
    consumer_bytes: int
    connections: int
    temporary_tables: int
    outbox_rows: int
    wal_bytes: int
    proven: int
    differing: int

    def __str__(self) -> str:
        return "  ".join(f"{name} {value:>10,}" for name, value in self._asdict().items())


class Verifier:
    """`gamemetrics verify --watch`, as it runs in production, and what it says."""

    def __init__(self, place: Place, log: Path) -> None:
        self._group = place.group
        self._log = log
        self._alarmed: Counter[str] = Counter()
        self._port = free_port()
        environment = place.environment() | {"METRICS_PORT": str(self._port)}
        with log.open("wb") as said:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", "verify", "--watch"],
                env=environment, stdout=said, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def told(self, name: str) -> int:
        """Add up a metric over its labels; -1 if there is no answer."""
        samples = self._samples(name)
        return int(sum(value for _, value in samples)) if samples is not None else -1

    def listen(self) -> None:
        """Note of what kinds the alert would tell now, whatever is logged."""
        self._alarmed.update(labels["kind"] for labels, value in self._samples("differences") or [] if value)

    def _samples(self, name: str) -> list[tuple[dict[str, str], float]] | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=5) as reply:
                text = reply.read().decode()
        except OSError:
            return None
        families = text_string_to_metric_families(text)
        named = f"pipeline_proof_{name}"
        return [(one.labels, one.value) for family in families for one in family.samples if one.name == named]

    def level(self) -> bool:
        """Whether everything is proven, and nothing differs."""
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-3_000:]
        return self.told("behind_records") == 0 and self.told("differences") == 0

    def alarms(self) -> Counter[str]:
        """Count what differed at any time, by kind: as logged, and as often as the metric was seen to tell it."""
        lines = (json.loads(line) for line in self._log.read_text().splitlines() if '"differs"' in line)
        return Counter(line["kind"] for line in lines) + self._alarmed

    def close(self) -> None:
        """End it; it ends well."""
        self._process.terminate()
        assert self._process.wait(60) == 0


class Soak:
    """One run: a feed, two consumers, and what is done to them."""

    def __init__(self, place: Place, directory: Path, seed: int, verifier: Verifier) -> None:
        self._place = place
        self._directory = directory
        self._random = random.Random(seed)
        self._feed = Feed(place, seed)
        self._over = threading.Event()
        self._consumers: list[tuple[ExitStack, Child]] = []
        self.verifier = verifier
        self.sent = 0
        self.faults: Counter[str] = Counter()

    # -- the load ------------------------------------------------------------------------------------------------------

    def feed(self) -> None:
        """Send at a steady rate until it is over; what the broker does not take is waited for, not dropped."""
        due = monotonic()
        while not self._over.is_set():
            self._feed.send(BATCH)
            self.sent += BATCH
            del self._feed.sent[:-5_000]
            due = max(due + BATCH / RATE, monotonic() - 1)
            self._over.wait(max(0.0, due - monotonic()))

    # -- faults --------------------------------------------------------------------------------------------------------

    def break_something(self) -> None:
        faults: list[Callable[[], None]] = [
            self.kill_consumer, self.kill_consumer, self.freeze_consumer, self.leave, self.kill_postgres,
            self.pause_postgres, self.cut_connections, self.kill_valkey, self.empty_redis, self.kill_kafka,
            self.pause_kafka, self.rewind_redis,
        ]  # fmt: skip
        fault = self._random.choice(faults)
        self.faults[fault.__name__] += 1
        fault()
        self.man()

    def man(self) -> None:
        """Have two consumers."""
        for ended in [pair for pair in self._consumers if pair[1].exit_code is not None]:
            code = ended[1].exit_code
            assert code in {0, -9, -15}, f"a consumer ended with {code}:\n{ended[1].said[-3_000:]}"
            self._dismiss(ended)
        while len(self._consumers) < 2:
            stack = ExitStack()
            self._consumers.append((stack, stack.enter_context(child(self._place, self._directory, **CHANGES))))

    def _dismiss(self, pair: tuple[ExitStack, Child]) -> None:
        self._consumers.remove(pair)
        pair[0].close()

    def kill_consumer(self) -> None:
        self._random.choice(self._consumers)[1].kill()

    def freeze_consumer(self) -> None:
        consumer = self._random.choice(self._consumers)[1]
        consumer.freeze()
        self._over.wait(4.0)
        consumer.thaw()

    def leave(self) -> None:
        pair = self._random.choice(self._consumers)
        pair[1].stop()
        assert pair[1].exit_code in {0, -15}, pair[1].said[-3_000:]

    def kill_postgres(self) -> None:
        self._place.stack.postgres.kill()
        self._over.wait(self._random.uniform(0, 3))
        self._place.stack.postgres.start()

    def pause_postgres(self) -> None:
        self._place.stack.postgres.pause()
        self._over.wait(self._random.uniform(0.5, 4))
        self._place.stack.postgres.resume()

    def cut_connections(self) -> None:
        with psycopg.connect(self._place.stack.postgres.admin_dsn(), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'event-consumer%'"
            )

    def kill_valkey(self) -> None:
        self._place.stack.valkey.kill()
        self._over.wait(self._random.uniform(0, 3))
        self._place.stack.valkey.start()

    def empty_redis(self) -> None:
        with self._place.redis() as client:
            client.flushdb()

    def rewind_redis(self) -> None:
        """Save, wait, and die: what was applied since the snapshot is gone at the next start."""
        with self._place.redis() as client:
            try:
                client.save()
            except redis.ResponseError:
                return  # it is saving already
        self._over.wait(3.0)
        self.kill_valkey()

    def kill_kafka(self) -> None:
        self._place.stack.kafka.kill()
        self._over.wait(self._random.uniform(0, 2))
        self._place.stack.kafka.start()

    def pause_kafka(self) -> None:
        self._place.stack.kafka.pause()
        self._over.wait(self._random.uniform(0.5, 4))
        self._place.stack.kafka.resume()

    # -- the run -------------------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> list[Sample]:
        """Break things for so long, then let all of it come to rest and hold the sinks to the topic."""
        began = sampled = monotonic()
        samples: list[Sample] = []
        self.man()
        feeder = threading.Thread(target=self.feed)
        feeder.start()
        try:
            while monotonic() - began < seconds:
                self._over.wait(self._random.uniform(2, 6))
                self.verifier.listen()
                self.break_something()
                if monotonic() - sampled > SAMPLE_SECONDS:
                    sampled = monotonic()
                    samples.append(self.sample(int(sampled - began)))
                    sys.stdout.write(f"{samples[-1]}\n")
                    sys.stdout.flush()
        finally:
            self._over.set()
            feeder.join()
        self.man()
        caught_up(self._place, timeout=300)
        samples.append(self.sample(int(monotonic() - began)))
        for stack, consumer in self._consumers:
            assert consumer.stop() == 0
            stack.close()
        eventually(self.verifier.level, timeout=300, interval=1.0)
        return samples

    def hold_alarms(self) -> Counter[str]:
        """Return what the verifier raised, after it was held to this: only Redis, which was emptied, ever differed."""
        alarms = self.verifier.alarms()
        assert all(kind.startswith("Redis") for kind in alarms), alarms
        return alarms

    def sample(self, seconds: int) -> Sample:
        memory = [psutil.Process(one.pid).memory_info().rss for _, one in self._consumers if one.exit_code is None]
        with psycopg.connect(self._place.stack.postgres.admin_dsn(self._place.settings.db_name)) as connection:
            row = connection.execute(
                "SELECT (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'event-consumer%'),"
                " (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),"
                " (SELECT count(*) FROM pipeline_outbox),"
                " (SELECT sum(size) FROM pg_ls_waldir())"
            ).fetchone()
        assert row is not None
        proven, differing = self.verifier.told("records_total"), self.verifier.told("differences")
        return Sample(
            seconds, self.sent, max(memory, default=0), row[0], row[1], row[2], int(row[3]), proven, differing
        )


def main() -> None:
    parser = argparse.ArgumentParser(description="Soak the pipeline under random faults.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    asked = parser.parse_args()
    sys.stdout.write(f"seed {asked.seed}, {asked.minutes} minutes, {RATE} events/s\n")
    with tempfile.TemporaryDirectory(prefix="gamemetrics-soak-") as directory:
        Path(directory).chmod(0o711)
        logs = Path(directory) / "logs"
        logs.mkdir()
        stack = Stack(Path(directory))
        with stack.supervised():
            stack.start()
            try:
                place = Place(stack, stack.settings(kafka_group_id="event-soak"))
                migrate(place.settings)
                with closing(Verifier(place, logs / "verify.log")) as verifier:
                    soak = Soak(place, logs, asked.seed, verifier)
                    soak.run(asked.minutes * 60)
                truth = assert_exact(place)
                alarms = soak.hold_alarms()
            finally:
                stack.wipe()
    sys.stdout.write(f"faults: {dict(soak.faults)}\nthe verifier's alarms: {dict(alarms) or 'none'}\n")
    sys.stdout.write(
        f"exact: {sum(truth.records.values())} records, {len(truth.events)} events, {len(truth.bad)} bad\n"
    )


if __name__ == "__main__":
    main()
