"""Kafka as every client of the pipeline meets it: where it is and as whom, and what its errors mean."""

from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from pipeline.config import Settings
from pipeline.errors import ConfigurationError, PipelineError, RefusedError, UnavailableError

ASK_SECONDS: Final = 10.0
"""How long a broker may take to answer."""


DENIED: Final = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    }
)
"""The account lacks a right. Whoever grants it need not start us again."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return the librdkafka settings that every client of the pipeline shares: where, and as whom."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "socket.keepalive.enable": True,
        # A broker that is frozen, or whose host vanished, is given up after this and not after a minute.
        "socket.timeout.ms": int(ASK_SECONDS * 1000),
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


def topic_id(settings: Settings, needed: AclOperation | None = None) -> str:
    """Ask the broker for the topic's id, and whether the account has the right `needed`.

    Raises ConfigurationError when the account or the topic is refused, RefusedError where a right is missing,
    UnavailableError when no broker answers.
    """
    refused: list[KafkaError] = []

    def on_error(error: KafkaError) -> None:
        if is_authentication(error):
            refused.append(error)

    config: dict[str, Any] = {**client_config(settings), "error_cb": on_error, "log_level": 0}
    admin = AdminClient(config)
    answer = admin.describe_topics(
        TopicCollection([settings.kafka_topic]), request_timeout=ASK_SECONDS, include_authorized_operations=True
    )
    try:
        topic = answer[settings.kafka_topic].result(timeout=ASK_SECONDS + 1)
    except KafkaException as error:
        admin.poll(0)  # brings the reason, if there was one, to on_error
        raise translate(refused[0] if refused else error.args[0], settings) from error
    except TimeoutError as error:
        raise UnavailableError(f"Kafka: no answer from {settings.kafka_bootstrap_servers}") from error
    granted = topic.authorized_operations
    if needed is not None and granted and needed not in granted:  # none: an old broker, which does not tell
        raise RefusedError(
            f"KAFKA_USERNAME: {settings.kafka_username!r} lacks the right to {needed.name} "
            f"the topic {settings.kafka_topic!r}"
        )
    return str(topic.topic_id)


def translate(error: KafkaError, settings: Settings) -> PipelineError:
    """Turn what the client raises or reports into one of our errors, naming the variable where one is at fault."""
    code = error.code()
    if is_authentication(error):
        return ConfigurationError(f"KAFKA_USERNAME, KAFKA_PASSWORD: authentication failed: {error.str()}")
    if code in DENIED:
        # A topic that is not there is denied, too: whoever may not see it is not told that it is not there.
        where = f", KAFKA_TOPIC {settings.kafka_topic!r}" if code == KafkaError.TOPIC_AUTHORIZATION_FAILED else ""
        return RefusedError(f"KAFKA_USERNAME {settings.kafka_username!r}{where}: lacks a right: {error.str()}")
    # Not _UNKNOWN_TOPIC and _UNKNOWN_PARTITION: so says the client by itself while a killed broker comes back.
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return ConfigurationError(f"KAFKA_TOPIC: {settings.kafka_topic!r}: {error.str()}")
    return UnavailableError(f"Kafka: {error.str()}")
