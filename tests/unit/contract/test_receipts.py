"""Receipts: what is written is read, and nothing else is."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract.receipts import MOST, PATTERN, read_receipts, write_receipt
from tests.texts import texts

places = st.dictionaries(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1), min_size=1, max_size=20)


@given(places, places)
def test_what_is_written_is_read(first: dict[int, int], second: dict[int, int]) -> None:
    written = [write_receipt(first), write_receipt(second)]
    assert list(read_receipts(written)) == [*sorted(first.items()), *sorted(second.items())]
    assert read_receipts([",".join(written)]) == read_receipts(written)
    assert all(re.match(PATTERN, one) for one in written)


@given(texts | st.from_regex(r"[0-9:, ]{0,12}", fullmatch=True))
def test_what_is_none_is_refused(text: str) -> None:
    try:
        read = read_receipts([text])
    except ValueError:
        assert not re.match(PATTERN, text) or "\n" in text
        return
    assert re.match(PATTERN, text.replace(" ", ""))
    assert read == read_receipts([write_receipt({partition: offset}) for partition, offset in read])


def test_no_more_than_so_many() -> None:
    read_receipts(["0:0"] * MOST)
    with pytest.raises(ValueError, match="at most"):
        read_receipts(["0:0"] * (MOST + 1))
