"""The page of the API: a viewer from its package, under a policy without anything inline or from elsewhere."""

import gzip
import hashlib
import json
import re
from importlib.resources import files

import pytest

from pipeline.api.docs import Documentation
from pipeline.api.http.heads import parse_head
from pipeline.api.http.replies import Refusal

Reply = tuple[dict[str, str], bytes]


@pytest.fixture(scope="module")
def page() -> Documentation:
    return Documentation()


def fetch(page: Documentation, path: str, accepts: str = "") -> Reply:
    line = f"Accept-Encoding: {accepts}\r\n" if accepts else ""
    status, reply = page.answer(parse_head(f"GET {path} HTTP/1.1\r\nHost: a\r\n{line}\r\n".encode()))
    head, _, body = reply.partition(b"\r\n\r\n")
    assert status == 200
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert int(headers["Content-Length"]) == len(body)
    return headers, body


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(page: Documentation) -> None:
    headers, body = fetch(page, "/docs")
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert not re.search(r"unsafe|https?:|\*", policy)
    html = body.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", html, re.IGNORECASE)
    asked = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert {path for path in asked if not path.startswith("/")} <= {"data:,"}
    script = fetch(page, "/docs/start.js")[1].decode()
    assert "//" not in re.sub(r"^//.*$", "", script, flags=re.MULTILINE)


def test_every_file_of_the_page_is_there(page: Documentation) -> None:
    html = fetch(page, "/docs")[1].decode()
    kinds = {".css": "text/css", ".js": "text/javascript"}
    paths = [path for path in re.findall(r'(?:src|href)="([^"]+)"', html) if path.startswith("/docs/")]
    assert len(paths) == 3
    for path in paths:
        headers, body = fetch(page, path)
        assert headers["Content-Type"].startswith(kinds[path[path.rindex(".") :]])
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert body
    with pytest.raises(Refusal) as refused:
        fetch(page, "/docs/other.js")
    assert refused.value.status == 404


def test_the_viewer_s_files_are_those_of_the_lock(page: Documentation) -> None:
    folder = files("pipeline.api") / "viewer"
    locked = json.loads((folder / "viewer.lock").read_text())["files"]
    for name, digest in locked.items():
        served = name.endswith((".js", ".css"))
        content = fetch(page, f"/docs/{name}")[1] if served else (folder / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name
    assert "LICENSE" in locked


@pytest.mark.parametrize(
    ("accepts", "packed"),
    [
        ("", False),
        ("gzip", True),
        ("gzip, deflate, br, zstd", True),
        ("br;q=1.0, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br, gzip; q=0.00", False),
        ("identity", False),
        ("xgzip", False),
    ],
)
def test_who_takes_gzip_gets_a_third_of_the_bytes(page: Documentation, accepts: str, *, packed: bool) -> None:
    plain = fetch(page, "/docs/swagger-ui-bundle.js")[1]
    headers, body = fetch(page, "/docs/swagger-ui-bundle.js", accepts)
    assert headers["Vary"] == "Accept-Encoding"
    assert (headers.get("Content-Encoding") == "gzip") is packed
    assert (gzip.decompress(body) if packed else body) == plain
    assert not packed or len(body) < len(plain) / 2.5
