"""The console's files: what is served of a folder, under which headers, and what is not."""

import gzip
import re
from pathlib import Path

import pytest

from pipeline.api.console.pages import Pages
from pipeline.api.http.heads import parse_head
from pipeline.api.http.replies import Refusal


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    (tmp_path / "index.html").write_text("<!doctype html><title>Console</title>" + "x" * 1000)
    (tmp_path / "console.js").write_text("start()")
    (tmp_path / "library.js.gz").write_bytes(gzip.compress(b"library()"))
    (tmp_path / "notes.md").write_text("not served")
    (tmp_path / "folder.js").mkdir()
    return Pages(tmp_path)


def fetch(pages: Pages, path: str, *lines: str) -> tuple[int, dict[str, str], bytes]:
    block = "\r\n".join([f"GET {path} HTTP/1.1", "Host: a", *lines, "", ""])
    status, reply = pages.answer(parse_head(block.encode()))
    head, _, body = reply.partition(b"\r\n\r\n")
    return status, dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:]), body


def test_the_page_and_its_files_are_served_as_they_are_and_compressed(pages: Pages) -> None:
    for path, media_type, content in (
        ("/", "text/html", b"<!doctype"),
        ("/console/index.html", "text/html", b"<!doctype"),
        ("/console/console.js", "text/javascript", b"start()"),
        ("/console/library.js", "text/javascript", b"library()"),
    ):
        status, headers, body = fetch(pages, path)
        assert (status, body[: len(content)]) == (200, content)
        assert headers["Content-Type"].startswith(media_type)
        assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
        assert not re.search(r"unsafe|https?:|\*", headers["Content-Security-Policy"])
        _, packed, body = fetch(pages, path, "Accept-Encoding: gzip")
        assert (packed["Content-Encoding"], gzip.decompress(body)[: len(content)]) == ("gzip", content)
        assert packed["ETag"] == headers["ETag"]
        status, again, body = fetch(pages, path, f'If-None-Match: "x", {headers["ETag"]}')
        assert (status, body, again["ETag"]) == (304, b"", headers["ETag"])
        assert "Content-Length" not in again


@pytest.mark.parametrize(
    "path", ["/console/", "/console/notes.md", "/console/folder.js", "/console/../edge.py", "/console/%2e%2e/edge.py",
             "/console/library.js.gz", "/console/index.html%00", "/console/pages/index.html"],
)  # fmt: skip
def test_nothing_else_is_served(pages: Pages, path: str) -> None:
    with pytest.raises(Refusal) as refused:
        fetch(pages, path)
    assert refused.value.status == 404


def test_without_a_page_the_way_leads_to_the_api_s(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        status, headers, _ = fetch(Pages(folder), "/")
        assert (status, headers["Location"]) == (302, "/docs")
