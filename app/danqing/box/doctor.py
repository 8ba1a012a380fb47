"""Looks at everything that keeps a box from drawing, and says what to do about it."""

from __future__ import annotations

import contextlib
import datetime
import email.utils
import os
import shutil
import sqlite3
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from danqing.box import gpu, outbound, tools
from danqing.box.local import Client, data_folder, machine_token
from danqing.box.metadata import ADDRESS
from danqing.box.places import Places

LOW_MB = 1000
LOW_MEMORY_MB = 4000
CLOCK_SECONDS = 300
"""A clock further off than this breaks AWS's signatures and TLS."""
UNITS = ("danqing-firstboot", "danqing-web", "danqing-engine", "nginx")
PORTS = {80: "nginx", 7860: "danqing-web"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `state`: ok, warning or bad; the sentences of a bad one say what to do."""

    check: str
    state: str
    en: str
    zh: str


def examine(places: Places, client: Client) -> list[Finding]:
    """All checks, none of which stops another."""
    found: list[Finding] = []
    checks: list[Callable[[], Iterator[Finding]]] = [
        lambda: _gpu(places),
        lambda: _disk(places),
        _memory,
        lambda: _models(places),
        lambda: _data(places),
        _units,
        lambda: _doors(client),
        lambda: _outbound(places),
        _clock,
    ]
    for check in checks:
        try:
            found += check()
        except (OSError, sqlite3.Error) as error:
            found.append(
                Finding("doctor", "warning", f"a check could not run: {error}", f"有一项检查未能运行：{error}")
            )
    return found


def _gpu(places: Places) -> Iterator[Finding]:
    found = gpu.look(places)
    en, zh = zip(*found.lines(), strict=True)
    state = "bad" if found.error else "ok" if found.state == "ok" else "warning"
    yield Finding("gpu", state, "; ".join(en), "；".join(zh))


def _disk(places: Places) -> Iterator[Finding]:
    for path in {str(data_folder(places)), str(places.root)}:
        if not os.path.isdir(path):
            continue
        free = shutil.disk_usage(path).free >> 20
        if free < LOW_MB:
            yield Finding(
                "disk",
                "bad",
                f"{path} has {free} MB free. Remove pictures (outputs/), or enlarge the volume and run: sudo "
                "danqing box firstboot",
                f"{path} 仅剩 {free} MB。请删除图片（outputs/），或扩大卷后运行：sudo danqing box firstboot",
            )
        else:
            yield Finding("disk", "ok", f"{path}: {free} MB free", f"{path}：剩余 {free} MB")


def _memory() -> Iterator[Finding]:
    rows = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line)
    total = int(rows["MemTotal"].split()[0]) >> 10
    if total < LOW_MEMORY_MB:
        yield Finding(
            "memory",
            "warning",
            f"{total} MB of memory: too little for a full-size model; take a larger machine",
            f"内存仅 {total} MB，不足以运行完整模型；请换更大的机型",
        )
    else:
        yield Finding("memory", "ok", f"{total} MB of memory", f"内存 {total} MB")


def _models(places: Places) -> Iterator[Finding]:
    from danqing.library.index import Library

    found = Library(data_folder(places)).checkpoints()
    if found:
        yield Finding("models", "ok", f"{len(found)} checkpoints", f"{len(found)} 个模型")
    else:
        folder = data_folder(places) / "models/Stable-diffusion"
        yield Finding("models", "bad", f"no checkpoint; put one into {folder}", f"没有模型；请放入 {folder}")


def _data(places: Places) -> Iterator[Finding]:
    data = data_folder(places)
    path = data / "danqing.db"
    if not machine_token(data) and os.geteuid() == 0:
        en, zh = (
            "no secrets yet: sudo systemctl start danqing-firstboot",
            "尚无密钥：sudo systemctl start danqing-firstboot",
        )
        yield Finding("data", "bad", en, zh)
    if not path.is_file():
        return
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as connection:
        answer = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if answer == "ok":
        yield Finding("data", "ok", "the database is whole", "数据库完好")
    else:
        yield Finding(
            "data",
            "bad",
            f"the database is damaged ({answer}): stop danqing.target, then sudo danqing box restore, or move "
            f"{path} away",
            f"数据库已损坏（{answer}）：先停止 danqing.target，再 sudo danqing box restore，或把 {path} 移走",
        )


def _units() -> Iterator[Finding]:
    if not Path("/run/systemd/system").is_dir():
        return
    for unit in UNITS:
        state = tools.quiet("systemctl", "show", "-p", "ActiveState", "--value", unit).strip()
        if state in ("active", "activating"):
            yield Finding("service", "ok", f"{unit}: {state}", f"{unit}：{state}")
        else:
            what = f"sudo systemctl restart {unit}; danqing box logs"
            yield Finding(
                "service",
                "bad",
                f"{unit} is {state or 'unknown'}: {what}",
                f"{unit} 的状态是 {state or '未知'}：{what}",
            )


def _doors(client: Client) -> Iterator[Finding]:
    answer = client.get("/healthz")
    if answer.status == 200:
        yield Finding("port", "ok", f"{client.url} answers", f"{client.url} 有响应")
    else:
        yield Finding(
            "port",
            "bad",
            f"{client.url} does not answer ({answer.text[:100]}): sudo systemctl restart danqing-web",
            f"{client.url} 没有响应（{answer.text[:100]}）：sudo systemctl restart danqing-web",
        )
    if Path("/run/systemd/system").is_dir() and tools.have("ss"):
        listening = tools.quiet("ss", "-Hltn")
        for port, unit in PORTS.items():
            if f":{port} " not in listening:
                en, zh = (
                    f"nobody listens on port {port}: sudo systemctl restart {unit}",
                    f"端口 {port} 无人监听：sudo systemctl restart {unit}",
                )
                yield Finding("port", "bad", en, zh)


def _outbound(places: Places) -> Iterator[Finding]:
    """Settings that call other machines, on a box whose web service may not."""
    wanting = outbound.wanting(places, data_folder(places))
    if wanting and not outbound.is_open(places):
        what = "sudo danqing box outbound on"
        names = ", ".join(wanting)
        yield Finding(
            "outbound",
            "bad",
            f"{names}: the web service may not reach other machines: {what}",
            f"{names}：网页服务不能访问其他机器：{what}",
        )


def _clock() -> Iterator[Finding]:
    """Against the metadata service, which every EC2 machine has and which dates its answers."""
    address = os.environ.get("DANQING_METADATA", ADDRESS)
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoError())
        with opener.open(address, timeout=2) as answer:
            there = email.utils.parsedate_to_datetime(answer.headers.get("Date", ""))
    except (OSError, ValueError, TypeError):
        return
    off = abs((datetime.datetime.now(datetime.UTC) - there.astimezone(datetime.UTC)).total_seconds())
    if off > CLOCK_SECONDS:
        what = "sudo timedatectl set-ntp true"
        yield Finding("clock", "bad", f"the clock is {off:.0f} s off: {what}", f"时钟偏差 {off:.0f} 秒：{what}")
    else:
        yield Finding("clock", "ok", f"the clock is right within {off:.0f} s", f"时钟偏差 {off:.0f} 秒")


class _NoError(urllib.request.HTTPErrorProcessor):
    """A refusal (IMDSv1 is off) has a date too."""

    def http_response(self, request: urllib.request.Request, response: object) -> object:
        return response
