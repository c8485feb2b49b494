"""From the form to the board: an event that somebody sends is seen to arrive."""

import json
import re
import subprocess
from datetime import UTC, date, datetime
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.furnishing import GAME, HOSTILE, event, post
from tests.browser.site import Site, go, is_live
from tests.consuming import caught_up

pytestmark = pytest.mark.real

QUOTED = 'O\'Brien "$HOME" `id` \\ 中'


def hops_done(page: Page) -> None:
    expect(page.locator(".hop.done")).to_have_count(4)


def test_an_event_is_sent_and_followed_to_the_board_in_three_clicks(site: Site) -> None:
    page = site.open()
    is_live(page)
    page.get_by_role("link", name="Send an event").first.click()
    page.get_by_role("button", name="Send", exact=True).click()
    hops_done(page)
    expect(page.locator(".hop.done").first).to_contain_text("the API replied after")
    expect(page.get_by_text("What it changed")).to_be_visible()
    year, week, _ = datetime.now(UTC).date().isocalendar()
    board = page.get_by_role("link", name=f"Board of {GAME}, week {year}-W{week:02}")
    monday = str(date.fromisocalendar(year, week, 1))
    expect(board).to_have_attribute("href", re.compile(f"period=weekly&date={monday}"))
    page.get_by_role("link", name=f"Board of {GAME}, all time").click()
    expect(page.locator("tr.me")).to_have_count(2)  # on the board, and among its neighbours
    expect(page.locator("tr.me").first).to_contain_text("1,500")
    with site.place.pg() as connection:
        rows = connection.execute("SELECT event_type, player_id, data FROM events").fetchall()
    assert rows == [("player_score", "player-test-001", {"score": 1500})]


def test_the_same_event_sent_again_is_a_copy_and_changes_nothing(site: Site) -> None:
    page = site.open("#/trace")
    page.get_by_role("button", name="Send", exact=True).click()
    hops_done(page)
    page.get_by_role("button", name="Send the same again").click()
    expect(page.locator(".alert")).to_contain_text("A copy: not counted again")
    page.get_by_role("link", name="The first of them").click()
    expect(page.locator("details.record")).to_have_count(2)
    go(page, f"#/boards/{GAME}?player=player-test-001")
    expect(page.locator("tr.me").first).to_contain_text("1,500")
    with site.place.pg() as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_the_curl_that_is_shown_does_the_same(site: Site) -> None:
    page = site.open("#/trace")
    page.get_by_label("player_id").first.fill(QUOTED)
    page.get_by_label("data (a JSON object)").fill('{"score": 3, "note": "it\'s"}')
    command = page.locator("form pre").inner_text()
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout)["status"] == "success"
    caught_up(site.place)
    go(page, f"#/players/{quote(QUOTED, safe='')}")
    expect(page.locator("#main")).to_contain_text("Events in all")


def test_a_refused_event_names_the_field(site: Site) -> None:
    page = site.open("#/trace")
    page.get_by_label("player_id").first.fill("")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("player_id")
    expect(page.get_by_label("player_id").first).to_have_attribute("aria-invalid", "true")
    kept = page.locator("section.card").filter(has=page.get_by_role("heading", name="Refused at the door"))
    expect(kept).to_contain_text("player_id", timeout=30_000)
    page.get_by_label("player_id").first.fill("p-1")
    page.get_by_label("data (a JSON object)").fill("{nonsense")
    expect(page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    expect(page.locator("#try-data-wrong")).to_contain_text("Not JSON")


def test_the_trail_of_any_event_by_its_ids(site: Site) -> None:
    sent = event(HOSTILE, 5)
    post(site, sent)
    page = site.open("#/trace")
    page.locator("#find-player_id").fill(HOSTILE)
    page.locator("#find-event_id").fill(sent["event_id"])
    page.get_by_role("button", name="Trace", exact=True).click()
    hops_done(page)
    page.get_by_role("link", name="See the record").click()
    expect(page.locator("details.record[open]")).to_contain_text(sent["event_id"])
    page.locator("details.record[open]").get_by_role("link", name="Its trail").click()
    hops_done(page)


def test_an_event_that_waits_for_its_consumer_says_so_and_goes_on(site: Site) -> None:
    site.consumer.stop()
    page = site.open("#/trace")
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator(".hop.done")).to_have_count(1)
    expect(page.locator(".hop.waiting")).to_have_count(3)
    site.consumer.start()
    hops_done(page)
