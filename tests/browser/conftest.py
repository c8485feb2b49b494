"""A browser for the run, and for each test a console of its own."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser import chromium
from tests.browser.site import Site, running_site
from tests.place import Place


def pytest_runtest_setup() -> None:
    """Leave the tier out where there is no browser, unless it is insisted on; here, so that it is said once."""
    if chromium.find() is None:
        (pytest.fail if chromium.insisted() else pytest.skip)(chromium.MISSING)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The machine's Chromium."""
    path = chromium.find()
    assert path is not None
    with chromium.launched(path) as running:
        yield running


@pytest.fixture
def site(browser: Browser, place: Place) -> Iterator[Site]:
    """API and consumer at the test's own place, open as on a developer's machine."""
    with running_site(browser, place) as running:
        yield running
