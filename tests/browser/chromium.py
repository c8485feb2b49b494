"""The browser of this tier: a Chromium of the machine's own, headless, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from playwright.sync_api import Browser, sync_playwright

NAMES: Final = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
MISSING: Final = "left out: no Chromium here to try the console's pages in (Debian: apt-get install chromium)"


def find() -> str | None:
    """Return the path of the first browser that is there."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def insisted() -> bool:
    """Whether the tier must not be left out: `make test-browser` says so."""
    return bool(os.environ.get("REQUIRE_BROWSER"))


@contextmanager
def launched(path: str) -> Iterator[Browser]:
    """Run the browser for the time of a with statement. Its sandbox refuses root, and /dev/shm may be small."""
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
