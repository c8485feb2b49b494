"""Who may enter, and how failed tries end."""

import pytest
from pydantic import SecretStr

from pipeline.api.access.keyring import ANYONE, Caller, Keyring, digest, static_keys
from pipeline.api.http.replies import Refusal
from pipeline.config import Settings
from pipeline.errors import ConfigurationError

SECRET = "a-secret-of-some-length"
WRITER = Caller("writer", frozenset({"write"}))


def refusal(keyring: Keyring, credential: bytes, peer: str = "192.0.2.1") -> Refusal:
    with pytest.raises(Refusal) as caught:
        keyring.caller(credential, "read", peer)
    return caught.value


def test_open_until_the_first_key() -> None:
    keyring = Keyring({}, may_be_open=True)
    assert keyring.caller(b"", "write", "") is ANYONE
    keyring.replace({digest(SECRET): WRITER}, {}, ever_made=True)
    assert refusal(keyring, b"").status == 401
    assert keyring.caller(digest(SECRET), "write", "") is WRITER


def test_revoking_the_last_key_lets_nobody_in() -> None:
    keyring = Keyring({}, may_be_open=True)
    keyring.replace({}, {}, ever_made=True)
    assert not keyring.open
    assert refusal(keyring, digest(SECRET)).status == 401


def test_closed_and_pending_where_it_may_not_be_open() -> None:
    keyring = Keyring({}, may_be_open=False)
    before = keyring.pending
    assert refusal(keyring, b"").status == 401
    keyring.replace({}, {}, ever_made=False)
    assert (before, keyring.pending) == (True, False)
    assert refusal(keyring, b"").status == 401


def test_a_key_without_the_scope_is_refused() -> None:
    keyring = Keyring({digest(SECRET): WRITER}, may_be_open=True)
    assert refusal(keyring, digest(SECRET)).status == 403


def test_static_keys_outlive_what_the_database_says() -> None:
    keyring = Keyring(static_keys(Settings(api_keys=SecretStr(f"ops:{SECRET}"))), may_be_open=True)
    keyring.replace({}, {}, ever_made=True)
    assert keyring.caller(digest(SECRET), "read", "").name == "ops"


def test_failed_tries_are_limited_by_address_and_forgiven(caplog: pytest.LogCaptureFixture) -> None:
    keyring = Keyring({digest(SECRET): WRITER}, may_be_open=True)
    statuses = [refusal(keyring, b"\x00" * 32).status for _ in range(40)]
    assert statuses == [401] * 30 + [429] * 10
    assert refusal(keyring, b"\x00" * 32, "192.0.2.2").status == 401
    assert keyring.caller(digest(SECRET), "write", "192.0.2.1") is WRITER
    keyring.forgive()
    assert refusal(keyring, b"\x00" * 32).status == 401
    assert SECRET not in caplog.text


@pytest.mark.parametrize("keys", ["short", "name:short", f"ok:{SECRET},bad", "name:", f"n:{SECRET}\x00"])
def test_a_weak_static_key_stops_the_start(keys: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        static_keys(Settings(api_keys=SecretStr(keys)))
    assert str(caught.value).startswith("API_KEYS")
    assert SECRET not in str(caught.value)


def test_static_keys_with_and_without_names() -> None:
    found = static_keys(Settings(api_keys=SecretStr(f"{SECRET}, two:{SECRET}-2")))
    assert [caller.name for caller in found.values()] == ["static-1", "two"]
