"""Idle stop and the notice of a spot machine, against a page that counts jobs and a metadata service."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from danqing.box import idle, spot
from danqing.box.local import Client
from danqing.box.metadata import Metadata
from danqing.box.places import Places
from tests.boxcli.conftest import Service, well

MINUTE = 60.0


@dataclass
class App:
    """Counts as /metrics shows them; `up` False answers 503."""

    client: Client
    running: int = 0
    waiting: int = 0
    done: int = 0
    up: bool = True


@pytest.fixture
def app(places: Places) -> Iterator[App]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = "".join(
                f'danqing_jobs{{state="{state}"}} {getattr(state_of, state)}.0\n'
                for state in ("running", "waiting", "done")
            )
            self.send_response(200 if state_of.up else 503)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state_of = App(Client(places, f"http://127.0.0.1:{server.server_port}"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state_of
    server.shutdown()
    server.server_close()
    thread.join()


class Switch:
    """Counts how often the power went off."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


def test_it_is_off_by_default(places: Places) -> None:
    assert "off" in well("idle-stop")


def test_a_box_that_nobody_uses_goes_off_after_the_time(places: Places, app: App) -> None:
    switch = Switch()
    for minute in range(20):
        idle.check(places, app.client, 20, switch, now=1000 + minute * MINUTE)
    assert switch.times == 0
    assert "stopping" in idle.check(places, app.client, 20, switch, now=1000 + 20 * MINUTE)
    assert switch.times == 1


@pytest.mark.parametrize("event", ["running", "waiting", "done", "restart"])
def test_whatever_happens_begins_the_count_anew(places: Places, app: App, event: str) -> None:
    switch = Switch()
    idle.check(places, app.client, 20, switch, now=0 + 1)
    if event == "restart":
        app.up = False
    else:
        setattr(app, event, 1)
    idle.check(places, app.client, 20, switch, now=19 * MINUTE)
    app.running = app.waiting = 0
    app.up = True
    idle.check(places, app.client, 20, switch, now=21 * MINUTE)
    idle.check(places, app.client, 20, switch, now=38 * MINUTE)
    assert switch.times == 0
    idle.check(places, app.client, 20, switch, now=60 * MINUTE)
    assert switch.times == 1


def test_a_clock_that_is_set_is_no_time_without_a_job(
    places: Places, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch, clock = Switch(), time.time
    idle.check(places, app.client, 20, switch)
    monkeypatch.setattr(time, "time", lambda: clock() + 24 * 3600)
    idle.check(places, app.client, 20, switch)
    assert switch.times == 0


def test_never_in_the_first_minutes(places: Places, app: App) -> None:
    switch = Switch()
    for minute in range(idle.LEAST_UP_MINUTES):
        idle.check(places, app.client, 1, switch, now=1000 + minute * MINUTE)
    assert switch.times == 0


def test_an_app_that_does_not_answer_is_not_idle(places: Places, app: App) -> None:
    app.up = False
    switch = Switch()
    for minute in range(100):
        idle.check(places, app.client, 15, switch, now=minute * MINUTE)
    assert switch.times == 0


# -- spot --


def test_another_machine_has_nothing_to_watch(places: Places, app: App, imds: Service) -> None:
    said: list[str] = []
    imds.known["meta-data/instance-life-cycle"] = "on-demand"
    spot.watch(places, Metadata(imds.url), app.client, said.append)
    assert said == ["not a spot machine: nothing to watch"]


def test_a_notice_holds_the_queue_and_waits_for_what_is_drawn(
    places: Places, app: App, imds: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[tuple[str, ...]] = []
    monkeypatch.setattr(spot.tools, "quiet", lambda *words, seconds=0: stopped.append(words) or "")
    imds.known["meta-data/instance-life-cycle"] = "spot"
    app.running = 1
    said: list[str] = []
    seen: list[bool] = []

    def say(text: str) -> None:
        said.append(text)
        if text.startswith("watching"):
            notice = {"action": "terminate", "time": "2026-11-24T20:00:00Z"}
            imds.known["meta-data/spot/instance-action"] = json.dumps(notice)
        if text.startswith("notice"):
            threading.Timer(
                0.2, lambda: (seen.append((places.data / spot.DRAIN).exists()), setattr(app, "running", 0))
            ).start()

    spot.watch(places, Metadata(imds.url), app.client, say, poll=0.05)
    assert said[1:3] == ["notice: terminate at 2026-11-24T20:00:00Z", "drained"]
    assert seen == [True]
    assert stopped == [("systemctl", "stop", "danqing.target")]
    assert imds.plain == 0


def test_a_metadata_service_that_fails_for_a_moment_is_asked_again(imds: Service) -> None:
    """Tokens end after hours: a watcher that got no new one at once must not miss the notice for ever."""
    metadata = Metadata(imds.url)
    imds.known["meta-data/spot/instance-action"] = '{"action": "stop", "time": "T"}'
    assert spot.notice_of(metadata) == "stop at T"
    imds.token, imds.failing = "another token", True
    assert [spot.notice_of(metadata) for _ in range(3)] == [None] * 3
    imds.failing = False
    assert spot.notice_of(metadata) == "stop at T"


def test_what_is_not_done_in_time_is_left_for_the_next_start(places: Places, app: App) -> None:
    app.running = 1
    said: list[str] = []
    assert not spot.drain(places, app.client, said.append, seconds=0.1)
    assert "after the next start" in said[-1]


@pytest.mark.parametrize(
    ("text", "notice"),
    [(None, None), ("", None), ('{"action": "stop", "time": "T"}', "stop at T"), ("odd", "odd"), ("[]", "[]")],
)
def test_notices(imds: Service, text: str | None, notice: str | None) -> None:
    if text is not None:
        imds.known["meta-data/spot/instance-action"] = text
    assert spot.notice_of(Metadata(imds.url)) == notice
