"""The page in a real browser: Chromium, driven by Playwright, at a server started by `python runtime/serve.py`."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.runtime.server.conftest import Server, serving

PICTURE = ROOT / "assets" / "shapes.png"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = (
    *(["--no-sandbox"] if os.geteuid() == 0 else []),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),  # a camera that shows a test picture
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window, of one file of tests: while it stands, Playwright's event loop runs in this thread."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt install chromium")
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def served(demo_fp32) -> Iterator[Server]:
    """A server with two bundles, and no key."""
    with serving("--engine", f"demo={demo_fp32}", "--engine", f"other={demo_fp32}") as started:
        yield started


class Page:
    """The page, and what it sent.

    Attributes:
        tab: Playwright's page.
        asked: bodies of its requests, oldest first.
        complaints: what the browser's console says: errors of scripts, and whatever the page's policy refuses.
    """

    def __init__(self, tab: Any, url: str):
        self.tab, self.url = tab, url
        self.asked: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.foreign: list[str] = []
        tab.on("request", self._note)
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("console", lambda line: line.type == "error" and self.complaints.append(line.text))

    def _note(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.foreign.append(request.url)
        if request.method == "POST":
            self.asked.append(json.loads(request.post_data))

    def show(self, file: Path = PICTURE) -> None:
        self.tab.set_input_files("#file", file)
        self.tab.locator("#image").wait_for()

    def ask(self, question: str) -> str:
        """Asks by Enter and returns the answer once it is whole."""
        self.send(question)
        self.tab.locator('#turns > li:last-child .answer[aria-busy="false"]').wait_for()
        return self.answers[-1]

    def send(self, question: str) -> None:
        self.tab.fill("#question", question)
        self.tab.press("#question", "Enter")

    def make_endless(self) -> None:
        """From here on answers go on to the end of the context: the likeliest tokens are no longer chosen."""

        def hotter(route: Any) -> None:
            route.continue_(post_data=json.dumps(json.loads(route.request.post_data) | {"temperature": 100, "seed": 3}))

        self.tab.route("**/v1/chat/completions", hotter)

    def make_usual(self) -> None:
        self.tab.unroute("**/v1/chat/completions")

    def wait_for(self, script: str) -> None:
        """Waits until a script is true. Playwright's own way evaluates text in the page, which its policy forbids."""
        end = time.monotonic() + 20
        while not self.tab.evaluate(script):
            assert time.monotonic() < end, script
            self.tab.wait_for_timeout(20)

    def wait_for_tokens(self) -> None:
        self.wait_for("document.querySelector('.answer > .text')?.textContent.length > 20")

    @property
    def answers(self) -> list[str]:
        return self.tab.locator(".answer > .text").all_inner_texts()

    def text(self, selector: str) -> str:
        return self.tab.locator(selector).inner_text()


@pytest.fixture
def opened(browser, served) -> Iterator[Callable[..., Page]]:
    """Opens the page, as often as asked; whatever it does, it asks its own server alone and no script fails."""
    pages: list[Page] = []

    def open_page(url: str = served.url, width: int = 1280, height: int = 800, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        context.set_default_timeout(20_000)
        page = Page(context.new_page(), url)
        pages.append(page)
        page.tab.goto(url)
        return page

    yield open_page
    for page in pages:
        assert page.foreign == []
        assert [line for line in page.complaints if "the server responded with a status of" not in line] == []
        page.tab.context.close()


@pytest.fixture
def page(opened) -> Page:
    """The page on a wide screen, its bundles known."""
    page = opened()
    page.tab.locator("#bundle:enabled").wait_for()
    return page
