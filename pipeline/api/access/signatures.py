"""Signed requests, for clients that must not send a secret along.

    Authorization: HMAC-SHA256 key=1a2b3c4d, t=1795000000, v1=<64 hexadecimal digits>

`v1` is the HMAC-SHA256, under the key's secret, of `t` as it is written, a full stop, and the body as it is sent (still
compressed, if it is). `t` is the Unix time; a signature holds for five minutes on either side of it, so that a request
seen on its way cannot be sent again for ever, and a clock may be a little off.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Final

TOLERANCE_SECONDS: Final = 300
_form = re.compile(rb"key=([A-Za-z0-9]{1,32}), ?t=([0-9]{1,12}), ?v1=([0-9a-fA-F]{64})\Z")


@dataclass(frozen=True, slots=True)
class Signature:
    """What a client presents: under which key, when (as written), and the digest."""

    key_id: str
    time: bytes
    digest: bytes

    def is_of(self, secret: bytes, body: bytes) -> bool:
        """Tell whether `secret` signed `body`; in a time that does not tell how far a forgery is right."""
        expected = hmac.new(secret, self.time + b".", "sha256")
        expected.update(body)
        return hmac.compare_digest(expected.digest(), self.digest)

    def seconds_off(self, now: float) -> int:
        """Return how far its time is from `now`, the Unix time here; negative when it is in the past."""
        return round(int(self.time) - now)


def read_signature(parameters: bytes) -> Signature | None:
    """Read what follows the scheme in the Authorization header; None when it is not of this form."""
    matched = _form.match(parameters)
    if matched is None:
        return None
    return Signature(matched[1].decode("ascii"), matched[2], bytes.fromhex(matched[3].decode("ascii")))
