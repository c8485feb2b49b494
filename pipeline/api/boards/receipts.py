"""`after` and `wait_ms`: a read of one's own write."""

from collections.abc import Mapping
from typing import Final

from pipeline.api.boards.arrivals import Reads
from pipeline.api.context import Context
from pipeline.api.http.replies import Refusal
from pipeline.api.parameters import Whole, whole
from pipeline.contract.receipts import read_receipts

AFTER: Final = "after"
WAIT: Final = Whole("wait_ms", 5_000, 0, 10_000, "How many milliseconds to wait for what `after` names")


async def await_receipts(context: Context, asked: Mapping[str, str], reads: Reads) -> tuple[tuple[int, int], ...]:
    """Wait until both sinks have what `after` names; return the places.

    Raises Refusal: 400 for what is no receipt of this topic, 504 if it takes longer than `wait_ms`.
    """
    text = asked.get(AFTER)
    if text is None:
        if WAIT.name in asked:
            raise Refusal(400, f"{WAIT.name}: needs {AFTER}, which says what to wait for")
        return ()
    wait = whole(asked, WAIT)
    try:
        positions = read_receipts([text])
    except ValueError as error:
        raise Refusal(400, f"{AFTER}: {error}") from None
    places: dict[int, int] = {}
    for partition, offset in positions:
        places[partition] = max(offset, places.get(partition, 0))
    with context.aside():
        await context.arrivals.reached(reads, places, wait / 1000)
    return positions
