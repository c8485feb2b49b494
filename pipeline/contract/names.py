"""Names in Redis that anybody may have written: bytes that are no UTF-8 are kept as halves of surrogates.

The client is given them as they were. PostgreSQL holds no such name, and cannot be asked for one.
"""

from collections.abc import Iterable


def name_of(raw: bytes) -> str:
    """Read a name."""
    return raw.decode("utf-8", "surrogateescape")


def raw_of(name: str) -> bytes:
    """Write a name as it was read."""
    return name.encode("utf-8", "surrogateescape")


def printable(name: str) -> str:
    """Return a name as it can be written anywhere."""
    return raw_of(name).decode("utf-8", "replace")


def texts(names: Iterable[str]) -> list[str]:
    """Return the names that are texts."""
    return [name for name in names if is_text(name)]


def is_text(name: str) -> bool:
    """Tell whether a name is a text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
