"""A server under load that is hurt and started again, the clients that ask it, and what became of everything they asked for."""

from __future__ import annotations

import base64
import io
import random
import signal
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from bench.report import Cell
from bench.start import free_port, port_open, start
from danqing.api.tokens import DRAW, Tokens
from danqing.api.users import ARTIST, Users

PATIENCE = 300.0
FINAL = ("done", "failed", "cancelled")


@dataclass
class Box:
    """A server that is started again whenever it has been killed."""

    data: Path
    environ: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    tokens: list[str] = field(default_factory=list)
    """One of each user; where there are none, no login is asked."""
    keys: dict[str, str] = field(default_factory=dict)
    """By job, the token of whoever asked for it."""

    def __post_init__(self) -> None:
        self._client = httpx.Client(base_url=self.url, timeout=5, trust_env=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        login = ("--users", "login") if self.tokens else ()
        self.process = start(self.data, self.port, self.environ, *login)

    def invite(self, count: int) -> None:
        """So many users with a token each; before the first start."""
        users, tokens = Users(self.data), Tokens(self.data)
        for number in range(count):
            users.add(f"user{number}", ARTIST, None, f"bench {number}")
            self.tokens.append(tokens.new("bench", (DRAW,), f"user{number}")[0])
        users.close()

    def until(self, done: Any, what: str) -> float:
        """Seconds until `done` holds."""
        began = time.monotonic()
        while not done():
            if self.process is not None and self.process.poll() is not None:
                raise SystemExit(f"the server has ended with {self.process.returncode}; {what} was waited for")
            if time.monotonic() - began > PATIENCE:
                raise SystemExit(f"given up after {PATIENCE:g} s: {what}")
            time.sleep(0.01)
        return time.monotonic() - began

    def ready(self) -> bool:
        try:
            return self._client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def engine(self) -> psutil.Process | None:
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return children[0] if children else None

    def memory(self) -> float:
        """Resident MB of web and engine."""
        assert self.process is not None
        web = psutil.Process(self.process.pid)
        return float(sum(one.memory_info().rss for one in (web, *web.children(recursive=True)))) / 2**20

    def kill_web(self) -> tuple[float, float]:
        """Seconds until the port is open again, and until pictures are drawn again."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.start()
        port = self.until(lambda: port_open(self.port), "an open port")
        return port, port + self.until(self.ready, "drawing again")

    def kill_engine(self) -> tuple[float, float]:
        engine = self.engine()
        if engine is None:
            return 0.0, self.until(self.ready, "drawing again")
        began = time.monotonic()
        engine.send_signal(signal.SIGKILL)
        self.until(lambda: (new := self.engine()) and new.pid != engine.pid and self.ready(), "drawing again")
        return 0.0, time.monotonic() - began

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


class Clients:
    """Threads that submit a job each, watch it to its end, and go on, whatever happens to the server meanwhile.

    Args:
        url: where they ask, the box's own door when empty.
        refusals: answers that are no fault: then they try again.
        heard: called with the id of each job that was acknowledged, at that moment.
    """

    def __init__(
        self,
        box: Box,
        count: int,
        rng: random.Random,
        jobs: int | None = None,
        *,
        url: str = "",
        refusals: tuple[int, ...] = (),
        heard: Callable[[str], None] = lambda job: None,
    ) -> None:
        self.box, self.left = box, jobs
        self.url, self.refusals, self._heard = url or box.url, refusals, heard
        self.acknowledged: list[str] = []
        self.refused = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        keys = [box.tokens[number % len(box.tokens)] if box.tokens else "" for number in range(count)]
        self._threads = [
            threading.Thread(target=self._run, args=(random.Random(rng.random()), key), daemon=True) for key in keys
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)

    def _taken(self) -> bool:
        with self._lock:
            if self.left is not None:
                self.left -= 1
            return (self.left is None or self.left >= 0) and not self.stopping.is_set()

    def _run(self, rng: random.Random, key: str) -> None:
        with httpx.Client(base_url=self.url, timeout=30, trust_env=False, headers=bearer(key)) as client:
            while self._taken():
                job = self._submitted(client, wish(rng), key)
                while job and not self.stopping.is_set() and state_of(client, job) not in FINAL:
                    time.sleep(0.05)

    def _submitted(self, client: httpx.Client, body: dict[str, Any], key: str) -> str:
        while not self.stopping.is_set():
            try:
                answer = client.post("/v1/jobs", json=body)
            except httpx.HTTPError:
                time.sleep(0.05)
                continue
            if answer.status_code == 202:
                job = str(answer.json()["id"])
                self._heard(job)
                self.box.keys[job] = key
                self.acknowledged.append(job)
                return job
            if answer.status_code in (502, 503, 504, *self.refusals):
                self.refused += 1
                time.sleep(0.1)
                continue
            raise SystemExit(f"a job was refused: {answer.text[:300]}")
        return ""


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"} if key else {}


def state_of(client: httpx.Client, job: str, key: str = "") -> str:
    try:
        answer = client.get(f"/v1/jobs/{job}", headers=bearer(key))
    except httpx.HTTPError:
        return "unknown"
    return str(answer.json()["state"]) if answer.status_code == 200 else "lost"


def error_of(client: httpx.Client, job: str, key: str) -> str:
    """What the owner of a job that failed can read."""
    error = client.get(f"/v1/jobs/{job}", headers=bearer(key)).json().get("error") or {}
    return str(error.get("message", ""))


def wish(rng: random.Random) -> dict[str, Any]:
    """A job: two of three from a prompt, one from a picture."""
    body: dict[str, Any] = {
        "kind": "txt2img",
        "prompt": f"a {rng.choice(['red', 'green', 'blue'])} {rng.choice(['star', 'ring', 'heart'])}",
        "steps": rng.randint(2, 6),
        "width": rng.choice([64, 128]),
        "height": 64,
        "seed": rng.randrange(2**32),
        "batch_size": rng.randint(1, 2),
        "sampler_name": rng.choice(["Euler", "Euler a", "DPM++ 2M"]),
        "save_images": True,
    }
    if rng.random() < 1 / 3:
        out = io.BytesIO()
        Image.new("RGB", (64, 64), rng.choice(["red", "green"])).save(out, "PNG")
        body |= {"kind": "img2img", "init_images": [base64.b64encode(out.getvalue()).decode()], "width": 64}
    return body


def checked(box: Box, acknowledged: list[str]) -> dict[str, Cell]:
    """What became of every job, and of every file."""
    keys = box.keys
    with httpx.Client(base_url=box.url, timeout=30, trust_env=False) as client:
        end = time.monotonic() + PATIENCE
        states = {job: state_of(client, job, keys[job]) for job in acknowledged}
        while any(state not in (*FINAL, "lost") for state in states.values()) and time.monotonic() < end:
            time.sleep(0.2)
            states = {job: was if was in FINAL else state_of(client, job, keys[job]) for job, was in states.items()}
        errors = {job: error_of(client, job, keys[job]) for job, state in states.items() if state == "failed"}
    with sqlite3.connect(f"file:{box.data / 'danqing.db'}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT job, position, path FROM picture WHERE complete = 1").fetchall()
    indexed = {box.data / path for _, _, path in rows}
    on_disk = {path for path in (box.data / "outputs").rglob("*") if path.is_file()}
    twice = sum(count > 1 for count in Counter((job, place) for job, place, _ in rows).values())
    counts = Counter(states.values())
    for message, count in Counter(errors.values()).items():
        print(f"{count} failed: {message}", flush=True)
    return {
        "jobs": len(states),
        "done": counts["done"],
        "failed": counts["failed"],
        "untold": sum(not told for told in errors.values()),
        "lost": len(states) - sum(counts[state] for state in FINAL),
        "pictures": len(rows),
        "twice": twice,
        "broken": sum(not opens(path) for path in indexed),
        "not indexed": len(on_disk - indexed),
    }


def opens(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            image.load()
    except OSError:
        return False
    return True
