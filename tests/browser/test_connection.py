"""What a page does while the API is away, and beside another page."""

import os
import re
import signal

import pytest
from playwright.sync_api import Browser, expect

from tests.browser.furnishing import GAME, event, post
from tests.browser.site import Site, faults, go, is_live, running_site
from tests.edges import make_key
from tests.place import Place
from tests.waiting import eventually

pytestmark = pytest.mark.real


def test_an_api_that_goes_away_and_comes_back(site: Site) -> None:
    post(site, event("ada", 30))
    page = site.open("#/topic")
    expect(page.locator("details.record")).to_have_count(1)
    is_live(page)
    site.edge.stop()
    banner = page.locator(".offline")
    expect(banner).to_contain_text("No connection")
    expect(banner).to_contain_text("What you see is from before")
    expect(page.locator("#main .alert").first).to_contain_text("does not answer")
    expect(page.locator("details.record")).to_have_count(1)  # what was seen stays
    assert faults(page) == []
    go(page, f"#/boards/{GAME}")  # whose games are asked for once, and not again and again
    expect(page.locator("#main")).to_contain_text("Not loaded")
    site.edge.start()
    is_live(page)
    expect(banner).to_have_count(0)
    expect(page.locator("tbody tr")).to_have_count(1)  # by itself
    expect(page.get_by_role("alert")).to_have_count(0)


def test_an_api_that_hangs_is_told_from_one_that_is_quiet(site: Site) -> None:
    page = site.open()
    is_live(page)
    os.kill(site.edge.pid, signal.SIGSTOP)
    try:
        expect(page.locator(".offline")).to_contain_text("silent")
    finally:
        os.kill(site.edge.pid, signal.SIGCONT)
    is_live(page)


def test_trying_again_need_not_be_waited_for(site: Site) -> None:
    page = site.open()
    is_live(page)
    # It would try again by itself, sooner or later than the API is back: no wait of a third of a second or more ends.
    page.evaluate("(of => { setTimeout = (work, ms) => of(work, ms < 300 ? ms : 1e8); })(setTimeout)")
    site.edge.stop()
    expect(page.locator(".offline")).to_be_visible()
    expect(page.locator("h1")).to_have_text("Overview")
    expect(page.locator(".flow")).to_be_visible()
    site.edge.start()
    page.locator(".offline").get_by_role("button", name="Try now").click(force=True, no_wait_after=True)
    is_live(page)


def test_a_tab_that_nobody_sees_gives_its_connection_back(site: Site) -> None:
    """A browser has six connections to a server: six tabs that each hold one would keep the seventh from anything."""
    page = site.open()
    is_live(page)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)  # noqa: FBT003
    expect(page.locator(".tools .state")).to_have_text("○paused")
    page.evaluate(hide, False)  # noqa: FBT003
    is_live(page)


def test_a_second_tab_sees_what_the_first_did(site: Site) -> None:
    window = site.window()
    first, second = site.open("#/trace", window), site.open(f"#/boards/{GAME}", window)
    is_live(second)
    expect(second.locator("#main")).to_contain_text("Nobody is on this board")
    first.bring_to_front()
    first.get_by_role("button", name="Send", exact=True).click()
    expect(first.locator(".hop.done")).to_have_count(4)
    second.bring_to_front()
    expect(second.locator("tbody tr")).to_have_count(1)
    is_live(first)


def test_a_consumer_that_is_away_is_seen_on_the_overview(site: Site) -> None:
    post(site, event("ada", 30))
    page = site.open()
    expect(page.locator(".verdict")).to_contain_text("Nothing is amiss")
    site.consumer.stop()
    reply = site.edge.post("/api/v1/events/batch", [event("ada", n) for n in range(500)])
    assert reply.json()["accepted"] == 500
    lag = page.locator(".tile", has=page.get_by_role("heading", name="Lag"))
    expect(lag.locator(".value")).to_contain_text("500 records")
    site.consumer.start()
    expect(lag.locator(".value")).to_contain_text(re.compile(r"^0 records"))
    expect(page.locator(".verdict")).to_contain_text("Nothing is amiss")


def test_what_the_overview_says_is_what_there_is(site: Site) -> None:
    """The positions of partitions are those of the log, and sum up to the events that were sent."""
    post(site, *(event(f"p{n}", n) for n in range(137)))
    page = site.open()
    card = page.locator("section.card", has=page.get_by_role("heading", name="Positions of"))
    expect(card.locator("tbody tr")).to_have_count(3)

    def level() -> list[int]:
        """The ends of the logs of the partitions whose positions are all there."""
        heads = card.locator("thead th").all_inner_texts()
        rows = [
            dict(zip(heads, row.locator("th, td").all_inner_texts(), strict=True))
            for row in card.locator("tbody tr").all()
        ]
        return [
            int(row["End of the log"])
            for row in rows
            if row["End of the log"] == row["PostgreSQL"] == row["Redis"] and row["Lag"] == "0"
        ]

    eventually(lambda: len(ends := level()) == 3 and sum(ends) == 137, timeout=60)


def test_the_stream_takes_the_key_and_each_page_has_its_own(browser: Browser, place: Place) -> None:
    key = make_key(place, "watcher", "--scope", "read")
    with running_site(browser, place) as site:
        window = site.window()
        page = site.open("#/", window)
        expect(page.locator(".tools .state")).to_have_text("▲key needed")
        page.get_by_role("button", name="Key: none").click()
        page.get_by_label("Key", exact=True).fill(key)
        page.get_by_label("Key", exact=True).press("Enter")
        is_live(page)
        expect(page.locator(".flow")).to_be_visible()
        other = site.open("#/", window)
        expect(other.locator(".tools .state")).to_have_text("▲key needed")
