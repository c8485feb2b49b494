"""Receipts: where the topic has an event, as a POST's reply says it and a read may wait for it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

HEADER: Final = "X-Event-Position"
"""The header of a POST's reply: `partition:offset`, of a batch the last one of each partition, with commas between."""

MOST: Final = 1_000
"""How many places may be waited for at once."""

PATTERN: Final = r"^[0-9]{1,9}:[0-9]{1,18}(,[0-9]{1,9}:[0-9]{1,18})*$"

_place = re.compile(r"([0-9]{1,9}):([0-9]{1,18})\Z", re.ASCII)


def write_receipt(places: Mapping[int, int]) -> str:
    """Write the offset of each partition as a receipt."""
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(places.items()))


def read_receipts(texts: Iterable[str]) -> tuple[tuple[int, int], ...]:
    """Read receipts as partitions and offsets. Raises ValueError saying what is wrong."""
    found: list[tuple[int, int]] = []
    for text in texts:
        for part in text.split(","):
            place = _place.match(part.strip(" "))
            if place is None:
                raise ValueError(f"must be {HEADER} of a POST's reply, partition:offset, and not {part[:100]!r}")
            found.append((int(place[1]), int(place[2])))
    if len(found) > MOST:
        raise ValueError(f"names {len(found)} places; at most {MOST} can be waited for")
    return tuple(found)
