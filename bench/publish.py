"""Puts the tables of bench/out/ into docs/benchmarks*.md and the figures of the READMEs, between their `bench:` marks.

What was not measured on this machine stays as it is."""

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
    "sessions": ("Twenty sessions at once", "二十个会话同时使用"),
    "fairness": ("Fair shares", "公平份额"),
    "faults": ("Faults", "故障"),
    "coldboot": ("Boot from a cold disk", "从冷磁盘启动"),
    "adapters": ("A LoRA of 40 MB", "40 MB 的 LoRA"),
    "loading": ("Loading a checkpoint of SD 1.5's size", "加载 SD 1.5 大小的模型"),
}

SUMMARY = ("serving", "overhead", "start", "mini")
"""Benchmarks that the READMEs' figures come from."""

Record = dict[str, Any]
PREVIEW = "last user's first preview s"


def load(name: str) -> Record:
    record: Record = json.loads((OUT / f"{name}.json").read_text("utf-8"))
    return record


def section(name: str, chinese: bool) -> str:
    """One benchmark's heading, command, table, notes and machine."""
    record = load(name)
    heading = f"## {TITLES[name][chinese]}\n\n`.venv/bin/python -m bench {name}`\n\n"
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
    ours = rows[most, "danqing"]
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
        "alone": f"{rows[1, 'danqing']['times the peer']:.2f}",
        "overhead": f"{step['overhead ms']:.1f}",
        "port": f"{start['port s']:.1f}",
        "ready": f"{start['ready s']:.1f}",
        "first": f"{start['first picture s']:.1f}",
        **{aspect: held_out[f"{aspect} %"] for aspect in ("background", "colour", "shape")},
    }
    template = Path(__file__).with_name("summary.zh-CN.md" if chinese else "summary.md")
    return template.read_text("utf-8").format(**values)


def main() -> None:
    for name in PAGES:
        path = ROOT / name
        chinese = name.endswith(".zh-CN.md")

        def fill(match: re.Match[str], chinese: bool = chinese) -> str:
            needed = SUMMARY if match[2] == "summary" else (match[2],)
            if not all((OUT / f"{name}.json").is_file() for name in needed):
                return match[0]
            made = summary(chinese) if match[2] == "summary" else section(match[2], chinese)
            return match[1] + made + match[3]

        path.write_text(BLOCK.sub(fill, path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
