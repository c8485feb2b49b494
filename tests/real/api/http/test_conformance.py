"""HTTP/1.1 as RFC 9112 has it, case by case: each names its section, what is said, and the statuses that must come.

Each case is followed on its connection by one good request that closes it. So the answers tell both what a case meant
and where the server thinks it ended: one that is understood, or refused by its content alone, is followed by a 200; one
whose framing cannot be trusted is the connection's last.
"""

import json
import re
import socket
from typing import Final

import pytest

from tests.edges import EVENT, EdgeUnderTest, read_all

pytestmark = pytest.mark.real

LIVE: Final = b"GET /health/live HTTP/1.1\r\n"
LAST: Final = LIVE + b"Host: a\r\nConnection: close\r\n\r\n"
BODY: Final = json.dumps(EVENT).encode()
POST: Final = b"POST /api/v1/events HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED: Final = POST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNK: Final = b"%x\r\n%s\r\n" % (len(BODY), BODY)
SIZED: Final = POST + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY

TAKEN: Final = [200, 200]
REFUSED: Final = [400]
"""And the connection ends."""

Case = tuple[str, str, bytes, list[int]]


def get(target: bytes, *lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"\r\n".join((b"GET %s %s" % (target, version), *(lines or (b"Host: a",)), b"", b""))


def live(*lines: bytes) -> bytes:
    return get(b"/health/live", b"Host: a", *lines)


def sized(*lines: bytes) -> bytes:
    """Return an event whose length these lines are to tell."""
    return POST + b"\r\n".join((*lines, b"", b"")) + BODY


def encoded(*lines: bytes) -> bytes:
    """Return an event in one chunk, whose coding these lines are to tell."""
    return POST + b"\r\n".join((*lines, b"", b"")) + CHUNK + b"0\r\n\r\n"


MESSAGES: Final[list[Case]] = [
    ("2.1", "a request", live(), TAKEN),
    ("2.2", "an empty line before the first request", b"\r\n" + live(), TAKEN),
    ("2.2", "empty lines between requests", live() + b"\r\n\r\n" + live(), [200, 200, 200]),
    ("2.2", "lines that end in LF alone, which may be refused", LIVE.replace(b"\r\n", b"\n") + b"Host: a\n\n", REFUSED),
    ("2.2", "one line that ends in LF alone", LIVE + b"Host: a\nX: b\r\n\r\n", REFUSED),
    ("2.2", "an empty line of LF alone", LIVE + b"Host: a\r\n\n", REFUSED),
    ("2.2", "a bare CR in the request line", b"GET /health\rlive HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("2.2", "a bare CR in place of the first space", b"GET\r/health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("2.2", "a bare CR in a field's value", live(b"X: a\rb"), REFUSED),
    ("2.2", "a bare CR in a field's name", live(b"X\rY: a"), REFUSED),
    ("2.2", "a bare CR before the line's end", live(b"X: a\r"), REFUSED),
    ("2.2", "white space before the first field", LIVE + b" X: y\r\nHost: a\r\n\r\n", REFUSED),
    ("2.2", "a line of white space before the first field", LIVE + b" \r\nHost: a\r\n\r\n", REFUSED),
    ("2.2", "what is no HTTP at all", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", REFUSED),
    ("2.3", "a version in lower case", get(b"/health/live", version=b"http/1.1"), REFUSED),
    ("2.3", "a version of three digits", get(b"/health/live", version=b"HTTP/1.10"), REFUSED),
    ("2.3", "a version without a point", get(b"/health/live", version=b"HTTP/11"), REFUSED),
    ("2.3", "a version with a leading zero", get(b"/health/live", version=b"HTTP/01.1"), REFUSED),
    ("2.3", "another protocol", get(b"/health/live", version=b"ICAP/1.1"), REFUSED),
    ("2.3", "a major version that is not spoken", get(b"/health/live", version=b"HTTP/2.0"), [505]),
    ("2.3", "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", REFUSED),
]

REQUEST_LINES: Final[list[Case]] = [
    ("3", "two spaces after the method", b"GET  /health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3", "two spaces after the target", b"GET /health/live  HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3", "a tab for a space", b"GET\t/health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3", "a space after the version", b"GET /health/live HTTP/1.1 \r\nHost: a\r\n\r\n", REFUSED),
    ("3", "a space before the method", b" GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3", "no version (HTTP/0.9)", b"GET /health/live\r\nHost: a\r\n\r\n", [505]),
    ("3", "no target", b"GET HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3", "a line of 8,000 bytes", get(b"/health/live?" + b"x" * (8000 - len(LIVE) - 1)), TAKEN),
    ("3", "a target that is too long", get(b"/" + b"x" * 8192), [414]),
    ("3", "a target without end", b"GET /" + b"x" * 100_000, [414]),
    ("3.1", "a method in lower case is another", b"get /health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3.1", "a method that nobody knows", b"BREW /health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3.1", "a method that is no token", b"G@T /health/live HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3.1", "a method that is not for this path", b"DELETE /health/live HTTP/1.1\r\nHost: a\r\n\r\n", [405, 200]),
    ("3.2", "white space in the target", get(b"/health/live a"), REFUSED),
    ("3.2", "a control character in the target", get(b"/health/live\x01"), REFUSED),
    ("3.2", "NUL in the target", get(b"/health/live\0"), REFUSED),
    ("3.2", "a byte that is not ASCII in the target", get(b"/health/\xe9"), REFUSED),
    ("3.2", "no Host in HTTP/1.1", LIVE + b"X: y\r\n\r\n", REFUSED),
    ("3.2", "no field at all in HTTP/1.1", LIVE + b"\r\n", REFUSED),
    ("3.2", "two Hosts that differ", live(b"Host: b"), REFUSED),
    ("3.2", "two Hosts alike", live(b"Host: a"), REFUSED),
    ("3.2", "two Hosts in HTTP/1.0", get(b"/health/live", b"Host: a", b"Host: b", version=b"HTTP/1.0"), REFUSED),
    ("3.2", "a Host with white space", get(b"/health/live", b"Host: a b"), REFUSED),
    ("3.2", "a Host with a path", get(b"/health/live", b"Host: a/b"), REFUSED),
    ("3.2", "a Host with a user", get(b"/health/live", b"Host: me@a"), REFUSED),
    ("3.2", "a list of Hosts", get(b"/health/live", b"Host: a, b"), REFUSED),
    ("3.2", "an empty Host", get(b"/health/live", b"Host:"), TAKEN),
    ("3.2", "a Host with a port", get(b"/health/live", b"Host: a:8080"), TAKEN),
    ("3.2", "a Host that is an IPv6 address", get(b"/health/live", b"Host: [::1]:8080"), TAKEN),
    ("3.2.1", "a query", get(b"/health/live?a=1&b=/c?d"), TAKEN),
    ("3.2.1", "a target that starts with two slashes is a path", get(b"//a/health/live"), [404, 200]),
    ("3.2.1", "a target that is no path", get(b"health/live"), REFUSED),
    ("3.2.2", "an absolute target", get(b"http://b/health/live"), TAKEN),
    ("3.2.2", "an absolute target whose scheme is in capitals", get(b"HTTP://B/health/live"), TAKEN),
    ("3.2.2", "an absolute target with a port and a query", get(b"http://b:80/health/live?a=1"), TAKEN),
    ("3.2.2", "an absolute target without a path", get(b"http://b"), [200, 200]),
    ("3.2.2", "an absolute target with a query and no path", get(b"http://b?a=/health/live"), [200, 200]),
    ("3.2.2", "an absolute target without a host", get(b"http:///health/live"), REFUSED),
    ("3.2.2", "an absolute target of another scheme", get(b"ftp://b/health/live"), REFUSED),
    ("3.2.3", "a target that is a host and port", get(b"a:80"), REFUSED),
    ("3.2.3", "CONNECT, which only a proxy answers", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", REFUSED),
    ("3.2.4", "an asterisk that is not for OPTIONS", get(b"*"), REFUSED),
    ("3.2.4", "OPTIONS of the server", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [404, 200]),
    ("3.2.4", "OPTIONS of a path", b"OPTIONS /health/live HTTP/1.1\r\nHost: a\r\n\r\n", [405, 200]),
]

FIELDS: Final[list[Case]] = [
    ("5", "a name in any case", get(b"/health/live", b"hOsT: a"), TAKEN),
    ("5", "an empty name", live(b": a"), REFUSED),
    ("5", "a line without a colon", live(b"X"), REFUSED),
    ("5", "a name with a space", live(b"X Y: a"), REFUSED),
    ("5", "a name that is no token", live(b"X(Y): a"), REFUSED),
    ("5", "a name that is not ASCII", live(b"X\xe9: a"), REFUSED),
    ("5", "NUL in a name", live(b"X\0: a"), REFUSED),
    ("5", "NUL in a value", live(b"X: a\0b"), REFUSED),
    ("5", "a control character in a value", live(b"X: a\x01b"), REFUSED),
    ("5", "an empty value", live(b"X:"), TAKEN),
    ("5", "a value that is not ASCII", live(b"X: \xe9\xff"), TAKEN),
    ("5", "a colon in a value", live(b"X: a:b"), TAKEN),
    ("5.1", "a space before the colon", live(b"X : a"), REFUSED),
    ("5.1", "a tab before the colon", live(b"X\t: a"), REFUSED),
    ("5.1", "a space before the colon of what tells the length", sized(b"Content-Length : %d" % len(BODY)), REFUSED),
    ("5.1", "white space around a value", get(b"/health/live", b"Host:\t a \t"), TAKEN),
    ("5.1", "white space around a length", sized(b"Content-Length:\t %d  " % len(BODY)), TAKEN),
    ("5.1", "a tab after a length", sized(b"Content-Length: %d\t" % len(BODY)), TAKEN),
    ("5.1", "no white space before a value", sized(b"Content-Length:%d" % len(BODY)), TAKEN),
    ("5.2", "a folded line", live(b"X: a", b" b"), REFUSED),
    ("5.2", "a line folded by a tab", live(b"X: a", b"\tb"), REFUSED),
    ("5.2", "a folded empty line", live(b"X: a", b" "), REFUSED),
    ("5.2", "a folded Host", get(b"/health/live", b"Host:", b" a"), REFUSED),
    ("5.2", "a folded length", sized(b"Content-Length:", b" %d" % len(BODY)), REFUSED),
]

BODIES: Final[list[Case]] = [
    ("6", "GET with an empty body", live(b"Content-Length: 0"), TAKEN),
    ("6.1", "chunks", CHUNKED + CHUNK + b"0\r\n\r\n", TAKEN),
    ("6.1", "a coding's name in any case", encoded(b"Transfer-Encoding: CHUNKED"), TAKEN),
    ("6.1", "chunks after a length", encoded(b"Content-Length: 5", b"Transfer-Encoding: chunked"), REFUSED),
    ("6.1", "chunks before a length", encoded(b"Transfer-Encoding: chunked", b"Content-Length: 5"), REFUSED),
    ("6.1", "a coding that nobody knows", encoded(b"Transfer-Encoding: shredded, chunked"), [501]),
    ("6.1", "a coding that is known and not taken", encoded(b"Transfer-Encoding: gzip, chunked"), [501]),
    ("6.1", "chunks twice", encoded(b"Transfer-Encoding: chunked, chunked"), REFUSED),
    ("6.1", "chunks that are not last", encoded(b"Transfer-Encoding: chunked, gzip"), REFUSED),
    ("6.1", "no chunks", encoded(b"Transfer-Encoding: gzip"), REFUSED),
    ("6.1", "identity, which is gone", encoded(b"Transfer-Encoding: identity"), REFUSED),
    ("6.1", "a name that ends in chunked", encoded(b"Transfer-Encoding: xchunked"), REFUSED),
    ("6.1", "quoted chunks", encoded(b'Transfer-Encoding: "chunked"'), REFUSED),
    ("6.1", "chunks after a control character", encoded(b"Transfer-Encoding: \x0bchunked"), REFUSED),
    ("6.1", "no coding", encoded(b"Transfer-Encoding:"), REFUSED),
    ("6.1", "two lines", encoded(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), REFUSED),
    ("6.1", "two lines that differ", encoded(b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"), REFUSED),
    (
        "6.1",
        "chunks in HTTP/1.0 end the connection",
        encoded(b"Connection: keep-alive", b"Transfer-Encoding: chunked").replace(b"HTTP/1.1", b"HTTP/1.0"),
        [200],
    ),
    ("6.2", "a length", SIZED, TAKEN),
    ("6.2", "a length with leading zeros", sized(b"Content-Length: 000%d" % len(BODY)), TAKEN),
    ("6.2", "a negative length", sized(b"Content-Length: -1"), REFUSED),
    ("6.2", "a length with a sign", sized(b"Content-Length: +%d" % len(BODY)), REFUSED),
    ("6.2", "a length in hex", sized(b"Content-Length: 0x10"), REFUSED),
    ("6.2", "a length with a point", sized(b"Content-Length: 5.0"), REFUSED),
    ("6.2", "a length with a space", sized(b"Content-Length: 1 0"), REFUSED),
    ("6.2", "digits that are not ASCII", sized("Content-Length: ٣".encode()), REFUSED),
    ("6.2", "an empty length", sized(b"Content-Length:"), REFUSED),
    ("6.2", "a length past 64 bits", sized(b"Content-Length: 18446744073709551621"), REFUSED),
    ("6.3", "two lengths that differ", sized(b"Content-Length: 5", b"Content-Length: 6"), REFUSED),
    ("6.3", "two lengths alike, which may be refused", sized(*[b"Content-Length: %d" % len(BODY)] * 2), REFUSED),
    ("6.3", "a list of lengths that differ", sized(b"Content-Length: 5, 6"), REFUSED),
    ("6.3", "a list of lengths alike, which may be refused", sized(b"Content-Length: 5, 5"), REFUSED),
    ("6.3", "neither length nor chunks: no body", POST + b"\r\n", [400, 200]),
    ("6.3", "what stands after a body is the next request", SIZED + live() + SIZED, [200, 200, 200, 200]),
    ("6.3", "a body that looks like a request", POST + b"Content-Length: %d\r\n\r\n%s" % (len(LAST), LAST), [400, 200]),
]

CHUNKS: Final[list[Case]] = [
    ("7.1", "chunks of one byte", CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n", TAKEN),
    (
        "7.1",
        "a size in capitals",
        CHUNKED + CHUNK.replace(b"%x" % len(BODY), b"%X" % len(BODY), 1) + b"0\r\n\r\n",
        TAKEN,
    ),
    ("7.1", "a size with leading zeros", CHUNKED + b"000" + CHUNK + b"0\r\n\r\n", TAKEN),
    ("7.1", "a last chunk of many zeros", CHUNKED + CHUNK + b"0000\r\n\r\n", TAKEN),
    ("7.1", "no chunk but the last", CHUNKED + b"0\r\n\r\n", [400, 200]),
    ("7.1", "a size with 0x", CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a size with a sign", CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a negative size", CHUNKED + b"-1\r\n\r\n0\r\n\r\n", REFUSED),
    ("7.1", "no size", CHUNKED + b"\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a size that is no number", CHUNKED + b"five\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a space before the size", CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a space after the size", CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a size past 64 bits", CHUNKED + b"10000000000000005\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a chunk longer than its size", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a chunk shorter than its size", CHUNKED + b"6\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a size that ends in LF alone", CHUNKED + b"5\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1", "a chunk that ends in LF alone", CHUNKED + b"5\r\nhello\n0\r\n\r\n", REFUSED),
    ("7.1", "a chunk that ends in CR alone", CHUNKED + b"5\r\nhello\r0\r\n\r\n", REFUSED),
    ("7.1", "a bare CR in a size's line", CHUNKED + b"5\r;a\r\nhello\r\n0\r\n\r\n", REFUSED),
    (
        "7.1.1",
        "an extension, which is ignored",
        CHUNKED + CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + b"0;c\r\n\r\n",
        TAKEN,
    ),
    ("7.1.1", "a quoted extension", CHUNKED + CHUNK.replace(b"\r\n", b';a="b;c"\r\n', 1) + b"0\r\n\r\n", TAKEN),
    ("7.1.1", "LF in an extension", CHUNKED + b"5;a=\nb\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1.1", "NUL in an extension", CHUNKED + b"5;a=\0b\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1.1", "extensions that are too long", CHUNKED + b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("7.1.2", "a trailer, which is dropped", CHUNKED + CHUNK + b"0\r\nX: y\r\n\r\n", TAKEN),
    ("7.1.2", "a trailer that would frame", CHUNKED + CHUNK + b"0\r\nContent-Length: 500\r\n\r\n", TAKEN),
    ("7.1.2", "a trailer that would route", CHUNKED + CHUNK + b"0\r\nHost: b\r\nConnection: close\r\n\r\n", TAKEN),
    ("7.1.2", "a trailer that is no field", CHUNKED + CHUNK + b"0\r\nGET / HTTP/1.1\r\n\r\n", REFUSED),
    ("7.1.2", "a trailer that ends in LF alone", CHUNKED + CHUNK + b"0\r\nX: y\n\r\n\r\n", REFUSED),
    ("7.1.2", "a request hidden behind LF in a trailer", CHUNKED + CHUNK + b"0\r\nX: y\n\n" + LAST, REFUSED),
    ("7.1.2", "trailers that are too long", CHUNKED + CHUNK + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n", [431]),
]

CONNECTIONS: Final[list[Case]] = [
    ("9.3", "HTTP/1.1 is kept", live() + live(), [200, 200, 200]),
    ("9.3", "HTTP/1.0 is not", get(b"/health/live", version=b"HTTP/1.0"), [200]),
    ("9.3", "HTTP/1.0 that asks to be, which may be refused", get(
        b"/health/live", b"Connection: keep-alive", version=b"HTTP/1.0"
    ), [200]),
    ("9.3", "a connection that names another option", live(b"Connection: x"), TAKEN),
    ("9.3", "keep-alive", live(b"Connection: keep-alive"), TAKEN),
    ("9.3.2", "pipelined requests, in order", live() + get(b"/none") + SIZED + live(), [200, 404, 200, 200, 200]),
    ("9.6", "close", live(b"Connection: close"), [200]),
    ("9.6", "close in any case, in a list", live(b"Connection: x, CLOSE"), [200]),
    ("9.6", "close on the first of two lines", live(b"Connection: close", b"Connection: keep-alive"), [200]),
    ("9.6", "close on the second of two lines", live(b"Connection: keep-alive", b"Connection: close"), [200]),
    ("9.6", "close in a name that is another", live(b"Connection: closed"), TAKEN),
    ("9.6", "what follows a close is not answered", live(b"Connection: close") + SIZED + SIZED, [200]),
]  # fmt: skip


def statuses(wire: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", wire)]


@pytest.mark.parametrize(
    "cases", [MESSAGES, REQUEST_LINES, FIELDS, BODIES, CHUNKS, CONNECTIONS], ids=["2", "3", "5", "6", "7", "9"]
)
def test_every_case_of_a_chapter(edge: EdgeUnderTest, cases: list[Case]) -> None:
    expected = {(section, name): answers for section, name, _, answers in cases}
    assert len(expected) == len(cases), "two cases of one name"
    found = {(section, name): statuses(edge.say(wire + LAST)) for section, name, wire, _ in cases}
    assert {case: answers for case, answers in found.items() if answers != expected[case]} == {}
    assert statuses(edge.say(SIZED + LAST)) == TAKEN


@pytest.mark.parametrize("wire", [SIZED[:-1], CHUNKED + CHUNK, CHUNKED + CHUNK + b"0\r\nX: y\r\n", LIVE])
def test_8_a_request_that_ends_too_early_is_not_answered_and_does_nothing(edge: EdgeUnderTest, wire: bytes) -> None:
    with edge.dial() as client:
        client.sendall(wire)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""
    assert edge.metric("events_received_total") == 0


def answered(edge: EdgeUnderTest, wire: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return the status line, the fields and the rest of a reply, on a connection that then ends."""
    head, _, rest = edge.say(wire).partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    return start, {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}, rest


def test_4_and_6_3_a_reply_says_where_it_ends(edge: EdgeUnderTest) -> None:
    start, fields, rest = answered(edge, LAST)
    assert start == b"HTTP/1.1 200 OK"
    assert int(fields[b"content-length"]) == len(rest)
    assert fields[b"connection"] == b"close"
    assert b"transfer-encoding" not in fields
    _, same, nothing = answered(edge, LAST.replace(b"GET", b"HEAD"))
    assert (same[b"content-length"], nothing) == (fields[b"content-length"], b"")


def test_9_6_a_refusal_that_ends_the_connection_says_so(edge: EdgeUnderTest) -> None:
    start, fields, _ = answered(edge, live(b"X : y"))
    assert start == b"HTTP/1.1 400 Bad Request"
    assert fields[b"connection"] == b"close"


def test_9_3_http10_is_answered_by_a_server_of_http11(edge: EdgeUnderTest) -> None:
    start, fields, _ = answered(edge, get(b"/health/live", b"X: y", version=b"HTTP/1.0"))
    assert start == b"HTTP/1.1 200 OK"
    assert fields[b"connection"] == b"close"


def test_an_expectation_is_met_in_http11_and_ignored_in_http10(edge: EdgeUnderTest) -> None:
    """RFC 9110, 10.1.1."""
    with edge.dial() as client:
        head = POST + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(BODY)
        client.sendall(head)
        assert statuses(client.recv(100)) == [100]
        client.sendall(BODY + LAST)
        assert statuses(read_all(client)) == TAKEN
    with edge.dial() as client:
        client.sendall(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert edge.answers("/health/live"), "by now it has read that head"
        client.sendall(BODY)
        assert statuses(read_all(client)) == [200]


def test_an_upgrade_is_not_taken_and_the_request_is_answered(edge: EdgeUnderTest) -> None:
    """RFC 9110, 7.8."""
    upgrade = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__")
    assert statuses(edge.say(live(*upgrade) + LAST)) == TAKEN
