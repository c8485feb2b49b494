"""Frames in pieces: bounded in rows and in bytes, and the same bytes as in one."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.epoch import frame
from pipeline.epoch.frame import encode_copy, pieces_of


@given(st.lists(st.none() | st.integers(0, 300), max_size=200), st.integers(1, 30), st.integers(1, 1_000))
def test_pieces_are_all_the_rows_in_order_and_none_is_too_large(sizes: list[int | None], rows: int, size: int) -> None:
    pieces = list(pieces_of(pl.Series(sizes, dtype=pl.Int64), rows, size))
    place = 0
    for start, length in pieces:
        assert start == place
        assert 0 < length <= rows
        assert sum(one or 0 for one in sizes[start : start + length]) < size + 300
        place += length
    assert place == len(sizes)
    fewest = len(sizes) / rows + sum(one or 0 for one in sizes) / size
    assert len(pieces) <= fewest + 1


def test_a_frame_of_many_bytes_is_encoded_in_pieces_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [None, *("\u00f6" * (place * 37 % 2_000) for place in range(999))]
    rows = pl.DataFrame({"number": range(1000), "text": texts, "raw": [b"x" * place for place in range(1000)]})
    whole = b"".join(encode_copy(rows))
    monkeypatch.setattr(frame, "_PIECE_BYTES", 10_000)
    pieces = list(encode_copy(rows))
    assert b"".join(pieces) == whole
    assert len(pieces) > 200
