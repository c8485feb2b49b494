"""What an epoch owes Redis: numbered calls per span, the same in memory, in the outbox and at a replay."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.contract.offsets import Spans
from pipeline.epoch.aggregate import Chunk

_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the apply function: chunk number `chunk` of `chunks` of the span [from_offset, next_offset)."""

    partition: int
    from_offset: int
    next_offset: int
    chunk: int
    chunks: int
    payload: bytes


def calls_for(spans: Spans, chunks: Sequence[Chunk]) -> list[Call]:
    """Give each span its calls, numbered; one without chunks has an empty call, which moves the watermark in Redis."""
    calls = []
    for span in spans:
        payloads = [one.payload for one in chunks if one.partition == span.partition] or [_EMPTY]
        for number, payload in enumerate(payloads):
            calls.append(Call(span.partition, span.start, span.stop, number, len(payloads), payload))
    return calls
