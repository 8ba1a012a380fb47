"""The tab of logins, by an administrator: users come, change, are logged out, let in again and go."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import STAGE, WAIT, shoot, watch
from tests.conftest import Server, start_server

FAKE = Path(__file__).parents[1] / "jobs" / "fake_engine.py"
PASSWORD = "a password of some length"
ROW = '[data-user="/v1/users/{}"]'
REFUSED = "the server responded with a status of 401"
"""What the console says of the login page when a password is wrong."""

SignIn = Callable[..., Any]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Server]:
    """A server that asks for a login and lets a second wrong password wait."""
    environment = {"DANQING_ENGINE_COMMAND": f"{sys.executable} {FAKE}", "DANQING_LOGIN_FREE_TRIES": "1"}
    running = start_server(tmp_path / "data", "--users", "login", environment=environment)
    yield running
    running.stop()


@pytest.fixture
def sign_in(house: Server, browser: Any) -> Iterator[SignIn]:
    """Logs somebody in, in a browser profile of their own; the page."""
    contexts: list[Any] = []
    trouble: list[str] = []

    def enter(name: str, password: str, locale: str = "en-US") -> Any:
        context = browser.new_context(locale=locale, viewport={"width": 1280, "height": 900})
        context.set_default_timeout(WAIT)
        contexts.append(context)
        page = context.new_page()
        watch(page, trouble)
        page.goto(house.base_url)
        log_in(page, name, password)
        page.wait_for_selector(STAGE)
        return page

    yield enter
    for context in contexts:
        context.close()
    assert [text for text in trouble if REFUSED not in text] == []


def log_in(page: Any, name: str, password: str) -> None:
    page.fill("input[name=user]", name)
    page.fill("input[name=password]", password)
    page.press("input[name=password]", "Enter")


def open_tab(page: Any) -> None:
    page.wait_for_function("!!window.danqing?.choose")
    page.evaluate("window.danqing.choose('people')")
    page.wait_for_selector("[data-user]")


def test_an_administrator_looks_after_users(house: Server, sign_in: SignIn) -> None:
    page = sign_in("admin", house.password)
    open_tab(page)
    add_and_change(page)
    make_token(page, house)
    li = sign_in("li", PASSWORD, "zh-CN")
    end_sessions(page, li)
    lock_and_let_in(page, li)
    look_at(page)
    remove(page, li)


def add_and_change(page: Any) -> None:
    form = page.locator('[data-people-form="/v1/users"]')
    form.locator("[name=name]").fill("li")
    form.locator("[name=password]").fill(PASSWORD)
    form.locator("button").click()
    row = page.locator(ROW.format("li"))
    row.wait_for()
    for act, value in (("role", "api"), ("role", "artist"), ("jobs", "7")):
        with page.expect_response(lambda answer: answer.request.method == "PATCH") as told:
            field = row.locator(f"[name={act}]")
            if act == "role":
                field.select_option(value)
            else:
                field.fill(value)
                field.press("Tab")
        assert told.value.status == 200
        assert str(told.value.json()[act]) == value


def make_token(page: Any, house: Server) -> None:
    form = page.locator('[data-people-form="/v1/tokens"]')
    form.locator("[name=name]").fill("my bot")
    form.locator("button").click()
    page.wait_for_selector(".dq-people-made:not([hidden]) code")
    token = page.inner_text(".dq-people-made code")
    with house.client(headers={"Authorization": f"Bearer {token}"}) as client:
        assert client.get("/v1/jobs").status_code == 200
    open_again(page)
    assert token not in page.content()
    assert "my bot" in page.inner_text('[data-shelf="people"]')


def open_again(page: Any) -> None:
    with page.expect_response("**/ui/people*"):
        page.evaluate("window.danqing.load('people')")
    page.wait_for_selector("[data-user]")


def end_sessions(page: Any, li: Any) -> None:
    open_again(page)
    with page.expect_response("**/v1/users/li/sessions"):
        page.click(f'{ROW.format("li")} [data-path$="/sessions"]')
    page.wait_for_selector(f'{ROW.format("li")} [data-path$="/sessions"]', state="detached")
    li.fill("#dq-prompt textarea", "not lost")
    li.click("#dq-generate")
    li.wait_for_selector("[data-testid=toast-text] >> text=您已退出登录")
    li.wait_for_selector("input[name=password]")


def lock_and_let_in(page: Any, li: Any) -> None:
    for _ in range(2):
        log_in(li, "li", "not the password")
        li.wait_for_selector("[role=alert]")
    open_again(page)
    note = page.locator(f"{ROW.format('li')} .dq-people-failed")
    assert "wrong passwords: 2" in note.inner_text()
    shoot(page, "people-locked")
    note.locator("button").click()
    note.wait_for(state="detached")
    log_in(li, "li", PASSWORD)
    li.wait_for_selector(STAGE)
    li.wait_for_function("document.querySelector('#dq-prompt textarea')?.value === 'not lost'")


def look_at(page: Any) -> None:
    """In both languages, wide and on a phone: nothing is wider than the window."""
    for language, word in (("en", "Everybody"), ("zh", "所有用户")):
        page.wait_for_function(f"document.querySelector('[data-shelf=people]')?.innerText.includes('{word}')")
        page.set_viewport_size({"width": 1280, "height": 900})
        shoot(page, f"people-{language}")
        page.set_viewport_size({"width": 390, "height": 800})
        shoot(page, f"people-{language}-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.set_viewport_size({"width": 1280, "height": 900})
        if language == "en":
            page.click("#dq-language button")
            page.wait_for_function("document.querySelector('#dq-generate')?.innerText === '开始绘制'")
            page.wait_for_timeout(1000)  # what the page still asks for would be cut off, which the console tells of
            open_tab(page)


def remove(page: Any, li: Any) -> None:
    asked: list[str] = []
    answers = [False, True]

    def answer(dialog: Any) -> None:
        asked.append(dialog.message)
        dialog.accept() if answers.pop(0) else dialog.dismiss()

    page.on("dialog", answer)
    row = page.locator(ROW.format("li"))
    button = row.locator("[data-sure]")
    button.click()
    assert row.count() == 1
    button.click()
    row.wait_for(state="detached")
    assert ["li" in text for text in asked] == [True, True]
    assert page.locator(f"{ROW.format('admin')} [data-sure]").count() == 0
    li.reload()
    li.wait_for_selector("input[name=password]")
