"""nginx before the app: waiting page, limits, streams, logs. A real nginx, with the files of the box."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest
import yaml

from tests.nginx.conftest import ROOT, Door
from tests.nginx.upstream import Upstream

HTML = {"Accept": "text/html,application/xhtml+xml"}
TITLE = "Danqing 丹青"


def ask(
    door: Door, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    try:
        connection.request(method, path, body or None, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("POST", "/login"), ("GET", "/?__theme=dark"), ("GET", "/a/b")]
)
def test_people_wait_on_a_page(door: Door, method: str, path: str) -> None:
    answer, text = ask(door, path, method, b"x=1" if method == "POST" else b"", **HTML)
    assert answer.status == 503
    assert TITLE in text
    assert answer.headers["Retry-After"] == "3"
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("stated", "lang"),
    [({}, "zh"), ({"Accept_Language": "zh-CN,zh;q=0.9"}, "zh"), ({"Accept_Language": "en-GB,zh;q=0.5"}, "en")],
)
def test_the_page_speaks_the_visitors_language(door: Door, stated: dict[str, str], lang: str) -> None:
    _, text = ask(door, "/", **HTML, **stated)
    assert f'<html lang="{lang}">' in text


def test_programs_get_what_they_understand(door: Door) -> None:
    answer, text = ask(door, "/sdapi/v1/txt2img", "POST", b"{}")
    assert answer.status == 503
    assert answer.headers["Content-Type"].startswith("application/json")
    assert {"error", "detail", "body", "errors"} <= json.loads(text).keys()
    assert json.loads(ask(door, "/readyz")[1])["ready"] is False


def test_the_phases_are_there_before_the_app(door: Door) -> None:
    assert json.loads(ask(door, "/danqing-status.json")[1]) == {"ready": False, "phases": []}
    told = {"ready": False, "phases": [{"name": "prefetch", "state": "running", "seconds": 1.5, "progress": 0.5}]}
    door.status.write_text(json.dumps(told))
    answer, text = ask(door, "/danqing-status.json")
    assert (answer.status, json.loads(text)) == (200, told)
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_page_needs_nothing_but_itself(door: Door) -> None:
    answer, text = ask(door, "/", **HTML)
    assert "src=" not in text
    assert 'href="http' not in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


def test_the_app_is_reached(upstream: Upstream, door: Door) -> None:
    told = json.loads(ask(door, "/echo?prompt=x", X_Forwarded_For="6.6.6.6", Host="box.example")[1])
    assert told["path"] == "/echo?prompt=x"
    assert told["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert told["headers"]["x-forwarded-proto"] == "http"
    assert told["headers"]["host"] == "box.example"


def test_only_the_front_page_hides_the_apps_503(upstream: Upstream, door: Door) -> None:
    upstream.home = 503
    assert TITLE in ask(door, "/", **HTML)[1]
    assert ask(door, "/status/503", **HTML)[1] == "the app's own words"
    assert ask(door, "/status/404", **HTML)[0].status == 404
    upstream.home = 200
    assert ask(door, "/", **HTML)[1] == "home"


def test_the_page_comes_back_by_itself(door: Door) -> None:
    assert TITLE in ask(door, "/", **HTML)[1]
    with Upstream(door.upstream_port):
        assert ask(door, "/", **HTML)[1] == "home"


def test_events_are_not_held_back(upstream: Upstream, door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=30)
    connection.request("GET", "/stream", headers={"Accept": "text/event-stream"})
    answer = connection.getresponse()
    assert answer.readline() == b"data: first\n"  # while the app still holds the second
    upstream.more.set()
    assert b"second" in answer.read()
    connection.close()


def test_a_body_may_be_large_but_not_larger(make_door: Callable[..., Door]) -> None:
    door = make_door(**{"client_max_body_size 256m": "client_max_body_size 1m"})
    with Upstream(door.upstream_port):
        assert ask(door, "/sdapi/v1/x", "POST", b"x" * (1 << 20))[1] == "posted"
        answer, text = ask(door, "/sdapi/v1/x", "POST", b"x" * ((1 << 20) + 1))
    assert answer.status == 413
    assert json.loads(text)["error"] == "TooLarge"


def test_guessing_passwords_is_slow(upstream: Upstream, door: Door) -> None:
    statuses = [ask(door, "/login", "POST", b"password=x")[0].status for _ in range(14)]
    assert statuses[:11] == [200] * 11
    assert statuses[-1] == 429
    assert ask(door, "/login")[0].status == 200  # looking at the form is not a try
    assert ask(door, "/echo")[0].status == 200


def test_one_address_cannot_take_all(make_door: Callable[..., Door]) -> None:
    door = make_door(**{"rate=50r/s": "rate=1r/s", "burst=300": "burst=5"})
    with Upstream(door.upstream_port):
        answers = [ask(door, "/echo") for _ in range(8)]
    assert answers[0][0].status == 200
    assert answers[-1][0].status == 429
    assert json.loads(answers[-1][1])["error"] == "TooManyRequests"


def test_numbers_are_not_for_visitors(upstream: Upstream, door: Door) -> None:
    assert ask(door, "/metrics")[0].status == 403


def test_inner_pages_are_inner(door: Door) -> None:
    for name in ("waiting.html", "program", "413", "none"):
        assert ask(door, f"/danqing-wait/{name}")[0].status in (404, 503)
        assert TITLE not in ask(door, f"/danqing-wait/{name}")[1]


def test_the_log_keeps_no_secrets(upstream: Upstream, door: Door) -> None:
    answer, _ = ask(
        door, "/echo?prompt=my-secret-prompt", Cookie="danqing_session=s3cret", Authorization="Basic c2VjcmV0"
    )
    assert answer.headers["Server"] == "nginx"
    assert ask(door, "/shared/hush-hush/")[0].status == 200
    log = door.root / "var/log/nginx/access.log"
    door.stop()
    door.process = None
    for _ in range(200):
        if log.stat().st_size:
            break
        time.sleep(0.02)
    text = log.read_text()
    assert '"GET /echo HTTP/1.1" 200' in text
    assert '"GET /shared/* HTTP/1.1" 200' in text
    for secret in ("secret", "s3cret", "c2VjcmV0", "hush"):
        assert secret not in text


def test_errors_are_logged_without_the_secret_of_a_link(make_door: Callable[..., Door]) -> None:
    """Nobody stands behind nginx: each request is an error."""
    door = make_door(**{"error_log stderr warn;": "error_log /var/log/nginx/error.log warn;"})
    assert [ask(door, path)[0].status for path in ("/echo", "/shared/hush-hush")] == [503, 503]
    text = (door.root / "var/log/nginx/error.log").read_text()
    assert "/echo" in text
    assert "hush" not in text


@pytest.mark.parametrize(("trusted", "scheme"), [([], "http"), (["127.0.0.0/8"], "https"), (["10.0.0.0/8"], "http")])
def test_only_a_trusted_proxy_says_that_the_way_is_encrypted(
    rendered: Path, make_door: Callable[..., Door], trusted: list[str], scheme: str
) -> None:
    variables = yaml.safe_load((ROOT / "ansible/group_vars/all.yml").read_text())
    template = jinja2.Environment(trim_blocks=True).from_string((ROOT / "nginx/site.conf.j2").read_text())
    text = template.render({**variables, "danqing_nginx_trusted": trusted})
    door = make_door(**{(rendered / "site.conf").read_text(): text})
    with Upstream(door.upstream_port):
        answer = ask(door, "/echo", **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"})[1]
    told = json.loads(answer)["headers"]
    assert (told["x-forwarded-proto"], told["x-forwarded-for"]) == (
        scheme,
        "203.0.113.9" if scheme == "https" else "127.0.0.1",
    )


def test_the_waiting_page_knows_every_phase() -> None:
    from danqing.box.phases import TEXTS

    text = (ROOT / "nginx/www/waiting.html").read_text("utf-8")
    for name, (en, zh) in TEXTS.items():
        if name not in ("warmup", "compile"):  # these come after the page has opened
            assert f'["{name}", ' in text
            assert en in text
            assert zh in text
