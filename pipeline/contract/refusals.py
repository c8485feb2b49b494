"""Refused events in Redis: how many, for how long, and under which keys."""

import hashlib
from typing import Final

REFUSALS_INDEX: Final = "refusals:holders"
"""A sorted set of the holders (an API key's name and games) that were refused something, by when they last were."""
REFUSALS_LISTS: Final = "refusals:of:"
KEPT_SECONDS: Final = 3 * 86_400
KEPT_OF_A_HOLDER: Final = 200
KEPT_HOLDERS: Final = 200


def refusals_key(holder: str) -> str:
    """Name the list of a holder's refusals, the newest first: by a digest, for a key's name may be any text.

    SHA-1, because a script in Redis can name it too.
    """
    return REFUSALS_LISTS + hashlib.sha1(holder.encode(), usedforsecurity=False).hexdigest()
