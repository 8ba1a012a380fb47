"""Twenty sessions at once on one box, two of them browsers: what requests that do not draw take while all draw.

`python -m bench.sessions` starts `danqing serve` with the miniature model and as many users as there are sessions, each logged in
by a session of its own. All draw all the time; meanwhile each asks for what a page or a program asks for. The table says the
latency of those requests by route; the JSON also the first step's delay. Whoever sees what is another's fails the run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx

from bench.report import Cell, percentile, show
from tests.conftest import Server, start_server

ROUTES = (
    "/ui/gallery",
    "/ui/me",
    "/sdapi/v1/progress",
    "/sdapi/v1/samplers",
    "/v1/jobs",
    "/ui/terms?q=%E6%B0%B4%E5%A2%A8",
)
LIMIT_MS = 200
PICTURE = {"steps": 24, "width": 128, "height": 128, "sampler_name": "Euler"}


class Session:
    """One user: draws without end, looks on by SSE, and asks beside that."""

    def __init__(self, number: int, client: httpx.AsyncClient, times: dict[str, list[float]]) -> None:
        self.number, self.client, self.times = number, client, times
        self.pictures = 0
        self.first_preview: list[float] = []
        self.leaks: list[str] = []

    @property
    def mark(self) -> str:
        """What only this session's prompts hold."""
        return f"sessionmark{self.number:02d}"

    async def draw(self, until: float) -> None:
        """One job after the other, each watched to its end."""
        while time.monotonic() < until:
            body = {"prompt": f"{self.mark} a red star", **PICTURE}
            asked = time.monotonic()
            job = (await self.client.post("/v1/jobs", json={"kind": "txt2img", **body})).json()
            await self._watch(job["id"], asked)
            self.pictures += 1

    async def _watch(self, job: str, asked: float) -> None:
        seen = False
        async with self.client.stream("GET", f"/v1/jobs/{job}/events", timeout=600) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data:"):
                    continue
                told = json.loads(line[5:])
                if not seen and told.get("progress"):
                    seen = True
                    self.first_preview.append(time.monotonic() - asked)

    async def ask(self, until: float) -> None:
        """What a page asks for while it is open; anybody else's mark in an answer is a leak."""
        source = random.Random(self.number)
        while time.monotonic() < until:
            route = source.choice(ROUTES)
            began = time.monotonic()
            answer = await self.client.get(route)
            self.times[route.partition("?")[0]].append((time.monotonic() - began) * 1000)
            if answer.status_code != 200:
                self.leaks.append(f"{route}: {answer.status_code}")
            others = answer.text.replace(self.mark, "")
            if "sessionmark" in others:
                self.leaks.append(f"{route}: {others[others.index('sessionmark') :][:20]}")
            await asyncio.sleep(source.uniform(0.2, 0.8))


async def logged_in(server: Server, name: str, password: str) -> httpx.AsyncClient:
    """A client with a session of its own."""
    client = httpx.AsyncClient(
        base_url=server.base_url, timeout=120, trust_env=False, headers={"Origin": server.base_url}
    )
    form = re.search(r'name="csrf" value="([^"]*)"', (await client.get("/login")).text)
    said = {"user": name, "password": password, "csrf": form[1] if form else "", "next": "/"}
    answer = await client.post("/login", data=said)
    assert answer.status_code == 303, answer.text
    return client


async def users(server: Server, count: int) -> list[httpx.AsyncClient]:
    """As many users, made by the administrator, each logged in."""
    admin = await logged_in(server, "admin", server.password)
    clients = []
    for number in range(count):
        wish = {"name": f"user{number:02d}", "password": f"a long password {number}", "role": "artist"}
        answer = await admin.post("/v1/users", json=wish)
        assert answer.status_code in (200, 201), answer.text
        clients.append(await logged_in(server, wish["name"], wish["password"]))
    await admin.aclose()
    return clients


async def browse(server: Server, count: int, until: float) -> int:
    """Browsers that log in and draw by keys; how many pictures they saw."""
    from playwright.async_api import async_playwright

    from tests.browser.conftest import STAGE, chromium

    seen = 0
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        for number in range(count):
            page = await (await browser.new_context(locale="zh-CN")).new_page()
            page.set_default_timeout(180_000)
            await page.goto(server.base_url)
            await page.fill("input[name=user]", f"user{number:02d}")
            await page.fill("input[name=password]", f"a long password {number}")
            await page.press("input[name=password]", "Enter")
            await page.wait_for_selector(STAGE)
            await page.fill("#dq-prompt textarea", f"sessionmark{number:02d} seen in a browser")
            await page.click("#dq-forever")
            await page.press("#dq-prompt textarea", "Control+Enter")
        while time.monotonic() < until:
            await asyncio.sleep(1)
        for context in browser.contexts:
            page = context.pages[0]
            seen += await page.locator("#dq-history .dq-thumb").count()
        await browser.close()
    return seen


async def run(server: Server, count: int, browsers: int, seconds: float) -> dict[str, Any]:
    """The figures of one run."""
    times: dict[str, list[float]] = defaultdict(list)
    clients = await users(server, count)
    sessions = [Session(number, client, times) for number, client in enumerate(clients)]
    until = time.monotonic() + seconds
    looking = asyncio.create_task(browse(server, browsers, until)) if browsers else None
    drawing = sessions[browsers:]
    await asyncio.gather(*(one.draw(until) for one in drawing), *(one.ask(until) for one in sessions))
    seen = await looking if looking else 0
    for client in clients:
        await client.aclose()
    delays = [delay for one in drawing for delay in one.first_preview]
    return {
        "sessions": count,
        "browsers": browsers,
        "seconds": seconds,
        "pictures": sum(one.pictures for one in drawing),
        "pictures_in_browsers": seen,
        "leaks": [leak for one in sessions for leak in one.leaks],
        "first_step_seconds": {"p50": percentile(delays, 0.5), "p95": percentile(delays, 0.95)} if delays else {},
        "milliseconds": {
            route: {"count": len(found), "p50": percentile(found, 0.5), "p95": percentile(found, 0.95)}
            for route, found in sorted(times.items())
        },
        "all_p95": percentile([one for found in times.values() for one in found], 0.95),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.sessions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--browsers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    limits = {"DANQING_LIMIT_REQUESTS_A_SECOND": "0"}
    with tempfile.TemporaryDirectory() as data:
        server = start_server(Path(data) / "data", "--users", "login", environment=limits)
        try:
            told = asyncio.run(run(server, asked.sessions, asked.browsers, asked.seconds))
        finally:
            server.stop()
    rows: list[dict[str, Cell]] = [
        {"route": route, "requests": row["count"], "p50 ms": round(row["p50"], 1), "p95 ms": round(row["p95"], 1)}
        for route, row in told["milliseconds"].items()
    ]
    line = (
        f"{told['sessions']} sessions, {told['browsers']} of them browsers: {told['pictures']} pictures, "
        f"{told['pictures_in_browsers']} seen in browsers, all routes p95 {told['all_p95']:.0f} ms (asked: {LIMIT_MS}), "
        f"leaks {len(told['leaks'])}"
    )
    show("sessions", "Sessions that draw while others ask", rows, [line], figures=told)
    if told["leaks"]:
        raise SystemExit("\n".join(told["leaks"][:20]))


if __name__ == "__main__":
    main()
