"""The topic in the console: newest records, filters, offsets, and JSON to take away."""

import json

import pytest
from playwright.sync_api import expect

from tests.browser.furnishing import event
from tests.browser.site import Site
from tests.waiting import eventually

pytestmark = pytest.mark.real


def records(count: int) -> list[tuple[str, bytes]]:
    return [
        (f"p{n % 3}", json.dumps(event(f"p{n % 3}", n, event_type="login" if n % 4 else "quest")).encode())
        for n in range(count)
    ]


def test_newest_first_then_further_back_and_from_an_offset(site: Site) -> None:
    site.place.produce(records(120), partition=1, headers={"event_type": b"login"})
    page = site.open("#/topic")
    shown = page.locator("details.record .offset")
    expect(shown).to_have_count(50)
    expect(shown.first).to_have_text("119")
    page.get_by_role("link", name="Earlier").click()
    expect(shown.first).not_to_have_text("119")
    page.get_by_label("From offset").fill("7")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("details.record[open]")).to_contain_text("Header event_type")
    expect(shown.first).to_have_text("7")


def test_by_player_and_type(site: Site) -> None:
    site.place.produce(records(60), partition=2)
    page = site.open("#/topic/2")
    page.get_by_label("player_id").fill("p1")
    page.get_by_label("event_type").fill("quest")
    page.get_by_label("event_type").press("Enter")
    expected = [n for n in range(60) if n % 3 == 1 and n % 4 == 0]
    shown = page.locator("details.record .offset")
    expect(shown).to_have_count(len(expected))
    assert [int(one) for one in shown.all_inner_texts()] == expected[::-1]
    page.get_by_label("Since (your zone)").fill("2999-01-01T00:00:00")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#main")).to_contain_text("No record matches")


def test_new_records_appear_while_one_follows(site: Site) -> None:
    site.place.produce(records(3), partition=0)
    page = site.open("#/topic/0")
    shown = page.locator("details.record .offset")
    expect(shown).to_have_count(3)
    site.place.produce(records(2), partition=0)
    expect(shown).to_have_count(5)
    expect(page.get_by_role("button", name="Following")).to_have_attribute("aria-pressed", "true")


def test_json_is_saved_and_copied_as_it_is(site: Site) -> None:
    note = b'{"event_type":"note","player_id":"p","data":{"n":1.10,"n":12345678901234567890}}'
    values = [note, b"not JSON", b"\xff\x00"]
    site.place.produce([("p", value) for value in values], partition=0)
    page = site.open("#/topic/0")
    expect(page.locator("details.record")).to_have_count(3)
    with page.expect_download() as started:
        page.get_by_role("button", name="Save as JSON").click()
    assert started.value.suggested_filename == "partition-0-2.ndjson"
    lines = started.value.path().read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["offset"] for line in lines] == [0, 1, 2]
    assert lines[0].endswith(f'"value":{note.decode()}}}')
    assert json.loads(lines[1])["value"] == "not JSON"
    assert json.loads(lines[2])["value_base64"] == "/wA="
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("details.record").last.locator("summary").click()
    page.get_by_role("button", name="Copy the value").click()
    eventually(lambda: page.evaluate("navigator.clipboard.readText()") == note.decode())
