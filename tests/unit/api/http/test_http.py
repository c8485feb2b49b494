"""Heads, chunks and content codings: what is HTTP here, and what is refused."""

import gzip
import os
import sys
import time
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.http.bodies import plain
from pipeline.api.http.chunks import Chunks
from pipeline.api.http.heads import Head, HeadError, Heads, parse_head
from pipeline.api.http.replies import Refusal

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

HOST = b"Host: localhost\r\n"


def head(*lines: bytes, start: bytes = b"POST /api/v1/events HTTP/1.1") -> Head:
    return parse_head(b"\r\n".join((start, *lines, b"", b"")))


def test_a_head_says_what_it_says() -> None:
    read = head(
        b"Host: localhost:8080",
        b"Content-Type: Application/JSON; charset=utf-8",
        b"Content-Length: 12",
        b"Content-Encoding: GZIP",
        b"Expect: 100-continue",
        start=b"POST /api/v1/events?a=1&b=%20 HTTP/1.1",
    )
    assert (read.method, read.path, read.query, read.length) == ("POST", b"/api/v1/events", b"a=1&b=%20", 12)
    assert (read.media_type, read.encoding) == ("application/json", "gzip")
    assert read.expects_continue
    assert read.keep_alive
    assert read.parameters() == [("a", "1"), ("b", " ")]


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        ([], 400),
        ([HOST[:-2], HOST[:-2]], 400),
        ([b"Host: a b"], 400),
        ([b"Host: a", b"Content-Length: 1", b"Content-Length: 1"], 400),
        ([b"Host: a", b"Content-Length: 1", b"Content-Length: 2"], 400),
        ([b"Host: a", b"Content-Length: 1, 1"], 400),
        ([b"Host: a", b"Content-Length: -1"], 400),
        ([b"Host: a", b"Content-Length: +1"], 400),
        ([b"Host: a", b"Content-Length: 0x1"], 400),
        ([b"Host: a", b"Content-Length: 99999999999999999999999"], 400),
        ([b"Host: a", b"Content-Length: 1", b"Transfer-Encoding: chunked"], 400),
        ([b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 1"], 400),
        ([b"Host: a", b"Transfer-Encoding: gzip, chunked"], 501),
        ([b"Host: a", b"Transfer-Encoding: chunked, identity"], 400),
        ([b"Host: a", b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"], 400),
        ([b"Host: a", b"Transfer-Encoding : chunked"], 400),
        ([b"Host: a", b"X: 1", b" folded"], 400),
        ([b"Host: a", b"X: a\0b"], 400),
        ([b"Host: a", b"X: a\nb"], 400),
        ([b"Host: a", b"X: a\rb"], 400),
        ([b"Host: a", b"X Y: 1"], 400),
        ([b"Host: a", b": 1"], 400),
        ([b"Host: a", b"Authorization: Bearer a", b"Authorization: Bearer b"], 400),
        ([b"Host: a", b"X-API-Key: a", b"X-API-Key: b"], 400),
    ],
)
def test_a_head_that_two_readers_could_read_differently_is_refused(lines: list[bytes], status: int) -> None:
    with pytest.raises(HeadError) as caught:
        head(*lines)
    assert caught.value.status in {status, 400 if status == 501 else status}


@pytest.mark.parametrize(
    "start",
    [
        b"GET / HTTP/2.0",
        b"GET / HTTP/0.9",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"G\0T / HTTP/1.1",
        b"get / HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"CONNECT a:1 HTTP/1.1",
        b"GET /\x80 HTTP/1.1",
        b"\x16\x03\x01\x02\x00\x01",
    ],
)
def test_a_request_line_that_is_not_http_is_refused(start: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        head(b"Host: a", start=start)
    assert caught.value.status in {400, 505}


@pytest.mark.parametrize(
    ("start", "path"),
    [
        (b"GET http://other/health/live HTTP/1.1", b"/health/live"),
        (b"GET https://other HTTP/1.1", b"/"),
        (b"GET /a#b HTTP/1.1", b"/a"),
    ],
)
def test_an_absolute_target_is_a_path(start: bytes, path: bytes) -> None:
    assert head(b"Host: a", start=start).path == path


def test_an_upgrade_is_not_taken_and_http10_is_not_kept() -> None:
    assert head(b"Host: a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c").method == "POST"
    assert not head(b"Host: a", b"Connection: close").keep_alive
    assert not head(b"Connection: keep-alive", start=b"GET / HTTP/1.0").keep_alive


def test_a_key_is_known_by_its_digest_wherever_it_stands() -> None:
    bearer = head(b"Host: a", b"Authorization: Bearer secret-of-16-chars").credential
    assert bearer == head(b"Host: a", b"X-API-Key: secret-of-16-chars").credential
    assert len(bearer) == 32
    assert head(b"Host: a", b"Authorization: Basic secret-of-16-chars").credential == b""
    assert "secret" not in repr(head(b"Host: a", b"X-API-Key: secret-of-16-chars"))


def test_repeated_headers_make_one_list_and_white_space_is_no_part_of_a_value() -> None:
    assert not head(b"Host: a", b"Connection: close", b"Connection: keep-alive").keep_alive
    assert head(b"Host: a", b"X: 1 \t", b"x:2").headers[b"x"] == b"1, 2"
    assert head(b"Host:\t a \t", b"Content-Length: 5  ").length == 5


@pytest.mark.parametrize("start", [b"GET http://b?a=/x HTTP/1.1", b"GET HTTP://B/?a=/x HTTP/1.1"])
def test_an_absolute_target_in_capitals_or_without_a_path(start: bytes) -> None:
    read = head(b"Host: a", start=start)
    assert (read.path, read.query) == (b"/", b"a=/x")


def test_an_escaped_slash_stays_in_its_segment() -> None:
    read = head(b"Host: a", start=b"GET /api/v1/players/a%2Fb%20%C3%A9/stats HTTP/1.1")
    assert read.segments() == ["api", "v1", "players", "a/b é", "stats"]


def test_heads_are_remembered_up_to_a_bound() -> None:
    heads = Heads()
    block = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert heads.read(block) is heads.read(block)
    for number in range(10_000):
        heads.read(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    assert heads.known <= 4096
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: %s\r\n\r\n" % (b"x" * 2000)
    assert heads.read(long) is not heads.read(long)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=10), st.data())
def test_chunks_arrive_in_any_pieces(parts: list[bytes], rest: bytes, data: st.DataObject) -> None:
    wire = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\nX-Trailer: 1\r\n\r\n" + rest
    chunks, at, after = Chunks(1000), 0, b""
    while not chunks.done:
        step = data.draw(st.integers(1, 20))
        after = chunks.feed(wire[at : at + step])
        at += step
    assert bytes(chunks.body) == b"".join(parts)
    assert after + wire[at:] == rest


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"x\r\n", 400),
        (b"-1\r\n", 400),
        (b"0x1\r\na\r\n", 400),
        (b" 1\r\na\r\n", 400),
        (b"1 \r\na\r\n", 400),
        (b"\r\n", 400),
        (b"1;a=b\x01\r\na\r\n", 400),
        (b"1\r\nab\r\n", 400),
        (b"1\r\na\n0\r\n", 400),
        (b"fffffffff\r\n", 400),
        (b"ffffffff\r\n", 413),
        (b"65\r\n", 413),
        (b"1" * 300, 400),
        (b"1;" + b"x" * 300 + b"\r\n", 400),
        (b"0\r\n" + b"X: y\r\n" * 1000, 431),
        (b"0\r\nX: y\n\nGET / HTTP/1.1\r\n", 400),
    ],
)
def test_odd_chunks_are_refused(wire: bytes, status: int) -> None:
    with pytest.raises(HeadError) as caught:
        Chunks(100).feed(wire)
    assert caught.value.status == status


def encoded(coding: bytes) -> Head:
    return head(b"Host: a", b"Content-Encoding: " + coding)


def zstd_frame(content: bytes, **parameters: int) -> bytes:
    return zstd.compress(
        content, options={zstd.CompressionParameter[name]: value for name, value in parameters.items()}
    )


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstd_frame)])
def test_several_members_or_frames_inflate(coding: bytes, pack: Callable[[bytes], bytes]) -> None:
    assert plain(encoded(coding), pack(b"[1,") + pack(b"2]"), 100) == b"[1,2]"
    assert plain(encoded(coding), pack(b"x" * 100), 100) == b"x" * 100
    assert plain(encoded(b"identity"), b"x", 100) == b"x"


def test_a_zstd_frame_without_its_size_or_with_a_checksum_inflates() -> None:
    content = b'{"a":1}' * 10
    assert plain(encoded(b"zstd"), zstd_frame(content, content_size_flag=0, checksum_flag=1), 100) == content


# 9 MB that no window holds but one of 16 MiB or more, of unknown size: RFC 9659 allows 8 MiB.
WIDE = zstd_frame(os.urandom(1000) * 9000, content_size_flag=0, window_log=24)


@pytest.mark.parametrize(
    ("coding", "body", "status"),
    [
        (b"gzip", gzip.compress(bytes(101)), 413),
        (b"gzip", gzip.compress(bytes(10_000_000)), 413),
        (b"gzip", gzip.compress(bytes(50)) * 3, 413),
        (b"gzip", gzip.compress(b"x" * 50)[:-3], 400),
        (b"gzip", b"plain", 400),
        (b"gzip", gzip.compress(b"x") + b"junk", 400),
        (b"gzip", gzip.compress(b"") * 101, 400),
        (b"zstd", zstd_frame(bytes(101)), 413),
        (b"zstd", zstd_frame(bytes(10_000_000)), 413),
        (b"zstd", zstd_frame(bytes(10_000_000), content_size_flag=0), 413),
        (b"zstd", zstd_frame(bytes(50)) * 3, 413),
        (b"zstd", zstd_frame(b"x" * 50)[:-3], 400),
        (b"zstd", zstd_frame(b"x" * 50)[:3], 400),
        (b"zstd", zstd_frame(b"x" * 50, checksum_flag=1)[:-4] + b"\0\0\0\0", 400),
        (b"zstd", b"plain", 400),
        (b"zstd", gzip.compress(b"x"), 400),
        (b"zstd", zstd_frame(b"x") + b"junk", 400),
        (b"zstd", zstd_frame(b"") * 101, 400),
        (b"zstd", WIDE, 400),
        (b"br", b"x", 415),
        (b"gzip, gzip", gzip.compress(gzip.compress(b"x")), 415),
    ],
)
def test_a_bad_coding_is_refused(coding: bytes, body: bytes, status: int) -> None:
    with pytest.raises(Refusal) as caught:
        plain(encoded(coding), body, 100)
    assert caught.value.status == status
    if status == 415:
        assert dict(caught.value.headers)["Accept-Encoding"] == "gzip, zstd, identity"
        assert "gzip, zstd" in caught.value.error


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstd_frame)])
def test_a_bomb_is_not_inflated_past_the_limit(coding: bytes, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(Refusal):
        plain(encoded(coding), bomb, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


@pytest.mark.parametrize(("coding", "pack"), [(b"gzip", gzip.compress), (b"zstd", zstd_frame)])
def test_a_body_of_empty_members_costs_no_time(coding: bytes, pack: Callable[[bytes], bytes]) -> None:
    body = pack(b"") * 200_000
    started = time.process_time()
    with pytest.raises(Refusal):
        plain(encoded(coding), body, 1_000_000)
    assert time.process_time() - started < 1
