"""The pictures of README and docs: `make screenshots` writes them to docs/, any other run only tries it."""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.operations.migrate import migrate
from tests.browser.furnishing import event, furnish
from tests.browser.site import PHONE, Site, go, is_live, running_site
from tests.place import Place

if TYPE_CHECKING:
    from pipeline.local.stack import Stack

pytestmark = pytest.mark.real

MAX_BYTES = 300_000
A_MINUTE = re.compile(r"^M([\d .]+L){9}")
"""The line of a chart that has ten points or more, one in five seconds."""


@pytest.fixture
def site(browser: Browser, stack: "Stack") -> Iterator[Site]:
    """API and consumer under the names that they have by default, as whoever reads the papers will see them."""
    place = Place(stack, stack.settings(kafka_group_id="event-pipeline-group"))
    migrate(place.settings)
    with running_site(browser, place) as running:
        yield running


@contextmanager
def traffic(site: Site) -> Iterator[None]:
    """Some events a second, until the block ends."""
    stop = threading.Event()

    def send() -> None:
        turn = 0
        while not stop.wait(0.05):
            turn += 1
            players = [f"player-{(turn * 7 + n) % 60:03}" for n in range(turn % 5 + 1)]
            site.edge.post("/api/v1/events/batch", [event(player, turn) for player in players])

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)


def picture(page: Page, directory: Path, name: str) -> None:
    file = directory / f"console-{name}.png"
    page.screenshot(path=file, animations="disabled")
    assert 10_000 < file.stat().st_size < MAX_BYTES


def test_the_pictures_are_small_and_of_live_pages(site: Site, tmp_path: Path) -> None:
    directory = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    furnish(site)
    with traffic(site):
        for scheme in ("light", "dark"):
            page = site.open(color_scheme=scheme, viewport={"width": 1280, "height": 860})
            is_live(page)
            expect(page.locator(".tile .line").first).to_have_attribute("d", A_MINUTE)
            picture(page, directory, f"overview-{scheme}")
        go(page, "#/trace")
        page.get_by_role("button", name="Send", exact=True).click()
        expect(page.locator(".hop.done")).to_have_count(4)
        picture(page, directory, "trace-dark")
        phone = site.open(viewport=PHONE)
        is_live(phone)
        picture(phone, directory, "phone")
