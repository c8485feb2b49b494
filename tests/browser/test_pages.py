"""Every page, in light and dark, wide and on a phone: drawn within its frame, and axe finds nothing."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.furnishing import GAME, HOSTILE, furnish
from tests.browser.site import PHONE, WIDE, Site, faults, fits, go, is_live

pytestmark = pytest.mark.real

PAGES = {
    "#/": "Positions of",
    "#/trace": "The same with curl",
    f"#/boards/{GAME}": "on this board",
    f"#/boards/{GAME}?period=daily&player=player-test-001": "points.",
    f"#/boards/{GAME}?period=weekly&player=nobody": "Not on this board",
    "#/boards/unheard-of": "Nobody is on this board",
    "#/players": "Whose events?",
    "#/players/player-test-001": "Events in all",
    "#/players/unheard-of": "Nothing was counted",
    "#/dead-letters": "Choose letters",
    "#/dead-letters?state=dropped": "None was dropped",
    "#/dead-letters/1": "Set aside",
    "#/dead-letters/999999": "No dead letter 999999",
    "#/topic": "newest first",
    "#/topic/0?player_id=unheard-of": "No record matches",
    "#/no-such-page": "names no page",
    "#/boards/%ff": "names no page",
}
"""An address, and what says that it is drawn."""


def look_at_each(page: Page) -> None:
    is_live(page)
    for where, shown in PAGES.items():
        go(page, where)
        expect(page.locator("#main")).to_contain_text(shown)
        expect(page.locator("h1")).to_have_count(1)
        expect(page.locator(".wait")).to_have_count(0)
        assert fits(page) == [], where
        assert faults(page) == [], where


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, PHONE], ids=["wide", "phone"])
def test_every_page_is_drawn_within_its_frame_and_axe_finds_nothing(
    site: Site, scheme: str, viewport: dict[str, int]
) -> None:
    furnish(site)
    page = site.open(color_scheme=scheme, viewport=viewport)
    look_at_each(page)
    page.get_by_role("button", name="Key: none").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert faults(page) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_record_unfolds_and_a_wide_screen_is_used(site: Site) -> None:
    furnish(site)
    page = site.open("#/topic", viewport={"width": 2560, "height": 1440})
    record = page.locator("details.record").first
    record.locator("summary").click()
    expect(record.locator("pre")).to_contain_text('"player_id": ')
    assert faults(page) == []
    assert fits(page) == []
    main = page.locator("#main").bounding_box()
    assert main is not None
    assert main["width"] > 1_300


def test_empty_pages_say_what_to_do(site: Site) -> None:
    page = site.open(viewport=PHONE)
    is_live(page)
    expected = {
        "#/": "Send an event",
        "#/boards": "A board appears with the first score of a game",
        "#/dead-letters": "No record waits here",
        "#/topic": "This partition is empty",
    }
    for where, shown in expected.items():
        go(page, where)
        expect(page.locator("#main")).to_contain_text(shown)
        assert fits(page) == [], where
        assert faults(page) == [], where


def test_the_keyboard_reaches_everything_and_focus_follows(site: Site) -> None:
    furnish(site)
    page = site.open()
    is_live(page)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.get_by_role("link", name="Boards", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text("Boards")
    expect(page.get_by_role("link", name="Boards", exact=True)).to_have_attribute("aria-current", "page")
    expect(page).to_have_title("Boards · gamemetrics")
    page.get_by_role("link", name="Week", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Week (Monday to Sunday, UTC)")).to_be_visible()


def test_colours_and_zone_are_chosen_and_kept(site: Site) -> None:
    furnish(site)
    page = site.open("#/players/player-test-001", color_scheme="dark")
    theme = "document.documentElement.dataset.theme"
    expect(page.get_by_text("Events in all")).to_be_visible()
    assert page.evaluate(theme) == "dark"
    page.get_by_role("button", name="Colours: auto").click()
    expect(page.get_by_role("button", name="Colours: light")).to_be_visible()
    assert page.evaluate(theme) == "light"
    time = page.locator("section.card", has_text="Events in all").locator("time")
    local, utc = time.inner_text(), time.get_attribute("title")
    assert utc is not None
    assert utc.endswith(" UTC")
    assert local not in utc  # Berlin is an hour or two ahead
    page.get_by_role("button", name="Show UTC").click()
    expect(page.get_by_role("button", name="Show Europe/Berlin")).to_be_visible()
    assert time.inner_text().split(" ")[-1] in utc
    page.reload()
    expect(page.get_by_text("Events in all")).to_be_visible()
    assert page.evaluate(theme) == "light"
    expect(page.get_by_role("button", name="Show Europe/Berlin")).to_be_visible()


def test_times_and_numbers_have_their_units(site: Site) -> None:
    page = site.open()
    is_live(page)
    seen = page.evaluate("""async () => {
      const f = await import("/console/format.js");
      const day = Date.parse("2026-01-15T00:00:00Z");
      return [
        f.duration(0.057), f.duration(1.25), f.duration(75), f.duration(3600), f.count(1234567), f.counted(1, "record"),
        f.rate(0.04), f.rate(52), f.rate(51234.5), f.bytes(2048), f.roughly(1234567890),
        f.utc("2026-01-15T11:30:00.123456+01:00"), f.clock("2026-01-15T10:30:00Z", "UTC", day),
        f.clock("2026-01-15T10:30:00Z", "UTC", 0),
      ];
    }""")
    assert seen == [
        "57 ms", "1.3 s", "1 min 15 s", "1 h", "1,234,567", "1 record",
        "0.1", "52.0", "51,235", "2.0 KiB", "1.2 billion",
        "2026-01-15 10:30:00.123456 UTC", "10:30:00",
        "2026-01-15 10:30:00",
    ]  # fmt: skip


def test_a_name_is_itself_in_every_address(site: Site) -> None:
    """Where a link to a hostile name leads is the name, whatever it holds."""
    furnish(site)
    page = site.open()
    go(page, f"#/boards/{GAME}")
    expect(page.locator("#main")).to_contain_text("on this board")
    page.get_by_role("link", name="Next 25").click()
    page.locator("table").get_by_role("link", name=HOSTILE).click()
    expect(page.locator("h1")).to_have_text("Players")
    expect(page.locator("#find-player_id")).to_have_value(HOSTILE)
    expect(page.locator("#main")).to_contain_text("Events in all")
