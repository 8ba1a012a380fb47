"""Writes the generated tables in docs/: settings and errors, in English and Chinese. A test says when they are out of date.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from danqing import app, errors
from danqing.settings import Setting

DOCS = Path(__file__).resolve().parent.parent / "docs"
BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def settings(chinese: bool) -> list[str]:
    """Name, default, bounds and help of every setting."""
    head = ("设置", "默认值", "范围", "说明") if chinese else ("setting", "default", "bounds", "what it does")
    rows = [(f"`{row.name}`", shown(row.default), bounds(row), row.zh if chinese else row.en) for row in app.ROWS]
    return table(head, sorted(rows))


def shown(value: object) -> str:
    if value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def bounds(row: Setting) -> str:
    if row.choices:
        return " ".join(f"`{choice}`" for choice in row.choices)
    if row.minimum is None and row.maximum is None:
        return ""
    return f"{number(row.minimum)}…{number(row.maximum)}"


def number(value: float | None) -> str:
    return "" if value is None else f"{value:g}" if value < 1e6 else f"{value:.0f}"


def error_codes(chinese: bool) -> list[str]:
    """Code, status and sentence of every error."""
    head = ("代码", "状态", "文字") if chinese else ("code", "status", "sentence")
    kinds = sorted(errors.KINDS.values(), key=lambda kind: (kind.status, kind.code))
    return table(
        head, ((f"`{kind.code}`", status(kind.status, chinese), kind.zh if chinese else kind.en) for kind in kinds)
    )


def status(value: int, chinese: bool) -> str:
    """Errors of the command line have an exit code in place of an HTTP status."""
    if value >= 100:
        return str(value)
    return f"退出码 {value}" if chinese else f"exit {value}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


TABLES: dict[str, Callable[[bool], list[str]]] = {"settings": settings, "errors": error_codes}


def filled(path: Path) -> str:
    """The text of `path` with its tables as they should be."""
    chinese = path.name.endswith(".zh-CN.md")

    def fill(match: re.Match[str]) -> str:
        return match[1] + "\n".join(TABLES[match[2]](chinese)) + "\n" + match[3]

    return BLOCK.sub(fill, path.read_text("utf-8"))


def main() -> int:
    for path in sorted(DOCS.glob("*.md")):
        text = filled(path)
        if text != path.read_text("utf-8"):
            path.write_text(text, "utf-8")
            print(f"wrote {path.relative_to(DOCS.parent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
