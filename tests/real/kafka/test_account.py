"""A broker turns the client away, more than once before it is listened to, and the account has changed meanwhile."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.proxy import Proxy
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real

SOURCE = """
from pipeline.kafka.source import Assignment, Source
assignment = Assignment(lambda found: dict.fromkeys(found, 0), lambda _: None)
source = Source(settings, settings.kafka_group_id, "test", assignment)
source.subscribe()
turned_away()
for _ in range(100):
    source.poll(1, 0.1)
source.close()
"""
EDGE = """
import asyncio
from pipeline.kafka.producer import EventProducer
async def run():
    producer = EventProducer(settings, 1 << 20)
    turned_away()
    for _ in range(40):
        producer._poll(0.1)
    await producer._probe()
    assert producer.reachable, producer.fault
asyncio.run(run())
"""
BEGINNING = """
from pipeline.config import load_settings
settings = load_settings()
def turned_away():
    print("away", flush=True)
    input()
"""


@pytest.mark.parametrize("program", [SOURCE, EDGE], ids=["consumer", "edge"])
def test_a_client_that_was_turned_away_twice_takes_up_its_new_account(
    place: Place, tmp_path: Path, program: str
) -> None:
    """In a process of its own: what was wrong here aborted it."""
    password = tmp_path / "kafka_password"
    password.write_text("not-the-password")
    known = {name: value for name, value in place.environment().items() if name != "KAFKA_PASSWORD"}
    with Proxy(place.stack.kafka.port, kafka=True) as one, Proxy(place.stack.kafka.port, kafka=True) as other:
        tries: list[bytes] = []

        def tried(request: bytes) -> bool:
            tries.extend([request] if b"n=" in request else [])
            return False

        for wire in (one, other):
            wire.rule("cut the request", tried)
        servers = f"127.0.0.1:{one.port},127.0.0.1:{other.port}"
        environment = known | {"SECRETS_DIR": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": servers}
        with subprocess.Popen(
            [sys.executable, "-c", BEGINNING + program], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        ) as client:  # fmt: skip
            assert client.stdout is not None
            assert client.stdout.readline() == "away\n"
            # Nothing is polled: what the client has to say gathers.
            eventually(lambda: len(tries) > 4, timeout=20)
            password.write_text(place.settings.kafka_password.get_secret_value())
            said, _ = client.communicate("\n", timeout=60)
    assert client.returncode == 0, said
    assert said.count("SASL authentication error") > 1, "was not turned away twice"
