"""Boards: of all time, of past days and weeks, a place with its neighbours; and they move while one looks."""

from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Page, expect

from tests.browser.furnishing import GAME, ago, event, post
from tests.browser.site import Site, go

pytestmark = pytest.mark.real


def ranking(page: Page) -> list[tuple[str, str]]:
    """The players of the first board that is shown, with their points."""
    rows = page.locator("table").first.locator("tbody tr")
    return [(row.locator("bdi").inner_text(), row.locator("td").nth(1).inner_text()) for row in rows.all()]


def test_a_board_moves_while_one_looks(site: Site) -> None:
    post(site, event("ada", 30), event("bob", 20))
    page = site.open("#/boards")
    expect(page.locator("tbody tr")).to_have_count(2)  # the only game is chosen
    assert ranking(page) == [("ada", "30"), ("bob", "20")]
    post(site, event("bob", 1_980))
    expect(page.locator("tbody tr").first).to_contain_text("2,000")
    expect(page.locator("tr.moved1, tr.moved0")).to_have_count(1)
    assert ranking(page) == [("bob", "2,000"), ("ada", "30")]
    post(site, event("cyd", 5))
    expect(page.locator("tbody tr")).to_have_count(3)


def test_past_days_and_weeks_are_chosen_from_those_there_are(site: Site) -> None:
    today = datetime.now(UTC).date()
    long_ago = today - timedelta(days=10)
    post(site, event("ada", 1), event("ada", 2, timestamp=ago(timedelta(days=10))))
    page = site.open(f"#/boards/{GAME}?period=daily")
    days = page.get_by_label("Day (UTC)")
    expect(days.locator("option")).to_have_count(3)
    expect(page.locator("tbody tr")).to_contain_text("1")
    days.select_option(str(long_ago))
    expect(page.locator("tbody td").nth(1)).to_have_text("2")
    page.get_by_role("link", name="Week", exact=True).click()
    year, week, _ = long_ago.isocalendar()
    page.get_by_label("Week (Monday to Sunday, UTC)").select_option(label=f"{year}-W{week:02}")
    expect(page.locator("tbody td").nth(1)).to_have_text("2")
    page.get_by_role("link", name="All time", exact=True).click()
    expect(page.locator("tbody td").nth(1)).to_have_text("3")


def test_a_place_has_neighbours_and_pages_have_an_end(site: Site) -> None:
    post(site, *(event(f"p{n:02}", n) for n in range(60)))
    page = site.open(f"#/boards/{GAME}")
    page.get_by_label("player_id").fill("p30")
    page.get_by_role("button", name="Find").click()
    place = page.locator("section.card", has=page.get_by_role("heading", name="A player's place"))
    expect(place).to_contain_text("p30 is 30 of 60, with 30 points.")
    expect(place.locator("tbody tr")).to_have_count(9)
    expect(place.locator("tr.me")).to_have_count(1)
    page.get_by_role("link", name="Next 25").click()
    expect(page.locator("tbody tr").first).to_contain_text("26")
    page.get_by_role("link", name="Next 25").click()
    expect(page.locator("table").first.locator("tbody tr")).to_have_count(10)
    expect(page.get_by_role("link", name="Next 25")).to_have_count(0)
    go(page, f"#/boards/{GAME}?player=..")
    expect(page.get_by_role("alert")).to_contain_text("for directions")
