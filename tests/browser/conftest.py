"""A real browser (the system's Chromium) on a real server with its own empty data folder and the miniature model.

Whatever a test does, no request may leave the machine and the console must stay free of errors.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import Server, start_server

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
LOCAL = {"127.0.0.1", "localhost"}
DRAWN = '#dq-stage .dq-stage[data-state="shown"]'
BUSY = '#dq-stage .dq-stage[data-state="busy"]'
STAGE = "#dq-stage .dq-stage"
WAIT = 120_000
"""Milliseconds that a picture may take on a busy machine."""

Open = Callable[..., Any]


def chromium() -> str | None:
    """Where the system's browser is."""
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    reason = "Chromium is missing: apt-get install chromium fonts-noto-cjk"
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if chromium() is None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that nobody has drawn with."""
    running = start_server(tmp_path_factory.mktemp("site") / "data")
    yield running
    running.stop()


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """One browser for the package; its event loop must be gone before other packages' tests run theirs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(site: Server, browser: Any) -> Iterator[Open]:
    """Opens pages, each in a browser profile of its own: `open_page(locale, width=..., scheme=...)`."""
    contexts: list[Any] = []
    trouble: list[str] = []

    def visit(locale: str = "en-US", *, width: int = 1280, height: int = 900, scheme: str = "light") -> Any:
        context = browser.new_context(
            locale=locale, viewport={"width": width, "height": height}, color_scheme=scheme, accept_downloads=True
        )
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        watch(page, trouble)
        page.goto(site.base_url)
        page.wait_for_selector(STAGE)
        page.wait_for_selector("#dq-model-menu input")
        page.wait_for_function("document.querySelector('#dq-model-menu input').value !== ''")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert trouble == []


def watch(page: Any, trouble: list[str]) -> None:
    """Notes errors in the console and requests to anywhere else."""
    page.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    page.on("console", lambda message: trouble.append(f"console: {message.text}") if complaint(message) else None)
    page.on("request", lambda request: trouble.append(f"outside: {request.url}") if outside(request.url) else None)


LEFT = ("AbortError: BodyStreamBuffer was aborted", "AbortError: signal is aborted", "errored out. ")
"""What Gradio's client says when a page is left while its events stream: the browser ends the stream, as it should."""


def complaint(message: Any) -> bool:
    """Whether a line of the console is an error of the page."""
    return message.type == "error" and not any(text in message.text for text in LEFT)


def outside(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname not in LOCAL


def shoot(page: Any, name: str) -> None:
    """A screenshot into build/screenshots, for people to look at."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.wait_for_timeout(350)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def draw(page: Any, prompt: str, *, steps: int | None = None) -> None:
    """Writes a prompt and presses the keys that draw it."""
    if steps is not None:
        page.fill("#dq-steps input[type=number]", str(steps))
        page.press("#dq-steps input[type=number]", "Tab")
    page.fill("#dq-prompt textarea", prompt)
    page.press("#dq-prompt textarea", "Control+Enter")


def finish(page: Any, prompt: str) -> None:
    """Waits until the stage shows a picture of this prompt, loaded whole."""
    page.wait_for_function(
        """(prompt) => {
            const stage = document.querySelector('#dq-stage .dq-stage[data-state=shown]');
            const image = stage?.querySelector('.dq-zoom img');
            return image?.complete && image.naturalWidth > 0 && stage.querySelector('.dq-info').textContent.startsWith(prompt);
        }""",
        arg=prompt,
    )
