"""Which page a browser's call comes from, and whose word on a user is taken."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.access.origins import Origins, configured_origins
from pipeline.api.http.heads import Head, parse_head
from pipeline.api.http.replies import Refusal
from pipeline.config import Settings
from pipeline.errors import ConfigurationError

OURS = configured_origins(
    Settings(
        console_hosts="console.example, Other.Example:8443",
        console_identity_header="X-User",
        console_trusted_proxies="10.0.0.0/8,2001:db8::1",
    )
)


def head(host: str, *lines: str) -> Head:
    return parse_head("\r\n".join(["POST / HTTP/1.1", f"Host: {host}", *lines, "", ""]).encode("latin-1"))


def refused(head: Head, *, keyless: bool = True, changes: bool = False) -> int:
    try:
        OURS.check(head, keyless=keyless, changes=changes)
    except Refusal as refusal:
        return refusal.status
    return 0


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "[::1]", "10.1.2.3", "console.example:1",
             "other.example", "localhost.", "console.example."],
)  # fmt: skip
def test_an_address_and_a_known_name_can_be_nobody_elses(host: str) -> None:
    assert refused(head(host)) == 0


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "console.example.evil", "localhostx",
             "[evil]", "0x7f.1", ""],
)  # fmt: skip
def test_any_other_name_is_refused_where_no_key_is_needed(host: str) -> None:
    assert refused(head(host)) == 403
    assert refused(head(host), keyless=False) == 0


def test_a_request_without_a_host_is_refused_there() -> None:
    assert refused(parse_head(b"GET / HTTP/1.0\r\n\r\n")) == 403


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["Origin: http://localhost:8080"], 0),
        (["Origin: https://console.example"], 0),
        (["Origin: HTTP://LOCALHOST:8080"], 0),
        (["Origin: http://localhost:8081"], 403),
        (["Origin: http://localhost"], 403),
        (["Origin: http://127.0.0.1"], 403),
        (["Origin: http://console.example:8081"], 403),
        (["Origin: https://other.example:8443"], 0),
        (["Origin: null"], 403),
        (["Origin: file://"], 403),
        (["Origin: chrome-extension://localhost:8080"], 403),
        (["Origin: http://localhost:8080", "Origin: http://evil.example"], 403),
        (["Sec-Fetch-Site: none"], 0),
        (["Sec-Fetch-Site: same-origin"], 0),
        (["Sec-Fetch-Site: same-site"], 403),
        (["Sec-Fetch-Site: cross-site"], 403),
    ],
)
def test_what_a_browser_says_of_its_origin_must_be_ours(lines: list[str], status: int) -> None:
    for keyless in (True, False):
        assert refused(head("localhost:8080", *lines), keyless=keyless) == status


def test_a_change_says_what_no_other_site_can() -> None:
    said = ["Content-Type: application/json", "X-Requested-By: console"]
    assert refused(head("localhost", *said), changes=True) == 0
    assert refused(head("localhost", said[0]), changes=True) == 403
    assert refused(head("localhost", said[1]), changes=True) == 415
    assert refused(head("localhost", said[1], "Content-Type: text/plain"), changes=True) == 415


def test_only_a_trusted_proxy_names_a_user() -> None:
    named = head("localhost", "X-User: alice")
    assert [OURS.identity(named, peer) for peer in ("10.9.9.9", "2001:db8::1")] == ["alice", "alice"]
    assert [OURS.identity(named, peer) for peer in ("11.0.0.1", "::1", "", "nonsense")] == [""] * 4
    assert OURS.identity(head("localhost"), "10.9.9.9") == ""
    assert Origins([]).identity(head("localhost", "X-User: alice"), "10.9.9.9") == ""


@given(st.binary(max_size=300).filter(lambda value: not set(value) & set(b"\r\n\0")))
def test_a_name_is_printable_and_short_whatever_was_sent(value: bytes) -> None:
    block = (
        b"GET / HTTP/1.1\r\nHost: a\r\nX-User: "
        + bytes(byte for byte in value if byte > 31 and byte != 127)
        + b"\r\n\r\n"
    )
    name = OURS.identity(parse_head(block), "10.0.0.1")
    assert len(name) <= 200
    assert name.isprintable()


@pytest.mark.parametrize("proxies", ["nonsense", "10.0.0.1/8", "10.0.0.0/8,x"])
def test_a_network_that_is_none_stops_the_start(proxies: str) -> None:
    with pytest.raises(ConfigurationError, match="CONSOLE_TRUSTED_PROXIES"):
        configured_origins(Settings(console_trusted_proxies=proxies))
