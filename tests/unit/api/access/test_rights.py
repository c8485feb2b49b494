"""Every call of the API says what a key must be allowed, or it is none."""

import pytest

from pipeline.api.access.rights import Right
from pipeline.api.boards.get_boards import get_board, get_statistics
from pipeline.api.edge import CALLS, Route
from pipeline.api.events.post_event import post_event


def test_a_call_without_a_right_cannot_be_written_down() -> None:
    with pytest.raises(ValueError, match="needs a right"):
        Route("/api/v1/secrets", get=get_statistics)


def test_a_right_is_about_what_the_path_tells() -> None:
    with pytest.raises(ValueError, match="about"):
        Route("/api/v1/leaderboards/{game_id}", get=get_board, right=Right("read", "every game"))
    with pytest.raises(ValueError, match="about"):
        Route("/api/v1/boards", get=get_board, right=Right("read", "the game in the path"))
    with pytest.raises(ValueError, match="body"):
        Route("/api/v1/boards", get=get_board, right=Right("read", "the games in the body"))
    Route("/api/v1/events", post=post_event, right=Right("write", "the games in the body"))


def test_what_reads_needs_read_and_what_writes_needs_write() -> None:
    assert {(route.get is not None, route.scope) for route in CALLS} == {
        (True, "read"), (False, "write"), (False, "admin"),
    }  # fmt: skip


def test_what_the_console_asks_is_judged_by_the_page_that_asks() -> None:
    for route in CALLS:
        assert route.right is not None
        assert route.right.page is route.template.startswith("/api/v1/console/"), route.template
        assert route.right.page or route.scope != "admin", route.template
