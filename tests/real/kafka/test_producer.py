"""The producer by itself."""

import asyncio

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.kafka.producer import EventProducer
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def test_what_the_client_still_has_to_say_does_not_hold_up_the_end(place: Place) -> None:
    """An error that nobody has heard counts as in flight; it kept a refused start waiting for ten seconds."""
    settings = place.settings.model_copy(update={"kafka_password": SecretStr("wrong")})

    async def run() -> int:
        producer = EventProducer(settings, 1 << 20)
        with pytest.raises(ConfigurationError, match="KAFKA_PASSWORD"):
            await producer.start()
        eventually(producer.in_flight)
        return await producer.close(2.0)

    assert asyncio.run(run()) == 0
