"""GET / and /console/<file>: the console's page, from files in the package, under a policy without anything inline."""

import gzip
import hashlib
from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from pipeline.api.docs import POLICY, takes_gzip
from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Header, Refusal, encode

FOLDER: Final = files("pipeline.api.console") / "pages"
_INDEX: Final = "index.html"
_PACKED: Final = ".gz"
_TYPES: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "mjs": "text/javascript; charset=utf-8",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webp": "image/webp",
    "woff2": "font/woff2",
}
"""By the end of a file's name; what has another is not served."""

_HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Vary", "Accept-Encoding"),
    ("Cache-Control", "no-cache"),  # kept, and asked for again each time: a new version is seen at once
)


class _File:
    """One file, as it is and compressed, as whole replies."""

    def __init__(self, content: bytes, media_type: str) -> None:
        self._tag = f'W/"{hashlib.sha256(content).hexdigest()[:24]}"'
        headers: list[Header] = [("ETag", self._tag), *_HEADERS]
        self._plain = encode(200, content, media_type, headers)
        packed = gzip.compress(content, mtime=0)
        self._packed = encode(200, packed, media_type, [("Content-Encoding", "gzip"), *headers])
        self._unchanged = encode(304, b"", media_type, headers)

    def answer(self, head: Head) -> tuple[int, bytes]:
        """Return the file, or that the client has it."""
        if self._tag.encode() in head.headers.get(b"if-none-match", b""):
            return 304, self._unchanged
        return 200, self._packed if takes_gzip(head) else self._plain


class Pages:
    """The files of a folder, read once. One that is there compressed, `name.gz`, is served as `name`."""

    def __init__(self, folder: Traversable = FOLDER) -> None:
        self._files = {f"/console/{name}".encode(): file for name, file in _read(folder)}
        self._index = self._files.get(f"/console/{_INDEX}".encode())

    def answer(self, head: Head) -> tuple[int, bytes]:
        """Return the file that is asked for; the page at /, or the way to the API's if there is none.

        Raises Refusal: 404.
        """
        if head.path == b"/":
            if self._index is None:
                return 302, encode(302, b"", "text/plain", [("Location", "/docs")])
            return self._index.answer(head)
        found = self._files.get(head.path)
        if found is None:
            raise Refusal(404, "no such file of the console")
        return found.answer(head)


def _read(folder: Traversable) -> Iterator[tuple[str, _File]]:
    for one in folder.iterdir() if folder.is_dir() else ():
        name = one.name.removesuffix(_PACKED)
        media_type = _TYPES.get(name.rpartition(".")[2])
        if media_type is not None and one.is_file():
            content = one.read_bytes()
            yield name, _File(gzip.decompress(content) if one.name != name else content, media_type)
