"""Puts the tables of bench/out/ into docs/benchmarks*.md and the figures of the READMEs, between their `bench:` marks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from bench.report import OUT, markdown

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "README.zh-CN.md", "docs/benchmarks.md", "docs/benchmarks.zh-CN.md")
BLOCK = re.compile(r"(<!-- bench: (\w+) -->\n).*?(<!-- end of bench -->)", re.DOTALL)

TITLES = {
    "serving": ("Serving", "并发服务"),
    "overhead": ("Engine overhead", "引擎开销"),
    "start": ("Start", "启动"),
    "mini": ("danqing-mini: prompt following", "danqing-mini：按提示词作画"),
}

Record = dict[str, Any]


def load(name: str) -> Record:
    record: Record = json.loads((OUT / f"{name}.json").read_text("utf-8"))
    return record


def section(name: str, chinese: bool) -> str:
    """One benchmark's heading, command, table, notes and machine."""
    record = load(name)
    heading = f"## {TITLES[name][chinese]}\n\n`.venv/bin/python -m bench {name}`\n"
    parts = [
        heading,
        markdown(record["rows"]),
        *(f"\n{note}\n" for note in record["notes"]),
        "\n" + machine(record) + "\n",
    ]
    return "".join(parts)


def machine(record: Record) -> str:
    return ", ".join(f"{key} {value}" for key, value in record["machine"].items())


def summary(chinese: bool) -> str:
    """The READMEs' figures: a line per benchmark, with the command that prints it."""
    facts = load("serving")["machine"]
    rows = {(row["at once"], row["side"]): row for row in load("serving")["rows"]}
    most = max(level for level, _ in rows)
    ours, theirs = rows[most, "danqing"], rows[most, "diffusers"]
    step = next(row for row in load("overhead")["rows"] if row["jobs"] == 1)
    start = load("start")["rows"][-1]
    held_out = next(row for row in load("mini")["rows"] if row["test"] == "held out")
    values = {
        "cores": facts["cores"],
        "cpu": facts["cpu"],
        "torch": facts["torch"],
        "most": most,
        "ratio": f"{ours['times the peer']:.2f}",
        "rate": f"{ours['pictures/s']:.2f}",
        "preview": f"{ours[PREVIEW]:.1f}",
        "waits": f"{theirs[PREVIEW]:.1f}",
        "alone": f"{rows[1, 'danqing']['times the peer']:.2f}",
        "overhead": f"{step['overhead ms']:.1f}",
        "port": f"{start['port s']:.1f}",
        "ready": f"{start['ready s']:.1f}",
        "first": f"{start['first picture s']:.1f}",
        **{aspect: held_out[f"{aspect} %"] for aspect in ("background", "colour", "shape")},
    }
    return (CHINESE if chinese else ENGLISH).format(**values)


PREVIEW = "last user's first preview s"

ENGLISH = """\
On {cores} cores of an {cpu}, without a GPU, torch {torch}, danqing-mini at 128×128 pixels in float32:

| what | figure | printed by |
| --- | --- | --- |
| {most} requests at once, all different | {rate} pictures/s, {ratio} times diffusers behind a lock; the last user sees a preview after {preview} s ({waits} s there) | `.venv/bin/python -m bench serving` |
| one request alone | {alone} times diffusers | the same |
| the engine's own work per step | {overhead} ms | `.venv/bin/python -m bench overhead` |
| from `danqing serve` to an open port, ready, and the first picture after that | {port} s, {ready} s, {first} s | `.venv/bin/python -m bench start` |
| danqing-mini, pairs of shape and colour it never saw | background {background} %, colour {colour} %, shape {shape} % right | `.venv/bin/python -m bench mini` |

All of them are in [docs/benchmarks.md](docs/benchmarks.md); `make bench` prints them on your machine.
"""

CHINESE = """\
{cpu} 的 {cores} 个核，无显卡，torch {torch}，danqing-mini，128×128 像素，float32：

| 项目 | 数据 | 命令 |
| --- | --- | --- |
| {most} 个互不相同的请求同时到来 | 每秒 {rate} 张，是加锁的 diffusers 的 {ratio} 倍；最后一位用户在 {preview} 秒后看到预览（后者为 {waits} 秒） | `.venv/bin/python -m bench serving` |
| 单独一个请求 | 是 diffusers 的 {alone} 倍 | 同上 |
| 引擎每步自身的开销 | {overhead} 毫秒 | `.venv/bin/python -m bench overhead` |
| 从 `danqing serve` 到端口打开、就绪，以及之后的第一张图 | {port} 秒、{ready} 秒、{first} 秒 | `.venv/bin/python -m bench start` |
| danqing-mini，训练中从未见过的形状与颜色组合 | 背景 {background} %、颜色 {colour} %、形状 {shape} % 正确 | `.venv/bin/python -m bench mini` |

全部数据见 [docs/benchmarks.zh-CN.md](docs/benchmarks.zh-CN.md)；`make bench` 可在您的机器上测量。
"""


def main() -> None:
    for name in PAGES:
        path = ROOT / name
        chinese = name.endswith(".zh-CN.md")

        def fill(match: re.Match[str], chinese: bool = chinese) -> str:
            made = summary(chinese) if match[2] == "summary" else section(match[2], chinese)
            return match[1] + made + match[3]

        path.write_text(BLOCK.sub(fill, path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
