"""The embedded Kafka: one KRaft node on a JDK from a wheel, speaking only SASL/SCRAM-SHA-512, with an authorizer."""

import base64
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipeline.errors import UnavailableError
from pipeline.local.jvm import JAVA, OPTIONS, class_path, environment, startup_options
from pipeline.local.kafka_access import TOPIC, USER, await_access, provision
from pipeline.local.server import Server
from pipeline.local.state import State, private_file, write_private
from pipeline.local.supervisor import HOST

ADMIN: Final = "admin"
CONTROLLER: Final = "controller"


class Kafka(Server):
    """A Kafka broker and controller in one process, on loopback."""

    name: ClassVar[str] = "kafka"
    listeners: ClassVar[Sequence[str]] = ("kafka", "controller")
    stop_grace_seconds: ClassVar[float] = 30.0

    def __init__(self, state: State, jvm_options: Sequence[str] = ()) -> None:
        super().__init__(state)
        self._jvm_options = jvm_options

    @property
    def bootstrap_servers(self) -> str:
        """The address clients start from."""
        return f"{HOST}:{self.port}"

    @property
    def controller_port(self) -> int:
        """The port on which the broker finds the controller."""
        return self._state.port("controller")

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
        (self.directory / "data").mkdir(mode=0o700)
        accounts = ((ADMIN, self._state.secret("kafka_admin")), (USER, self._state.secret("kafka")))
        scram = [f"--add-scram SCRAM-SHA-512=[name={user},password={password}]" for user, password in accounts]
        arguments = "\n".join(
            (
                *("-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                *("-cp", f'"{class_path()}"', f'"-Dlog4j2.configurationFile={self._write_log_configuration()}"'),
                *("kafka.tools.StorageTool", "format", "--ignore-formatted"),
                *("--config", f'"{self._write_configuration()}"', "--cluster-id", _random_cluster_id()),
                *scram,
            )
        )
        # An argument file, because anyone on the machine can read the passwords on a command line.
        with private_file(self.directory / "format.args", arguments) as argument_file:
            command = [JAVA, f"@{argument_file}"]
            finished = subprocess.run(command, env=environment(), umask=0o077, capture_output=True, check=False)
        if finished.returncode != 0:
            raise UnavailableError(f"Kafka's storage cannot be formatted:\n{finished.stderr.decode(errors='replace')}")

    def _command(self) -> tuple[Sequence[str], Mapping[str, str]]:
        options = (*OPTIONS, *(self._jvm_options or startup_options()))
        log_configuration = f"-Dlog4j2.configurationFile={self._write_log_configuration()}"
        main = ("kafka.Kafka", str(self._write_configuration()))
        return [JAVA, *options, log_configuration, "-cp", class_path(), *main], environment()

    def _answers(self) -> bool:
        # The log is the last word on why a broker does not come up; what librdkafka says meanwhile is noise.
        config = {**self.admin_config(), "log_level": 0, "reconnect.backoff.max.ms": 100}
        try:
            return bool(AdminClient(config).list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _provision(self) -> None:
        provision(AdminClient({**self.admin_config(), "log_level": 3}))
        await_access(AdminClient({**self.config(), "log_level": 3}), TOPIC)

    def _write_configuration(self) -> Path:
        file = self.directory / "server.properties"
        write_private(file, "".join(f"{name}={value}\n" for name, value in self._properties().items()))
        return file

    def _write_log_configuration(self) -> Path:
        file = self.directory / "log4j2.properties"
        write_private(file, LOG_CONFIGURATION)
        return file

    def _properties(self) -> Mapping[str, str]:
        controller = f"{HOST}:{self.controller_port}"
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
    # A broker killed with SIGKILL is registered until its session ends, and its next life waits for that: 14 s with the
    # default of 9 s. A shorter one still has to outlast a stall of a busy machine.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
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
    # A test that kills a consumer asks for a short session, so that its peer need not wait out the usual least of 6 s.
    "group.min.session.timeout.ms": "1000",
    # From the heap; the default of 128 MiB is for compacted topics of another size.
    "log.cleaner.dedupe.buffer.size": str(4 << 20),
}

LOG_CONFIGURATION: Final = """\
status = warn
shutdownHook = disable
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


def _random_cluster_id() -> str:
    """Return a cluster id as Kafka makes them: a random UUID in base 64 (a leading dash would read as an option)."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        continue
    return text
