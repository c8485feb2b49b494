"""What tests on the real servers share."""

from collections.abc import Iterator

import pytest

from tests.edges import EdgeUnderTest, running_edge
from tests.place import Place


@pytest.fixture
def edge(place: Place) -> Iterator[EdgeUnderTest]:
    """`gamemetrics serve` at the test's place."""
    with running_edge(place) as running:
        yield running
