"""What the embedded PostgreSQL is told, beside what it is told by everybody."""

import pytest

from pipeline.local.postgres import shared_buffers_bytes


@pytest.mark.parametrize(
    ("memory_gib", "megabytes"), [(0.25, 128), (1, 256), (8, 2048), (16, 4096), (256, 4096)]
)  # fmt: skip
def test_pages_are_kept_in_a_quarter_of_the_memory_within_bounds(memory_gib: float, megabytes: int) -> None:
    assert shared_buffers_bytes(int(memory_gib * 2**30)) == megabytes * 2**20
