"""Which of the client's errors stop a consumer or the edge, and which they wait out; where and as whom both ask."""

from pathlib import Path

import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import PartitionMetadata, TopicMetadata
from pydantic import SecretStr

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import client_config, translate
from pipeline.kafka.edge_client import producer_config
from pipeline.kafka.producer import fault_of
from tests.authority import Authority

CODES = pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigurationError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError),
        (KafkaError.SASL_AUTHENTICATION_FAILED, RefusedError),
        # The client's own words while a killed broker comes back, found by a soak: its metadata, not the broker's.
        (KafkaError._UNKNOWN_PARTITION, UnavailableError),  # noqa: SLF001 - its public name
        (KafkaError._UNKNOWN_TOPIC, UnavailableError),  # noqa: SLF001
        (KafkaError._TRANSPORT, UnavailableError),  # noqa: SLF001
    ],
)


@CODES
def test_only_what_the_broker_itself_refuses_is_a_wrong_setting(code: int, kind: type[PipelineError]) -> None:
    assert type(translate(KafkaError(code), Settings())) is kind


@CODES
def test_the_edge_judges_a_topic_as_the_consumer_does(code: int, kind: type[PipelineError]) -> None:
    """It took the client's own "unknown topic" for a refusal: a start beside a broker that came back gave up."""
    assert type(fault_of(described(error=KafkaError(code)), Settings())) is kind


def test_a_topic_takes_events_where_every_partition_has_a_leader() -> None:
    assert fault_of(described(1, 0), Settings()) is None
    away = fault_of(described(1, -1, -1), Settings())
    assert (type(away), "[1, 2]" in str(away)) == (UnavailableError, True)


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_the_producer_asks_where_and_as_whom_every_client_does(protocol: str, tmp_path: Path) -> None:
    settings = Settings(
        kafka_bootstrap_servers="elsewhere:1",
        kafka_security_protocol=protocol,  # type: ignore[arg-type] # one of those it may be
        kafka_sasl_mechanism="PLAIN",
        kafka_username="someone",
        kafka_password=SecretStr("secret"),
        kafka_ssl_ca_location=str(Authority(tmp_path / "authority").file),
    )
    shared, own = client_config(settings), producer_config(settings, 1 << 20)
    assert {name: own[name] for name in shared} == shared | {"reconnect.backoff.max.ms": 1_000}
    assert ("sasl.password" in shared) == protocol.startswith("SASL")


def described(*leaders: int, error: KafkaError | None = None) -> TopicMetadata:
    """What the client says of a topic."""
    topic = TopicMetadata()
    topic.topic, topic.error = "t", error
    for number, leader in enumerate(leaders):
        topic.partitions[number] = PartitionMetadata()
        topic.partitions[number].leader = leader
    return topic
