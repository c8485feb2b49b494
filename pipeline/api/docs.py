"""GET /docs: swagger-ui, a viewer of OpenAPI. Its files are in `viewer/`, and a browser asks nobody else for anything.

`viewer/viewer.lock` says which version they are; `make viewer` fetches a newer one.
"""

import gzip
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Final

from pipeline.api.http.heads import Head
from pipeline.api.http.replies import Refusal, encode

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Vary", "Accept-Encoding"),
    ("Cache-Control", "max-age=3600"),
)
_HERE: Final = files("pipeline.api")
_VIEWER: Final = _HERE / "viewer"
_takes_gzip = re.compile(rb"(?:^|,)\s*(?:x-)?gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)", re.IGNORECASE)


class Documentation:
    """The page and its files, as they are and compressed: of the viewer's script that is a third."""

    def __init__(self) -> None:
        self._replies = {
            b"/docs": _replies(_packed(_HERE / "docs.html"), "text/html"),
            b"/docs/start.js": _replies(_packed(_HERE / "docs.js"), "text/javascript"),
            b"/docs/swagger-ui.css": _replies((_VIEWER / "swagger-ui.css.gz").read_bytes(), "text/css"),
            b"/docs/swagger-ui-bundle.js": _replies(
                (_VIEWER / "swagger-ui-bundle.js.gz").read_bytes(), "text/javascript"
            ),
        }

    def answer(self, head: Head) -> tuple[int, bytes]:
        """Return the file that is asked for. Raises Refusal: 404."""
        found = self._replies.get(head.path)
        if found is None:
            raise Refusal(404, "no such path; /docs lists them")
        plain, packed = found
        return 200, packed if takes_gzip(head) else plain


def takes_gzip(head: Head) -> bool:
    """Whether the client takes a compressed reply."""
    return _takes_gzip.search(head.headers.get(b"accept-encoding", b"")) is not None


def _packed(source: Traversable) -> bytes:
    return gzip.compress(source.read_bytes(), mtime=0)


def _replies(packed: bytes, media_type: str) -> tuple[bytes, bytes]:
    described = f"{media_type}; charset=utf-8"
    plain = encode(200, gzip.decompress(packed), described, _HEADERS)
    return plain, encode(200, packed, described, [("Content-Encoding", "gzip"), *_HEADERS])
