"""A report in a browser: every view must load with no error and no request outside its folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.pipeline.conftest import finished, place  # noqa: F401  the session's one finished run

PATIENCE = 10  # seconds, on a busy machine


class Reader:
    """Someone who opens a report's pages, and writes down what went wrong.

    Attributes:
      page: playwright's.
      faults: errors of the console and of scripts, requests outside the folder.
    """

    def __init__(self, page, folder: Path):
        self.page, self.address, self.faults = page, folder.as_uri(), []
        page.set_default_timeout(1000 * PATIENCE)
        page.on("console", lambda m: m.type in ("error", "warning") and self.faults.append(m.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", lambda box: (self.faults.append(f"ran: {box.message}"), box.dismiss()))
        page.on("request", self._request)

    def _request(self, request):
        if not request.url.startswith((f"{self.address}/", "data:", "about:blank")):
            self.faults.append(f"asked for {request.url}")

    def open(self, view: str = "#/"):
        """Opens a view anew, and returns the page once its title is there."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.address}/index.html{view}")
        return self.shown()

    def go(self, view: str):
        """Goes to another view of the open report, and returns the page once it is drawn."""
        drawn = """view => new Promise(done => {
            const main = document.querySelector("main");
            const watch = new MutationObserver(() => { watch.disconnect(); done(); });
            watch.observe(main, { childList: true });
            if (location.hash === view) { watch.disconnect(); done(); }
            location.hash = view;
        })"""
        self.page.evaluate(drawn, view)
        return self.page

    def shown(self):
        """Returns the page once it is drawn."""
        self.page.wait_for_selector("main h1")
        return self.page

    def until(self, condition: str, argument=None):
        """Waits until a JavaScript expression of `x`, the argument, holds.

        Playwright's own wait evaluates text in the page, which the report's policy forbids.
        """
        end = time.monotonic() + PATIENCE
        while not self.page.evaluate(f"x => Boolean({condition})", argument):
            assert time.monotonic() < end, f"never true: {condition} of {argument!r}"
            self.page.wait_for_timeout(10)

    def text(self, selector: str) -> str:
        """Returns the text of the first such element, spaces as one."""
        return " ".join(self.page.locator(selector).first.inner_text().split())

    def texts(self, selector: str) -> list[str]:
        """Returns the texts of all such elements."""
        return [" ".join(t.split()) for t in self.page.locator(selector).all_inner_texts()]

    def overflow(self) -> int:
        """Returns by how many pixels the page is wider than the window."""
        return self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


@pytest.fixture
def reader(chromium):
    """folder, options of playwright's context → a reader, who must have met no fault at the end."""
    opened = []

    def start(folder: Path, **options) -> Reader:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        found = Reader(context.new_page(), folder)
        opened.append((context, found))
        return found

    yield start
    for context, found in opened:
        context.close()
        assert found.faults == []
