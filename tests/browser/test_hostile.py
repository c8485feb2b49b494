"""Names that want to be markup, or to turn the page around: shown as they are, in every place that shows names."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.furnishing import GAME, NAMES, event, furnish, post
from tests.browser.site import PHONE, Site, fits, go, is_live

pytestmark = pytest.mark.real

UNSEEN = r"[\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"


"""What has no width or turns the direction: a page says that it is there instead of writing it."""
SHOWN = """one => [...one.childNodes].filter((part) => !part.className).map((part) => part.textContent).join("")"""


def untouched(page: Page) -> None:
    """Nothing that a name holds became part of the page."""
    assert page.evaluate("document.querySelectorAll('#console img:not(.brand img), #console script').length") == 0
    assert "taken" not in page.title()


def test_every_name_is_shown_and_asked_for_as_it_is(site: Site) -> None:
    furnish(site)
    page = site.open(viewport=PHONE)
    is_live(page)
    for name in NAMES:
        go(page, "#/players")
        page.get_by_label("player_id").fill(name)
        page.get_by_label("player_id").press("Enter")
        expect(page.locator("#main")).to_contain_text("Events in all")
        heading = page.locator("section.card", has_text="Events in all").locator("h2 bdi")
        shown = heading.evaluate(SHOWN)
        assert shown == (re.sub(UNSEEN, "", name) if name.strip() else ""), name
        untouched(page)
        assert fits(page) == [], name


def test_a_board_of_hostile_names_is_a_board(site: Site) -> None:
    furnish(site)
    page = site.open(f"#/boards/{GAME}")
    expect(page.locator("#main")).to_contain_text("on this board")
    expect(page.locator("tbody tr")).to_have_count(25)
    for where in ("#/topic", "#/dead-letters", "#/trace", "#/boards"):
        go(page, where)
        expect(page.locator(".wait")).to_have_count(0)
        untouched(page)


def test_data_is_shown_as_it_was_written(site: Site) -> None:
    """Not parsed and written again: a number of many digits, a repeated key and an escape stay what they are."""
    data = rb'{"n":12345678901234567890.10,"n":1E2,"s":"<b>\u0041"}'
    written = b'{"event_type":"note","player_id":"p-9","game_id":"g","data":%b}' % data
    site.place.produce([("p-9", written)], partition=0)
    post(site, event("p-8", 1))
    page = site.open("#/topic/0?player_id=p-9")
    page.locator("details.record summary").click()
    text = page.locator("details.record pre").inner_text()
    assert "".join(text.split()) == "".join(written.decode().split())
    untouched(page)
