"""A real browser: what it shows, whom it asks, and what it complains about."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, sync_playwright

from tests.kit.programs import program

WAIT_MS = 30_000.0


class Tab:
    """One open page, and what went on in it."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.set_default_timeout(WAIT_MS)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def text(self, selector: str) -> str:
        """Return the visible text of an element."""
        return self.page.locator(selector).inner_text()

    def wait_for_text(self, selector: str, text: str) -> None:
        """Wait until an element shows *text*."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def painted(self, selector: str, colour: str) -> int:
        """Return how many pixels of a canvas have the colour that the style sheet calls *colour*."""
        count: int = self.page.locator(selector).evaluate(
            """(canvas, colour) => {
              const style = getComputedStyle(document.documentElement);
              const [red, green, blue] = style.getPropertyValue(`--${colour}`).match(/[0-9a-f]{2}/gi)
                .map((part) => parseInt(part, 16));
              const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
              let found = 0;
              for (let at = 0; at < data.length; at += 4) {
                if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) found += 1;
              }
              return found;
            }""",
            colour,
        )
        return count

    def _console(self, message: object) -> None:
        if getattr(message, "type", "") in ("error", "warning"):
            self.complaints.append(getattr(message, "text", ""))


@contextmanager
def browser() -> Iterator[Browser]:
    """Yield a running Chromium.

    While it runs, no other event loop can run in this thread: what uses ``asyncio.run`` comes
    before or after.
    """
    with sync_playwright() as driver:
        # As root there is no sandbox to be had; what is opened is ours alone.
        chromium = driver.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def tab(chromium: Browser, url: str, *, dark: bool = False) -> Iterator[Tab]:
    """Yield a new page with nothing stored, opened at *url*."""
    context = chromium.new_context(
        color_scheme="dark" if dark else "light", viewport={"width": 1280, "height": 900}
    )
    try:
        opened = Tab(context.new_page())
        opened.page.goto(url)
        opened.page.wait_for_selector("html[data-updated]")
        yield opened
    finally:
        context.close()
