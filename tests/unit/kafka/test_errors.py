"""Which of the client's errors stop a consumer, and which it waits out."""

import pytest
from confluent_kafka import KafkaError

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError
from pipeline.kafka.client import translate


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (KafkaError.UNKNOWN_TOPIC_OR_PART, ConfigurationError),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, RefusedError),
        (KafkaError.SASL_AUTHENTICATION_FAILED, ConfigurationError),
        # The client's own words while a killed broker comes back, found by a soak: its metadata, not the broker's.
        (KafkaError._UNKNOWN_PARTITION, UnavailableError),  # noqa: SLF001 - its public name
        (KafkaError._UNKNOWN_TOPIC, UnavailableError),  # noqa: SLF001
        (KafkaError._TRANSPORT, UnavailableError),  # noqa: SLF001
    ],
)
def test_only_what_the_broker_itself_refuses_is_a_wrong_setting(code: int, kind: type[PipelineError]) -> None:
    assert type(translate(KafkaError(code), Settings())) is kind
