"""The account that the clients of Redis connect as."""

import asyncio

import pytest

from pipeline.config import load_settings
from pipeline.sinks.redis_account import account


@pytest.mark.parametrize(("username", "given"), [("", ("secret",)), ("edge", ("edge", "secret"))])
def test_the_edge_is_given_the_account_that_consumers_are_without_a_word_in_the_log(
    username: str, given: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The library's own way for a client that awaits it warns at each connection."""
    found = account(load_settings({"REDIS_USERNAME": username, "REDIS_PASSWORD": "secret"}))
    assert found is not None
    assert asyncio.run(found.get_credentials_async()) == found.get_credentials() == given
    assert not caplog.records
