"""A step holds a piece of the topic and no more, however long the log is, and however much is counted meanwhile."""

from typing import Any

import pytest

from pipeline.verify import steps
from pipeline.verify.steps import Prover, Read
from tests.consuming import caught_up, consuming
from tests.events import encoded
from tests.place import Place, Record
from tests.real.verify.test_steps import found_in, go_on
from tests.real.verify.test_verify import NONE, events

pytestmark = pytest.mark.real

RECORDS = 40
LARGE = 40_000


def held(place: Place, patch: pytest.MonkeyPatch, meanwhile: list[list[Record]]) -> list[tuple[int, int, int]]:
    """Verify, and have so many records more counted after each reading.

    Returns of each reading how many records the step holds then, how many are copied, and how many bytes they were.
    """
    seen: list[tuple[int, int, int]] = []
    read = Prover._read  # noqa: SLF001 - what it leaves in memory

    def reading(self: Prover, piece: Read, until: Any) -> None:
        read(self, piece, until)
        row = self._connection.execute("SELECT count(*) FROM proof_records").fetchone()
        seen.append((len(piece.places), row[0] if row is not None else 0, piece.size))
        if meanwhile:
            place.produce(meanwhile.pop())
            caught_up(place)

    with patch.context() as here, consuming(place):
        caught_up(place)
        here.setattr(Prover, "_read", reading)
        assert found_in(go_on(place)) == NONE
    assert not meanwhile
    return seen


def test_no_step_holds_more_records_than_a_piece(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PIECE_RECORDS", RECORDS)
    for count in (RECORDS // 2, 5 * RECORDS):
        place.produce(events(count, seed=count))
        seen = held(place, monkeypatch, [events(RECORDS - 1, seed=count + more) for more in range(1, 5)])
        assert max(records for records, _, _ in seen) == RECORDS
        assert max(copied for _, copied, _ in seen) <= RECORDS


def test_nor_more_bytes_than_a_piece_and_what_one_poll_brings(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "PIECE_BYTES", 4 * LARGE)
    monkeypatch.setattr("pipeline.kafka.topic._PAGE", 1)
    loads: list[list[Record]] = [
        [("p", encoded(player_id="p", data={"note": "x" * LARGE})) for _ in range(3)] for _ in range(4)
    ]
    place.produce(loads[0][:2])
    seen = held(place, monkeypatch, loads[1:])
    assert 4 * LARGE <= max(size for _, _, size in seen) < 5 * LARGE + 2_000
