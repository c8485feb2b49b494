"""The Compose file is valid by its specification; its Kafka scripts start a broker that keeps strangers out."""

import json
import os
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from jsonschema import Draft202012Validator

from pipeline.local.jvm import JAVA, class_path
from tests.deploy.tools import COMPOSE, DEPLOY, KAFKA_TOOLS, go_module, maven_jars, output
from tests.edges import free_port
from tests.waiting import eventually

FILE: Final[dict[str, Any]] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SECRETS: Final = sorted(FILE["secrets"])
TOOLS: Final = {
    "kafka-storage.sh": "kafka.tools.StorageTool",
    "kafka-server-start.sh": "kafka.Kafka",
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
}


@dataclass(frozen=True)
class Broker:
    """The Kafka of Compose, started by its own scripts on free ports."""

    address: str
    passwords: dict[str, str]

    def config(self, user: str, password: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.address,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
            "log_level": 0,
        }


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Runs kafka.sh and kafka-setup.sh as the containers do, with the embedded Kafka's jars in place of the image's."""
    home = tmp_path_factory.mktemp("kafka")
    programs, secrets = home / "bin", home / "secrets"
    programs.mkdir()
    secrets.mkdir()
    passwords = {name: f"test-{name}" for name in SECRETS}
    for name, password in passwords.items():
        (secrets / name).write_text(password, encoding="utf-8")
    classes = f"{class_path()}:{maven_jars(KAFKA_TOOLS)}"
    for name, main in TOOLS.items():
        script = programs / name
        script.write_text(f'#!/bin/sh\nexec "{JAVA}" -Xmx256m -cp "{classes}" {main} "$@"\n', encoding="utf-8")
        script.chmod(stat.S_IRWXU)
    inside, outside, controller = (free_port() for _ in range(3))
    environment = {
        "PATH": os.environ["PATH"],
        "SECRETS_DIR": str(secrets),
        "KAFKA_BIN": str(programs),
        "KAFKA_DATA": str(home / "data"),
        "KAFKA_INSIDE": f"127.0.0.1:{inside}",
        "KAFKA_OUTSIDE": f"127.0.0.1:{outside}",
        "KAFKA_CONTROLLER": f"127.0.0.1:{controller}",
        "KAFKA_BROKER": f"127.0.0.1:{inside}",
        "TMPDIR": str(home),
    }
    with (home / "log").open("w", encoding="utf-8") as log:
        command = ["bash", str(DEPLOY / "compose" / "kafka.sh")]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            setup = ["bash", str(DEPLOY / "compose" / "kafka-setup.sh")]
            eventually(lambda: _listens(inside) or server.poll() is not None, timeout=60)
            finished = subprocess.run(setup, env=environment, capture_output=True, text=True, check=False, timeout=120)
            assert finished.returncode == 0, finished.stdout + finished.stderr + (home / "log").read_text("utf-8")
            yield Broker(f"127.0.0.1:{outside}", passwords)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(60)


def test_the_file_is_valid() -> None:
    schema = json.loads((go_module(COMPOSE) / "schema" / "compose-spec.json").read_text(encoding="utf-8"))
    assert [f"{error.json_path}: {error.message}" for error in Draft202012Validator(schema).iter_errors(FILE)] == []


def test_everything_listens_on_loopback_and_starts_when_what_it_needs_is_healthy() -> None:
    for name, service in FILE["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
    for name in ("api", "consumer", "verify"):
        assert FILE["services"][name]["depends_on"] == {
            "kafka-setup": {"condition": "service_completed_successfully"},
            "migrate": {"condition": "service_completed_successfully"},
            "valkey": {"condition": "service_healthy"},
        }


def test_the_pipelines_containers_are_locked_down() -> None:
    for name in ("api", "consumer", "verify", "migrate"):
        service = FILE["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_each_secret_is_a_file_that_the_script_makes() -> None:
    script = (DEPLOY / "compose" / "secrets.sh").read_text(encoding="utf-8")
    for name in SECRETS:
        assert FILE["secrets"][name] == {"file": f"./compose/secrets/{name}"}
        assert f" {name}" in script


def test_mounted_files_exist() -> None:
    for name, service in FILE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith("./") or (DEPLOY / source).exists(), name


def test_the_scripts_make_the_topic_and_an_account_that_can_use_it(broker: Broker) -> None:
    config = broker.config("gamemetrics", broker.passwords["kafka_password"])
    topics = AdminClient(config).list_topics(timeout=10).topics
    assert set(topics) == {"player.events.raw"}
    assert len(topics["player.events.raw"].partitions) == 3
    errors: list[object] = []
    producer = Producer({**config, "enable.idempotence": True})
    producer.produce("player.events.raw", b"{}", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(15) == 0
    assert errors == [None]


def test_the_scripts_broker_refuses_strangers(broker: Broker) -> None:
    with pytest.raises(KafkaException):
        AdminClient(broker.config("gamemetrics", "wrong")).list_topics(timeout=3)


def test_the_secrets_are_made_once_and_each_is_another(tmp_path: Path) -> None:
    output("sh", "-c", f"cp -r {DEPLOY / 'compose'} {tmp_path} && {tmp_path / 'compose' / 'secrets.sh'}")
    made = tmp_path / "compose" / "secrets"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert sorted(path.name for path in made.iterdir()) == SECRETS
    assert len({path.read_text(encoding="utf-8") for path in made.iterdir()}) == len(SECRETS)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
