"""Kafka as every client of the pipeline meets it: where it is and as whom, and what its errors mean."""

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, UnavailableError

ASK_SECONDS: Final = 10.0
"""How long a broker may take to answer."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return the librdkafka settings that every client of the pipeline shares: where, and as whom."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "socket.keepalive.enable": True,
        "reconnect.backoff.max.ms": 2_000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_username,
            "sasl.password": settings.kafka_password.get_secret_value(),
        }
    if settings.kafka_ssl_ca_location:
        config["ssl.ca.location"] = settings.kafka_ssl_ca_location
    return config


def is_authentication(error: KafkaError) -> bool:
    """Whether a broker refused the account: the client goes on trying, and reports it beside what it is asked for."""
    return error.code() in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001 - public


def topic_id(settings: Settings) -> str:
    """Ask the broker for the topic's id.

    Raises ConfigurationError when the account or the topic is refused, UnavailableError when no broker answers.
    """
    refused: list[KafkaError] = []

    def on_error(error: KafkaError) -> None:
        if is_authentication(error):
            refused.append(error)

    config: dict[str, Any] = {**client_config(settings), "error_cb": on_error, "log_level": 0}
    admin = AdminClient(config)
    answer = admin.describe_topics(TopicCollection([settings.kafka_topic]), request_timeout=ASK_SECONDS)
    try:
        return str(answer[settings.kafka_topic].result(timeout=ASK_SECONDS + 1).topic_id)
    except KafkaException as error:
        admin.poll(0)  # brings the reason, if there was one, to on_error
        raise translate(refused[0] if refused else error.args[0], settings) from error
    except TimeoutError as error:
        raise UnavailableError(f"Kafka: no answer from {settings.kafka_bootstrap_servers}") from error


def translate(error: KafkaError, settings: Settings) -> PipelineError:
    """Turn what the client raises or reports into one of our errors, naming the variable where one is at fault."""
    code = error.code()
    if is_authentication(error):
        return ConfigurationError(f"KAFKA_USERNAME, KAFKA_PASSWORD: authentication failed: {error.str()}")
    if code in {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}:
        return ConfigurationError(f"KAFKA_USERNAME: {settings.kafka_username!r} lacks a right: {error.str()}")
    # Not _UNKNOWN_TOPIC and _UNKNOWN_PARTITION: so says the client by itself while a killed broker comes back.
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return ConfigurationError(f"KAFKA_TOPIC: {settings.kafka_topic!r}: {error.str()}")
    return UnavailableError(f"Kafka: {error.str()}")
