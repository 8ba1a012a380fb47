"""How logins end, also on a full disk and in streams; what removed users leave; files of secrets among several processes."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from danqing.api import streams
from danqing.api import users as users_module
from danqing.api.secret_files import alone, hand_over, write_secret
from danqing.api.sessions import Sessions
from danqing.api.tokens import Tokens
from danqing.api.users import Users
from danqing.client.users import app
from danqing.errors import DanqingError
from tests.jobs.support import a_request
from tests.jobs.test_disk_full import no_file_larger_than
from tests.security.conftest import Run
from tests.security.support import LIGHT, PASSWORD, House, basic


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 as little as it can be: what it costs is not what is looked at here."""
    monkeypatch.setattr(users_module, "PasswordHasher", LIGHT)


@pytest.mark.parametrize(
    "end",
    [
        lambda users, _: users.set_password("li", "another password now"),
        lambda users, _: users.end_sessions("li"),
        lambda users, _: (users.disable("li"), users.disable("li", False)),
        lambda users, _: users.set_role("li", "api"),
        lambda users, _: Users(users._folder.parent).set_password("li", "from another process"),
        lambda users, sessions: sessions.close(sessions.token),
    ],
)
def test_a_login_that_the_full_disk_did_not_keep_ends_like_others(
    tmp_path: Path, end: Callable[[Users, Any], object]
) -> None:
    users = Users(tmp_path)
    users.add("li", password=PASSWORD)
    sessions: Any = Sessions(users, 60)
    with no_file_larger_than(2**10):
        sessions.token = sessions.open("li")
    assert (sessions.user(sessions.token), sessions.of("li")) == ("li", [])
    end(users, sessions)
    assert sessions.user(sessions.token) is None


def test_a_running_server_clears_away_whom_the_command_line_removes(home: House, run: Run) -> None:
    async def visit() -> None:
        home.logins.users.add("kay", password=PASSWORD)
        token, _ = home.logins.tokens.new("theirs", ["draw"], "kay")
        done = await home.service.wait((await home.service.submit(a_request(model=""), owner="kay")).id)
        await home.service.pause()
        waiting = await home.service.submit(a_request(model=""), owner="kay")
        words = ["remove", "kay", "--yes", "--data", str(home.data)]
        outcome = await asyncio.to_thread(CliRunner().invoke, app, words, catch_exceptions=False)
        assert outcome.exit_code == 0
        answer = await home.ask("GET", "/v1/jobs", {"authorization": f"Bearer {token}"}, address="198.51.100.81")
        assert answer.status == 401
        while home.service.get(waiting.id).state != "cancelled" or home.service.gallery.pictures("kay", limit=5):
            await asyncio.sleep(0.05)
        await home.service.resume()
        assert done.pictures
        assert home.logins.tokens.of("kay") == []

    run(visit())


@pytest.mark.parametrize("make", [lambda data: Users(data).all(), lambda data: Tokens(data).new("x", ["draw"])])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, make: Callable[[Path], object]) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DanqingError) as caught:
        make(tmp_path / "file")
    assert caught.value.code == "cannot_write"
    assert str(tmp_path) in caught.value.text("en")


def test_processes_that_change_tokens_at_once_lose_none(tmp_path: Path) -> None:
    """What one has read, another must not change before it is written back: a token that was revoked would come back."""
    held, done = threading.Event(), list[str]()

    def other() -> None:
        held.wait()
        done.append(Tokens(tmp_path).new("other", ["draw"])[1].id)

    thread = threading.Thread(target=other)
    thread.start()
    with alone(tmp_path / "secrets"):
        held.set()
        thread.join(0.2)
        assert done == [], "it waits"
    thread.join()
    assert [row.id for row in Tokens(tmp_path).all()] == done


def test_a_secret_is_written_to_no_file_that_was_laid_there(tmp_path: Path) -> None:
    """Root writes into a folder of the service's: whoever may write there must not choose what root overwrites."""
    victim, folder = tmp_path / "victim", tmp_path / "secrets"
    victim.write_text("mine")
    folder.mkdir()
    (folder / f"password.{os.getpid()}.part").symlink_to(victim)
    (folder / "password").symlink_to(victim)
    write_secret(folder / "password", "text\n")
    assert victim.read_text() == "mine"
    assert [(path.name, path.is_symlink()) for path in folder.glob("password")] == [("password", False)]
    (folder / "link").symlink_to(victim)
    if os.geteuid() == 0:
        os.chown(folder, 12345, 12345)
    hand_over(folder / "link")
    assert victim.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("way", ["session", "token", "basic"])
def test_a_stream_ends_with_its_login(home: House, run: Run, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Who was logged out, or whose token was revoked, hears no more of what goes on."""
    monkeypatch.setattr(streams, "RECHECK_SECONDS", 0.0)

    async def visit() -> None:
        users, name = home.logins.users, f"may-{way}"
        users.add(name, password=PASSWORD)
        text, row = home.logins.tokens.new("hers", ["read"], name)
        headers, leave = {
            "session": (
                {"cookie": f"danqing_session={home.logins.sessions.open(name)}"},
                lambda: users.end_sessions(name),
            ),
            "token": ({"authorization": f"Bearer {text}"}, lambda: home.logins.tokens.revoke(row.id)),
            "basic": (basic(name), lambda: users.set_password(name, "another password now")),
        }[way]
        await home.service.pause()
        job = (await home.service.submit(a_request(model=""), owner=name)).id
        told, gone = asyncio.Queue[dict[str, Any]](), asyncio.Event()
        request = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if not request:
                await gone.wait()
            return request.pop() if request else {"type": "http.disconnect"}

        scope = home.scope("GET", f"/v1/jobs/{job}/events", headers)
        task = asyncio.ensure_future(home.app(scope, receive, told.put))
        assert (await told.get())["status"] == 200
        assert b"queued" in (await told.get())["body"]
        leave()
        await home.service.cancel(job)
        last = await told.get()
        assert (last["body"], last["more_body"]) == (b"", False)
        gone.set()
        await task
        assert told.empty()
        await home.service.resume()

    run(visit())
