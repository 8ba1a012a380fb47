"""Users: roles, passwords, sessions, tokens, limits; and that what `danqing user` changes holds at once in a running server."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from danqing.api import users as users_module
from danqing.api.auth import AdminAccount
from danqing.api.limits import UserLimits
from danqing.api.sessions import LIMIT, Sessions
from danqing.api.users import ROLES, Users
from danqing.client.users import app
from danqing.errors import DanqingError
from danqing.gallery import presets
from danqing.gallery.shelf import Shelf
from danqing.jobs.admission import OwnerLimits
from tests.jobs.support import a_request, drive, make_service
from tests.security.conftest import Run
from tests.security.support import LIGHT, PASSWORD, House, basic


@pytest.fixture(autouse=True)
def quick_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argon2 as little as it can be: what it costs is not what is looked at here."""
    monkeypatch.setattr(users_module, "PasswordHasher", LIGHT)


def code_of(act: object, *arguments: object) -> str:
    with pytest.raises(DanqingError) as caught:
        act(*arguments)  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize("name", ["", "a b", "local", "BOX", "a:b", "../x", "a/b", "x" * 65, "a\nb", "<b>", "-x"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    assert code_of(Users(tmp_path).add, name) == "invalid_field"


def test_passwords_are_hashes(tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add("Li.Lei", password=PASSWORD)
    assert users.check("li.lei", PASSWORD) == "li.lei"
    assert users.check("LI.LEI", PASSWORD) == "li.lei"
    assert users.check("li.lei", PASSWORD + " ") is None
    assert users.check("nobody", PASSWORD) is None
    users.add("none")
    assert users.check("none", "") is None
    for file in (tmp_path / "secrets").glob("users.db*"):
        assert PASSWORD.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o777 == 0o600
    assert code_of(users.add, "li.lei") == "user_exists"
    assert code_of(users.set_password, "li.lei", "short") == "weak_password"
    users.set_password("li.lei", "something else entirely")
    assert users.check("li.lei", PASSWORD) is None


def test_there_is_always_an_administrator(tmp_path: Path) -> None:
    users = Users(tmp_path)
    assert code_of(users.disable, "admin") == "last_admin"
    assert code_of(users.set_role, "admin", "artist") == "last_admin"
    users.add("second", "admin", PASSWORD)
    users.disable("admin")
    assert code_of(users.set_role, "second", "api") == "last_admin"
    assert code_of(users.disable, "nobody") == "unknown_user"


def test_the_single_login_of_before_goes_on(tmp_path: Path) -> None:
    """Its password and its browsers; a file that was taken over stays beside, and an older program finds its own."""
    AdminAccount(tmp_path)
    password = (tmp_path / "secrets" / "password").read_text().strip()
    keys = {hashlib.sha256(name.encode()).hexdigest(): name for name in ("live", "over", "stranger")}
    rows = {
        key: ["ghost" if name == "stranger" else "admin", 0 if name == "over" else time.time() + 60]
        for key, name in keys.items()
    }
    (tmp_path / "secrets" / "sessions.json").write_text(json.dumps(rows))
    users = Users(tmp_path)
    sessions = Sessions(users, 60)
    assert [sessions.user(name) for name in keys.values()] == ["admin", None, None]
    assert users.check("admin", password) == "admin"
    assert json.loads((tmp_path / "secrets" / "sessions.json.bak").read_text()) == rows
    assert not (tmp_path / "secrets" / "sessions.json").exists()
    assert (tmp_path / "secrets" / "admin.hash").is_file()


def test_sessions_end_one_by_one_and_all_at_once(tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add("li", password=PASSWORD)
    users.add("bot", "api", PASSWORD)
    sessions = Sessions(users, 60)
    here, there, other = sessions.open("li", "10.0.0.1", "Firefox"), sessions.open("li"), sessions.open("admin")
    listed = sessions.of("li")
    assert {(one.address, one.agent) for one in listed} == {("10.0.0.1", "Firefox"), ("", "")}
    assert here not in json.dumps([one.id for one in listed])
    mine = next(one.id for one in listed if one.address)
    assert not sessions.revoke("admin", mine)
    assert sessions.revoke("li", mine)
    assert (sessions.user(here), sessions.user(there)) == (None, "li")
    users.disable("li")
    assert (sessions.user(there), sessions.user(other)) == (None, "admin")
    users.disable("li", False)
    assert sessions.user(there) is None, "what has ended stays ended"
    assert sessions.user(sessions.open("bot")) is None, "a program has no page"
    AdminAccount.set_password(tmp_path, PASSWORD)
    assert sessions.user(other) is None
    tokens = [sessions.open("li") for _ in range(LIMIT + 1)]
    assert [sessions.user(token) for token in (tokens[0], tokens[-1])] == [None, "li"]


def test_limits_hold_in_the_queue(tmp_path: Path) -> None:
    users = Users(tmp_path)
    users.add("li", password=PASSWORD)
    users.limit("li", {"jobs": 1, "images": 2, "weight": 0.5})
    now = [0.0]
    limits = UserLimits(users, lambda: now[0])
    assert limits("li") == OwnerLimits(1, 2, 0.5)
    assert limits("guest") == OwnerLimits()
    users.limit("li", {"jobs": None})
    now[0] += 3
    assert limits("li").jobs is None
    for wrong in ({"jobs": -1}, {"weight": 0}, {"weight": 101}, {"pixels": 3}, {"jobs": 1.5}):
        assert code_of(users.limit, "li", wrong) in ("out_of_range", "invalid_field", "not_whole")

    async def queue() -> None:
        service = make_service(tmp_path / "queue", step=0.05)
        service.limit_owners(lambda owner: OwnerLimits(jobs=1, images=2) if owner == "li" else OwnerLimits())
        await service.start()
        try:
            await service.pause()
            await service.submit(a_request(), owner="li")
            for request, code in ((a_request(), "too_many_jobs"), (a_request(batch_size=3), "too_many_jobs")):
                with pytest.raises(DanqingError) as caught:
                    await service.submit(request, owner="li")
                assert caught.value.code == code
            await service.submit(a_request(batch_size=3), owner="wang")
            await service.cancel(service.views("li", active=True)[0].job.id)
            with pytest.raises(DanqingError) as caught:
                await service.submit(a_request(batch_size=3), owner="li")
            assert caught.value.code == "too_many_images"
        finally:
            await service.stop()

    drive(queue())


def test_the_command_line(tmp_path: Path) -> None:
    def run(*words: str, text: str = "") -> str:
        done = CliRunner().invoke(app, [*words, "--data", str(tmp_path)], input=text, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output.strip()

    made = run("add", "li")
    assert Users(tmp_path).check("li", made) == "li"
    assert run("add", "wang", "--role", "api", "--stdin", text=PASSWORD + "\n") == ""
    assert Users(tmp_path).check("wang", PASSWORD) == "wang"
    run("add", "zhao", "--subject", "https://id.example u1")
    rows = json.loads(run("list", "--json"))
    assert {row["name"]: row["role"] for row in rows} == {
        "admin": "admin",
        "li": "artist",
        "wang": "api",
        "zhao": "artist",
    }
    assert "li" in run("list")
    assert Users(tmp_path).check("li", run("password", "li")) == "li"
    run("role", "li", "admin")
    run("disable", "admin")
    run("enable", "admin")
    run("limit", "li", "--jobs", "3", "--weight", "2")
    run("logout", "li")
    assert Users(tmp_path).get("li").jobs == 3
    asked = CliRunner().invoke(app, ["remove", "wang", "--data", str(tmp_path)], input="n\n")
    assert (asked.exit_code, Users(tmp_path).get("wang").name) == (1, "wang")
    run("remove", "Wang", "--yes")
    assert Users(tmp_path).check("wang", PASSWORD) is None
    assert code_of(Users(tmp_path).add, "wang") == "user_exists"
    with pytest.raises(DanqingError):
        CliRunner().invoke(app, ["role", "nobody", "artist", "--data", str(tmp_path)], catch_exceptions=False)


# -- in a running house --


def test_what_another_process_changes_holds_at_once(home: House, run: Run) -> None:
    async def visit() -> None:
        users = Users(home.data)  # as `danqing user` opens it
        token, _ = home.logins.tokens.new("mine", ["draw"], "bob")
        ways = [
            basic("bob"),
            {"authorization": f"Bearer {token}"},
            {"cookie": f"danqing_session={home.logins.sessions.open('bob')}"},
        ]
        assert [(await home.ask("GET", "/v1/jobs", way)).status for way in ways] == [200] * 3
        users.disable("bob")
        assert [(await home.ask("GET", "/v1/jobs", way)).status for way in ways] == [401] * 3
        users.disable("bob", False)
        assert [(await home.ask("GET", "/v1/jobs", way, address="203.0.113.77")).status for way in ways] == [
            200,
            200,
            401,
        ]
        users.set_password("bob", "another password now")
        assert (await home.ask("GET", "/v1/jobs", basic("bob"), address="203.0.113.78")).status == 401
        assert (await home.ask("GET", "/v1/jobs", basic("bob", "another password now"))).status == 200
        users.set_password("bob", PASSWORD)

    run(visit())


def test_a_token_never_opens_more_than_its_owner(home: House, run: Run) -> None:
    async def visit() -> None:
        text, _ = home.logins.tokens.new("too much", ["admin"], "ann")
        way = {"authorization": f"Bearer {text}"}
        assert (await home.ask("POST", "/v1/queue/pause", way)).status == 403
        assert (await home.ask("GET", "/metrics", way)).status == 403
        wanted = json.dumps({"name": "x", "scopes": ["admin"]}).encode()
        assert (await home.ask("POST", "/v1/tokens", basic("ann"), wanted)).status == 403
        made = await home.ask("POST", "/v1/tokens", basic("ann"), b'{"name": "bot"}')
        assert made.status == 201
        mine = {"authorization": f"Bearer {made.json()['token']}"}
        assert (await home.ask("GET", "/v1/jobs", mine)).status == 200
        assert (await home.ask("GET", "/v1/tokens", mine)).status == 403
        assert (await home.ask("DELETE", f"/v1/tokens/{made.json()['id']}", basic("ann"))).status == 200
        assert (await home.ask("GET", "/v1/jobs", mine)).status == 401

    run(visit())


def test_administrators_look_after_users(home: House, run: Run) -> None:
    async def visit() -> None:
        admin = home.headers["admin"]
        made = await home.ask("POST", "/v1/users", admin, json.dumps({"name": "Zoe", "password": PASSWORD}).encode())
        assert (made.status, made.json()["name"], made.json()["role"]) == (201, "zoe", "artist")
        assert (await home.ask("GET", "/v1/account", basic("zoe"))).json()["scopes"] == list(ROLES["artist"])
        change = json.dumps({"role": "admin", "jobs": 7, "weight": None}).encode()
        assert (await home.ask("PATCH", "/v1/users/zoe", admin, change)).json()["jobs"] == 7
        assert (await home.ask("GET", "/v1/users", basic("zoe"))).status == 200
        assert (await home.ask("PATCH", "/v1/users/zoe", admin, b'{"disabled": true}')).status == 200
        assert (await home.ask("GET", "/v1/account", basic("zoe"))).status == 401
        assert (await home.ask("PATCH", "/v1/users/nobody", admin, b"{}")).status == 404
        assert (await home.ask("PATCH", "/v1/users/zoe", admin, b'{"hash": "x"}')).status == 422
        for wrong in (b'{"role": "artist", "password": "short"}', b'{"jobs": 1, "images": -1}'):
            before = home.logins.users.get("zoe")
            assert (await home.ask("PATCH", "/v1/users/zoe", admin, wrong)).status == 422
            assert home.logins.users.get("zoe") == before, "what is refused has changed nothing"
        listed = (await home.ask("GET", "/v1/users", admin)).body
        assert b"argon2" not in listed

    run(visit())


def test_people_change_their_own_password(home: House, run: Run) -> None:
    async def visit() -> None:
        home.logins.users.add("quinn", password=PASSWORD)
        cookie = {"cookie": f"danqing_session={home.logins.sessions.open('quinn')}"}
        wish = {"old": PASSWORD, "new": "brand new password"}
        wrong = await home.ask("POST", "/v1/account/password", cookie, json.dumps({**wish, "old": "x"}).encode())
        assert wrong.status == 422
        assert (await home.ask("GET", "/v1/account", cookie)).json()["sessions"][0]["current"] is True
        assert (await home.ask("POST", "/v1/account/password", cookie, json.dumps(wish).encode())).status == 200
        assert (await home.ask("GET", "/v1/account", cookie)).status == 401
        assert (await home.ask("GET", "/v1/account", basic("quinn", "brand new password"))).status == 200

    run(visit())


def test_many_addresses_that_guess_at_one_name_wait(home: House, run: Run) -> None:
    async def visit() -> None:
        home.logins.users.add("guessed", password=PASSWORD)
        assert (await home.ask("GET", "/v1/account", basic("guessed"), address="198.51.100.1")).status == 200
        codes = []
        for number in range(30):
            codes.append(
                (await home.ask("GET", "/v1/account", basic("guessed", "x" * 9), address=f"10.0.{number}.1")).status
            )
        assert codes[0] == 401
        assert 429 in codes
        friend = await home.ask("GET", "/v1/account", basic("guessed"), address="198.51.100.1")
        assert friend.status == 200, "where the user has been before, nobody is locked out"

    run(visit())


def test_the_tab_of_people(home: House, run: Run) -> None:
    """One's own login; for administrators everybody's. What a browser says of itself is no HTML."""

    async def visit() -> None:
        home.logins.sessions.open("ann", "10.1.2.3", "<script>alert(1)</script> Firefox/1 Linux")
        for language, word in (("en", "Tokens for programs"), ("zh", "程序令牌")):
            mine = await home.ask("GET", "/ui/people", {**home.headers["owner"], "accept-language": language})
            text = mine.body.decode()
            assert word in text
            assert "Firefox · Linux" in text
            assert "<script>" not in text
            assert "data-user" not in text
            assert "bob" not in text
        everybody = (await home.ask("GET", "/ui/people", home.headers["admin"])).body.decode()
        assert all(f'data-user="/v1/users/{name}"' in everybody for name in ("admin", "ann", "bob", "pat"))
        assert "$argon2" not in everybody

    run(visit())


def test_a_user_who_was_removed_leaves_nothing_open(home: House, run: Run) -> None:
    """No way in, no waiting job, no picture in a list; and nobody gets at the pictures by having the name again."""

    async def visit() -> None:
        users = home.logins.users
        users.add("eve", password=PASSWORD)
        token, _ = home.logins.tokens.new("hers", ["draw"], "eve")
        cookie = {"cookie": f"danqing_session={home.logins.sessions.open('eve')}"}
        done = await home.service.wait((await home.service.submit(a_request(model=""), owner="eve")).id)
        presets.save(home.service.data, "eve", "hers", {"steps": 7})
        home.service.training.datasets.add("eve", "cat", "a.txt", b"a cat")
        await home.service.pause()
        waiting = await home.service.submit(a_request(model=""), owner="eve")
        answer = await home.ask("DELETE", "/v1/users/eve", home.headers["admin"])
        assert (answer.status, answer.json()) == (200, {"pictures": 1})
        assert home.service.get(waiting.id).state == "cancelled"
        await home.service.resume()
        for number, way in enumerate((basic("eve"), {"authorization": f"Bearer {token}"}, cookie)):
            answer = await home.ask("GET", "/v1/jobs", way, address=f"198.51.100.{number}")
            assert answer.status == 401, way
        assert home.service.gallery.pictures("eve", limit=5) == []
        gallery = home.service.gallery
        assert Shelf(gallery, gallery.database).restore("eve", done.pictures) == 1, "the trash has it"
        assert presets.names(home.service.data, "eve") == home.service.training.datasets.names("eve") == []
        assert code_of(users.add, "eve") == "user_exists"
        assert code_of(users.disable, "eve", False) == code_of(users.get, "eve") == "unknown_user"
        assert "eve" not in [user.name for user in users.all()]
        assert (await home.ask("DELETE", "/v1/users/admin", home.headers["admin"])).status == 422

    run(visit())


def test_an_administrator_ends_the_waits_of_a_user(home: House, run: Run) -> None:
    """Who guesses at a name waits, in whatever letters; the administrator sees it, and lets the next try come at once."""

    async def told() -> tuple[int, int]:
        rows = (await home.ask("GET", "/v1/users", home.headers["admin"])).json()["users"]
        (row,) = (row for row in rows if row["name"] == "mallory")
        return row["failed_logins"], row["wait"]

    async def visit() -> None:
        home.logins.users.add("mallory", password=PASSWORD)
        assert await told() == (0, 0)
        free = home.logins.backoff.free
        for name in ["Mallory", "MALLORY", " mallory "] * free:
            answer = await home.ask("GET", "/v1/jobs", basic(name, "wrong"), address="198.51.100.77")
            if answer.status == 429:
                break
        count, wait = await told()
        assert count == free + 1
        assert wait > 0
        refused = await home.ask("GET", "/v1/jobs", basic("mallory"), address="198.51.100.77")
        assert refused.status == 429
        path = "/v1/users/mallory/failures"
        assert (await home.ask("DELETE", path, home.headers["owner"])).status == 403
        assert (await home.ask("DELETE", path, home.headers["admin"])).status == 200
        assert await told() == (0, 0)
        # The right password at once, while the wait of a moment ago would still last.
        assert (await home.ask("GET", "/v1/jobs", basic("mallory"), address="198.51.100.77")).status == 200

    run(visit())
