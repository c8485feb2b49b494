"""A browser for the run, and for each test a console of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium
from tests.browser.site import Site, running_site


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium. Without one the tier is left out, unless it is insisted on."""
    path = chromium.find()
    if path is None:
        (pytest.fail if chromium.insisted() else pytest.skip)(chromium.MISSING)
    with chromium.launched(path) as running:
        yield running


@pytest.fixture
def site(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Site]:
    """API and consumer at the test's own place, open as on a developer's machine. After the browser: without one no
    server is started."""
    with running_site(browser, request.getfixturevalue("place")) as running:
        yield running
