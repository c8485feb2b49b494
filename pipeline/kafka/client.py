"""Kafka as every client of the pipeline meets it: where it is and as whom, and what its errors mean."""

import re
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from pipeline import tls
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


_LISTEN_SECONDS: Final = 0.05
_ASKED_BROKERS: Final = 3
_HANDSHAKE: Final = re.compile(r"ssl://(\[[^\]]+\]|[^:/]+):(\d+)/")
"""Which broker an error of the client is about."""


def client_config(settings: Settings) -> dict[str, Any]:
    """Return the librdkafka settings that every client of the pipeline shares: where, and as whom.

    Raises ConfigurationError if a file of TLS is no use, or an account is missing: the client itself would only say
    that it cannot be made.
    """
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap_servers,
        "security.protocol": settings.kafka_security_protocol,
        "socket.keepalive.enable": True,
        # A broker that is frozen, or whose host vanished, is given up after this and not after a minute.
        "socket.timeout.ms": int(ASK_SECONDS * 1000),
        "reconnect.backoff.max.ms": 2_000,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        username, password = _account(settings)
        if not (username and password):
            raise ConfigurationError(f"KAFKA_USERNAME, KAFKA_PASSWORD: {settings.kafka_security_protocol} needs both")
        config |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": username,
            "sasl.password": password,
        }
    if _speaks_tls(settings):
        files = settings.tls(tls.KAFKA)
        files.context()
        given = {
            "ssl.ca.location": files.authority,
            "ssl.certificate.location": files.certificate,
            "ssl.key.location": files.key,
            "ssl.key.password": files.password if files.key else "",
        }
        config |= {name: value for name, value in given.items() if value}
    return config


def _speaks_tls(settings: Settings) -> bool:
    return settings.kafka_security_protocol.endswith("SSL")


def _account(settings: Settings) -> tuple[str, str]:
    return settings.current("kafka_username"), settings.current("kafka_password")


class Account:
    """The account of one running client, which takes a changed password up at its next connection to a broker.

    The client asks nobody when it connects. So it is told: now and then, and soon after a broker turned it away. Never
    from one of its own callbacks: confluent-kafka aborts the process at the callback that follows (seen).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = _account(settings)

    def renew(self, client: Consumer | Producer | AdminClient) -> bool:
        """Tell the client, if the account has changed; return whether it has. Not for callbacks."""
        if (
            not self._settings.kafka_security_protocol.startswith("SASL")
            or (now := _account(self._settings)) == self._told
        ):
            return False
        client.set_sasl_credentials(*now)
        self._told = now
        return True


class KeptAdmin:
    """An admin client that is made when first needed, and knows the account as it is at each use.

    `further` are settings beside those of every client.
    """

    def __init__(self, settings: Settings, **further: Any) -> None:  # noqa: ANN401 - what the client takes
        self._settings = settings
        self._further = further
        self._account: Account | None = None
        self._client: AdminClient | None = None

    def get(self) -> AdminClient:
        """Return it. Not for callbacks. Raises ConfigurationError and KafkaException if it cannot be made."""
        if self._client is None or self._account is None:  # not `or`: a client without messages counts as false
            self._account = Account(self._settings)
            self._client = AdminClient({**client_config(self._settings), "log_level": 0, **self._further})
        self._account.renew(self._client)
        return self._client


def is_authentication(error: KafkaError) -> bool:
    """Whether a broker refused the account: the client goes on trying, and reports it beside what it is asked for."""
    return error.code() in {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001 - public


def turns_away(error: KafkaError) -> bool:
    """Whether a broker and the client part before they speak: over the account, or over a certificate."""
    return is_authentication(error) or error.code() == KafkaError._SSL  # noqa: SLF001 - its public name


def topic_id(settings: Settings, needed: AclOperation | None = None) -> str:
    """Ask the broker for the topic's id, and whether the account has the right `needed`.

    Raises ConfigurationError when the topic is refused, RefusedError where the account or a certificate is, or a right
    is missing, UnavailableError when no broker answers. May block for some seconds more than ASK_SECONDS.
    """
    refused: list[KafkaError] = []

    def on_error(error: KafkaError) -> None:
        refused.append(error)

    try:
        config: dict[str, Any] = {**client_config(settings), "error_cb": on_error, "log_level": 0}
    except ConfigurationError as error:  # a start ends for it; later a file may be there again
        raise RefusedError(str(error)) from error
    admin = AdminClient(config)
    answer = admin.describe_topics(
        TopicCollection([settings.kafka_topic]), request_timeout=ASK_SECONDS, include_authorized_operations=True
    )[settings.kafka_topic]
    while not answer.done() and not refused:
        admin.poll(_LISTEN_SECONDS)  # brings to on_error why there is no connection
    # A password may be known to a broker in a moment, and the client goes on trying; no certificate will do better.
    if not answer.done() and not any(map(is_authentication, refused)) and (why := why_refused(refused, settings)):
        raise why
    try:
        topic = answer.result(timeout=ASK_SECONDS + 1)
    except KafkaException as error:
        admin.poll(0)
        # If nobody answered, what the client met says more than that nobody did.
        unanswered = error.args[0].code() == KafkaError._TIMED_OUT and refused  # noqa: SLF001 - its public name
        met = refused[0] if unanswered else error.args[0]
        raise why_refused([*refused, error.args[0]], settings) or translate(met, settings) from error
    except TimeoutError as error:
        raise UnavailableError(f"Kafka: no answer from {settings.kafka_bootstrap_servers}") from error
    granted = topic.authorized_operations
    if needed is not None and granted and needed not in granted:  # none: an old broker, which does not tell
        raise RefusedError(
            f"KAFKA_USERNAME: {settings.kafka_username!r} lacks the right to {needed.name} "
            f"the topic {settings.kafka_topic!r}"
        )
    return str(topic.topic_id)


def why_refused(errors: list[KafkaError], settings: Settings) -> RefusedError | None:
    """Say why a client is not served, if it is for its account or for a certificate.

    Of certificates a client says only that they do not do, or sees connections that end; so brokers are asked: blocks.
    """
    for error in filter(is_authentication, errors):
        return RefusedError(f"KAFKA_USERNAME, KAFKA_PASSWORD: authentication failed: {error.str()}")
    if _speaks_tls(settings):
        files = settings.tls(tls.KAFKA)
        for host, port in _brokers(errors, settings)[:_ASKED_BROKERS]:
            if fault := tls.fault(files, host, port):
                return RefusedError(fault)
    return None


def _brokers(errors: list[KafkaError], settings: Settings) -> list[tuple[str, int]]:
    """Name the brokers that errors are about, or else those to start from."""
    found = [met for error in errors for met in _HANDSHAKE.findall(error.str() or "")]
    if not found:
        found = re.findall(r"(\[[^\]]+\]|[^:/,\s]+):(\d+)", settings.kafka_bootstrap_servers)
    return list(dict.fromkeys((host.strip("[]"), int(port)) for host, port in found))


def translate(error: KafkaError, settings: Settings) -> PipelineError:
    """Turn what the client raises or reports into one of our errors, naming the variable if one is at fault."""
    code = error.code()
    if is_authentication(error):
        return RefusedError(f"KAFKA_USERNAME, KAFKA_PASSWORD: authentication failed: {error.str()}")
    if code in DENIED:
        # A topic that is not there is denied, too: whoever may not see it is not told that it is not there.
        where = f", KAFKA_TOPIC {settings.kafka_topic!r}" if code == KafkaError.TOPIC_AUTHORIZATION_FAILED else ""
        return RefusedError(f"KAFKA_USERNAME {settings.kafka_username!r}{where}: lacks a right: {error.str()}")
    if code == KafkaError.INVALID_SESSION_TIMEOUT:
        asked = f"KAFKA_SESSION_TIMEOUT_MS: {settings.kafka_session_timeout_ms}"
        return RefusedError(f"{asked} is outside of the broker's group.(min|max).session.timeout.ms: {error.str()}")
    if code == KafkaError.INVALID_GROUP_ID:
        return RefusedError(f"KAFKA_GROUP_ID: {settings.kafka_group_id!r}: {error.str()}")
    # Not _UNKNOWN_TOPIC and _UNKNOWN_PARTITION: so says the client by itself while a killed broker comes back.
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        return ConfigurationError(f"KAFKA_TOPIC: {settings.kafka_topic!r}: {error.str()}")
    return UnavailableError(f"Kafka: {error.str()}")
