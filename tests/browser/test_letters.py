"""Dead letters in the console: looked at, sent again or dropped, by whom and why; and not without the right to."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.furnishing import HOSTILE, event
from tests.browser.site import ConsumerUnderTest, Site, faults, go, running_site
from tests.consuming import caught_up
from tests.edges import make_key
from tests.place import Place

pytestmark = pytest.mark.real


def strict(directory: Path) -> str:
    """A scoring table under which a trade must have gold; the usual one knows no trade."""
    file = directory / "strict.toml"
    file.write_text('[trade]\nfield = "gold"\n')
    return str(file)


def give_reason(page: Page, verb: str, reason: str) -> None:
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 letter.")
    assert faults(page) == []
    dialog.get_by_role("button", name=f"{verb} 1 letter").click()
    expect(dialog).to_contain_text("1 letter.")  # without a reason nothing is done
    dialog.get_by_label("Why").fill(reason)
    dialog.get_by_role("button", name=f"{verb} 1 letter").click()
    expect(dialog.get_by_role("status").first).to_contain_text("1 letter")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


def test_a_letter_is_redriven_once_its_cause_is_mended(site: Site, tmp_path: Path) -> None:
    site.consumer.stop()
    strictly = ConsumerUnderTest(site.place, SCORING_FILE=strict(tmp_path))
    try:
        strictly.start()
        site.place.produce([("ada", json.dumps(event("ada", 0, event_type="trade", data={"gold": "five"})).encode())])
        caught_up(site.place)
        strictly.stop()
    finally:
        strictly.kill_if_running()
    site.consumer.start()
    page = site.open("#/dead-letters")
    page.get_by_label("Choose letter 1").check()
    page.get_by_role("button", name="Redrive 1 chosen").click()
    give_reason(page, "Redrive", HOSTILE)
    expect(page.locator("#main")).to_contain_text("No record waits here")
    audit = page.locator("section.card", has=page.get_by_role("heading", name="Who did what"))
    expect(audit.locator("tbody tr")).to_have_count(1)
    for text in ("loopback", "redrive", HOSTILE):
        expect(audit).to_contain_text(text)
    go(page, "#/players/ada")
    expect(page.locator("#main")).to_contain_text("trade")
    go(page, "#/dead-letters/1")
    expect(page.locator(".facts")).to_contain_text("Redriven")


def test_letters_of_one_reason_are_dropped_with_a_key_that_may(browser: Browser, place: Place) -> None:
    reader = make_key(place, "watcher", "--scope", "read")
    admin = make_key(place, "ops", "--scope", "read", "--scope", "admin")
    with running_site(browser, place) as site:
        place.produce([("k", b"not JSON")])
        caught_up(place)
        page = site.open("#/dead-letters?code=invalid")
        expect(page.get_by_role("alert").first).to_contain_text("need a key")
        use_key(page, reader)
        page.get_by_role("button", name="Drop all of invalid").click()
        dialog = page.get_by_role("dialog").first
        expect(dialog).to_contain_text("needs a key of scope admin")
        dialog.get_by_role("button", name="Enter a key").click()
        page.get_by_label("Key", exact=True).fill(admin)
        page.get_by_role("button", name="Use this key").click()
        give_reason(page, "Drop", "a probe of ours")
        expect(page.locator("#main")).to_contain_text("ops")
        go(page, "#/dead-letters?state=dropped")
        expect(page.locator("tbody tr").first).to_contain_text("invalid")
        nothing_is_kept(page, reader, admin)


def use_key(page: Page, key: str) -> None:
    page.locator(".offline").get_by_role("button", name="Enter a key").click()
    page.get_by_label("Key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog")).to_have_count(0)


def nothing_is_kept(page: Page, *keys: str) -> None:
    """A key is in the memory of its page: in nothing that is stored or shown, and gone with the page."""
    kept = page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
    text = page.content()
    assert not [key for key in keys if key in kept or key in text]
    page.reload()
    expect(page.get_by_role("alert").first).to_contain_text("need a key")
