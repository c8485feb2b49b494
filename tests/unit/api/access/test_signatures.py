"""Signed requests: which signature holds, for which body, and for how long."""

import hashlib
import hmac

import pytest

from pipeline.api.access.keyring import ANYONE, Caller, Keyring, Signer, digest
from pipeline.api.access.signatures import TOLERANCE_SECONDS, read_signature
from pipeline.api.http.heads import Head, Heads, parse_head
from pipeline.api.http.replies import Refusal

NOW = 1_795_000_000.25
SECRET = "gms_1a2b3c4d_a-secret-of-some-length"
WRITER = Caller("game", frozenset({"write"}), frozenset({"game-1"}))
BODY = b'{"event_type":"a"}'


def sign(body: bytes, time: int | str = int(NOW), secret: str = SECRET, key: str = "1a2b3c4d") -> bytes:
    mac = hmac.new(secret.encode(), f"{time}.".encode() + body, hashlib.sha256).hexdigest()
    return f"key={key}, t={time}, v1={mac}".encode()


def ring() -> Keyring:
    keyring = Keyring({}, may_be_open=True)
    keyring.replace({}, {"1a2b3c4d": Signer(WRITER, SECRET.encode())}, ever_made=True)
    return keyring


def refused(parameters: bytes, body: bytes | None = BODY, *, keyring: Keyring | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        (keyring or ring()).signer(parameters, body, "write", "192.0.2.1", NOW)
    return caught.value


def head(authorization: bytes, *more: bytes) -> Head:
    lines = (b"POST / HTTP/1.1", b"Host: a", b"Authorization: " + authorization, *more, b"", b"")
    return parse_head(b"\r\n".join(lines))


def test_a_known_vector() -> None:
    # printf 1795000000.body | openssl dgst -sha256 -hmac secret
    signature = read_signature(
        b"key=1a2b3c4d,t=1795000000,v1=C01D4A0AC52B19AF706E4D135AB1DBE6B45EFAB7E3C91DDA3A382B1E23F7705C"
    )
    assert signature is not None
    assert (signature.key_id, signature.time) == ("1a2b3c4d", b"1795000000")
    assert signature.is_of(b"secret", b"body")
    assert not signature.is_of(b"secret", b"bodz")


def test_a_good_signature_is_its_key() -> None:
    assert ring().signer(sign(BODY), BODY, "write", "", NOW) is WRITER
    assert ring().signer(sign(b""), b"", "write", "", NOW) is WRITER


def test_a_head_alone_passes_until_its_body_is_there() -> None:
    keyring = ring()
    assert keyring.signer(sign(b"other"), None, "write", "", NOW) is WRITER
    assert refused(sign(b"other"), keyring=keyring).status == 401


@pytest.mark.parametrize(
    "parameters",
    [
        sign(BODY + b" "),
        sign(BODY, secret=SECRET[:-1]),
        sign(BODY, secret=digest(SECRET).hex()),
        sign(BODY, key="1a2b3c4e"),
        sign(BODY).replace(b"t=1795000000", b"t=1795000001"),
        sign(BODY).replace(b"t=1795000000", b"t=01795000000"),
        sign(BODY)[:-1],
        sign(BODY) + b"0",
        sign(BODY) + b", v1=00",
        sign(BODY).replace(b"v1=", b"v0="),
        sign(BODY, time="-1"),
        sign(BODY, time="1" * 5000),
        b"",
        b"?",
        b"key=1a2b3c4d",
    ],
)
def test_any_other_signature_is_refused(parameters: bytes) -> None:
    refusal = refused(parameters)
    assert refusal.status == 401
    assert dict(refusal.headers)["WWW-Authenticate"].startswith("HMAC-SHA256")


def test_a_signature_holds_for_five_minutes_either_way() -> None:
    edge = TOLERANCE_SECONDS - 1
    for off in (-edge, edge):
        assert ring().signer(sign(BODY, int(NOW) + off), BODY, "write", "", NOW) is WRITER
    for off, word in ((-TOLERANCE_SECONDS - 1, "behind"), (TOLERANCE_SECONDS + 1, "ahead")):
        for body in (BODY, None):
            refusal = refused(sign(BODY, int(NOW) + off), body)
            assert refusal.status == 401
            assert word in refusal.error
            assert "Date" in refusal.error


def test_a_key_that_signs_may_only_write_and_is_no_bearer() -> None:
    keyring = ring()
    with pytest.raises(Refusal) as caught:
        keyring.signer(sign(b""), b"", "read", "", NOW)
    assert caught.value.status == 403
    with pytest.raises(Refusal) as caught:
        keyring.caller(digest(SECRET), "write", "")
    assert caught.value.status == 401


def test_failed_signatures_are_limited_and_counted_like_wrong_keys(caplog: pytest.LogCaptureFixture) -> None:
    keyring = ring()
    assert [refused(sign(b"x"), keyring=keyring).status for _ in range(40)] == [401] * 30 + [429] * 10
    assert keyring.wrong == 40
    assert keyring.signer(sign(BODY), BODY, "write", "192.0.2.1", NOW) is WRITER
    assert SECRET not in caplog.text
    assert SECRET not in repr(Signer(WRITER, SECRET.encode()))


def test_keys_that_sign_are_keys() -> None:
    keyring = Keyring({}, may_be_open=True)
    assert keyring.signer(b"whatever", BODY, "write", "", NOW) is ANYONE
    assert len(ring()) == 1
    assert not ring().open


def test_a_signed_head_is_read_and_not_remembered() -> None:
    assert head(b"HMAC-SHA256 key=1, t=2, v1=3").signature == b"key=1, t=2, v1=3"
    assert head(b"hmac-sha256  key=1 ").signature == b"key=1"
    assert head(b"HMAC-SHA256").signature == b"?"
    assert head(b"HMAC-SHA256 key=1", b"X-API-Key: a-key").signature == b""
    assert head(b"Bearer x").signature == b""
    heads = Heads()
    for number in range(100):
        block = b"POST / HTTP/1.1\r\nHost: a\r\nAuthorization: HMAC-SHA256 key=1, t=%d, v1=2\r\n\r\n" % number
        assert heads.read(block).signature
    assert heads.known == 0
