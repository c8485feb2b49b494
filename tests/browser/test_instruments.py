"""What the other tests look with sees: a page at fault, too wide, against its policy, or that asks elsewhere."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.site import PHONE, Site, faults, fits, is_live
from tests.waiting import eventually

pytestmark = pytest.mark.real


def test_a_page_at_fault_is_found_out(site: Site) -> None:
    page = site.open("#/topic", viewport=PHONE)
    is_live(page)
    expect(page.locator(".wait")).to_have_count(0)
    assert faults(page) == []
    assert fits(page) == []
    page.evaluate("""() => {
      const image = document.querySelector("main").appendChild(document.createElement("img"));
      image.width = 900;
    }""")
    assert any("image-alt" in one for one in faults(page))
    assert any("<img" in one for one in fits(page))


def complained(site: Site, page: Page, what: str) -> None:
    """Wait for a complaint; they come in while something is asked of the browser."""
    eventually(lambda: page.evaluate("true") and any(what in one for one in site.complaints))
    site.complaints.clear()


def test_what_a_policy_forbids_is_a_complaint(site: Site) -> None:
    page = site.open()
    is_live(page)
    assert site.complaints == []
    page.evaluate("document.querySelector('main').setAttribute('style', 'color: red')")
    complained(site, page, "policy: style-src")
    page.evaluate("fetch('http://127.0.0.2:9/elsewhere').catch(() => null)")
    complained(site, page, "policy: connect-src")
    page.evaluate("setTimeout(() => { throw new Error('of a page'); })")
    complained(site, page, "of a page")
