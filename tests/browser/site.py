"""The console under test: API and consumer as processes at a place, and browsers that hold its pages to what they owe.

Whatever a test does, no page may complain in its console, meet its content security policy, or ask another host.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Response, expect

from tests.edges import EdgeUnderTest
from tests.place import Place

PATIENCE_MS: Final = 60_000
"""Long: what is waited for comes in milliseconds, but for a machine that is far too busy."""

WIDE: Final = {"width": 1280, "height": 800}
PHONE: Final = {"width": 360, "height": 740}

_REPORT: Final = """addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.effectiveDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});"""
_ANSWERED: Final = "Failed to load resource: "
"""How Chromium notes a reply that is an error, or none: what a page shows then is what tests look at."""

_OUTSIDE: Final = """() => [...document.querySelectorAll("body *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".scroll"))
  .slice(0, 5).map((one) => one.outerHTML.slice(0, 160))"""


class ConsumerUnderTest(EdgeUnderTest):
    """`gamemetrics consume` at a place."""

    program = ("-m", "pipeline", "consume", "all")

    def __init__(self, place: Place, **environment: str) -> None:
        super().__init__(place, **environment)
        self.port = self.metrics_port


class Site:
    """The console at a place."""

    def __init__(self, browser: Browser, place: Place, edge: EdgeUnderTest, consumer: ConsumerUnderTest) -> None:
        self.place, self.edge, self.consumer = place, edge, consumer
        self.complaints: list[str] = []
        self._browser = browser
        self._contexts: list[BrowserContext] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.edge.port}"

    def window(self, **options: Any) -> BrowserContext:
        """Open a window of its own, as another person's: {viewport, color_scheme, ...} as Playwright takes them."""
        context = self._browser.new_context(**{"viewport": WIDE, "timezone_id": "Europe/Berlin", **options})
        context.set_default_timeout(PATIENCE_MS)
        context.add_init_script(_REPORT)
        context.on("console", self._heard)
        context.on("weberror", lambda error: self.complaints.append(f"raised: {error.error.stack}"))
        context.on("request", self._asked)
        context.on("response", self._answered)
        self._contexts.append(context)
        return context

    def open(self, where: str = "#/", window: BrowserContext | None = None, **options: Any) -> Page:
        """Open a page of the console: its address after the host."""
        page = (window or self.window(**options)).new_page()
        page.goto(f"{self.url}/{where}")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self.edge.kill_if_running()
        self.consumer.kill_if_running()

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning", "assert"} and not message.text.startswith(_ANSWERED):
            self.complaints.append(f"{message.type}: {message.text} {message.location}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self.url}/", "data:", "blob:")):
            self.complaints.append(f"asked another host: {request.url}")

    def _answered(self, response: Response) -> None:
        if "/console/" in response.url.removeprefix(self.url)[:10] and response.status not in {200, 304}:
            self.complaints.append(f"{response.status}: {response.url}")


@contextmanager
def running_site(browser: Browser, place: Place, **environment: str) -> Iterator[Site]:
    """Run API and consumer, and browsers to look at them, for the time of a with statement."""
    expect.set_options(timeout=PATIENCE_MS)
    site = Site(browser, place, EdgeUnderTest(place, **environment), ConsumerUnderTest(place, **environment))
    try:
        site.edge.start()
        site.consumer.start()
        yield site
    finally:
        site.close()
    assert site.complaints == []


def go(page: Page, where: str) -> None:
    """Go to another page of the console, as a link there does."""
    page.evaluate("where => { location.hash = where; }", where)


def is_live(page: Page) -> None:
    """Wait until figures come in."""
    expect(page.locator(".tools .state")).to_have_text("●live")


def faults(page: Page) -> list[str]:
    """What axe finds on a page, by its rules of every kind."""
    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {node['html'][:200]} {node['failureSummary']}" for one in found for node in one["nodes"]]


def fits(page: Page) -> list[str]:
    """What reaches beyond the right edge, so that the page as a whole would scroll sideways."""
    wider = page.evaluate("document.documentElement.scrollWidth > innerWidth")
    return [str(one) for one in page.evaluate(_OUTSIDE)] or (["the page scrolls sideways"] if wider else [])
