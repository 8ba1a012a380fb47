"""Writes the generated tables in docs/, in English and Chinese: settings, errors, machines, base images, preprocessors.

A test says when they are out of date.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from danqing import app, errors
from danqing.box import errors as box_errors
from danqing.cloud import bases, facts
from danqing.cloud import errors as cloud_errors
from danqing.control import catalog as control
from danqing.settings import Setting

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
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


def sentences(chinese: bool, kinds: Iterable[errors.ErrorKind]) -> list[str]:
    """Code and sentence of the errors of a command."""
    head = ("代码", "文字") if chinese else ("code", "sentence")
    rows = sorted((f"`{kind.code}`", " ".join((kind.zh if chinese else kind.en).split())) for kind in kinds)
    return table(head, (tuple(cell.replace("|", "\\|") for cell in row) for row in rows))


def machines(chinese: bool) -> list[str]:
    """Types to launch on: GPU, memory, price, what a picture takes."""
    head = ("机型", "显卡", "vCPU", "内存", "实例存储", "每小时", "每张图", "每千张", "说明")
    if not chinese:
        head = ("type", "GPU", "vCPU", "memory", "instance store", "an hour", "a picture", "1000 pictures", "")
    return table(head, (_machine(row, chinese) for row in facts.MACHINES))


def _machine(row: facts.Machine, chinese: bool) -> tuple[str, ...]:
    seconds, cost = (f"{row.seconds:.1f} s", f"${row.thousand:.2f}") if row.seconds else ("", "")
    sizes = (str(row.cores), f"{row.memory_gb} GB", f"{row.disk_gb} GB")
    return (
        f"`{row.name}`",
        f"{row.gpu} {row.gpu_gb} GB",
        *sizes,
        f"${row.dollars:.3f}",
        seconds,
        cost,
        row.zh if chinese else row.en,
    )


def base_images(chinese: bool) -> list[str]:
    """Base images of `make ami`."""
    head = ("名称", "镜像", "系统支持至") if chinese else ("BASE", "image", "system supported until")
    return table(head, ((f"`{row.name}`", row.title, row.system_ends.isoformat()) for row in bases.BASES))


NEEDS: dict[control.How, tuple[str, str]] = {
    "plain": ("nothing", "无"),
    "network": ("", ""),
    "vision": ("no map: the model reads the picture", "不生成控制图：模型直接读取图片"),
    "absent": ("not built in", "未内置"),
}


def preprocessors(chinese: bool) -> list[str]:
    """Preprocessors of ControlNet, what each needs, its sliders."""
    head = ("预处理器", "需要", "范围（默认值）") if chinese else ("preprocessor", "needs", "ranges (default)")
    rows = []
    for row in control.ROWS:
        name = f"`{row.name}`" + (f", `{row.alias}`" if row.alias else "")
        needs = ", ".join(f"`{file}`" for file in row.files) or NEEDS[row.how][chinese]
        sliders = (f"{one.name} {one.minimum:g}…{one.maximum:g} ({one.value:g})" for one in row.sliders)
        rows.append((name, needs, "; ".join(sliders)))
    return table(head, rows)


def status(value: int, chinese: bool) -> str:
    """Errors of the command line have an exit code in place of an HTTP status."""
    if value >= 100:
        return str(value)
    return f"退出码 {value}" if chinese else f"exit {value}"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *rows)]


def access(chinese: bool) -> list[str]:
    """Every route by every kind of visitor, as the tests try them."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from tests.security import access

    people = (names[chinese] for names in access.VISITORS.values())
    head = ("路由", *people, "说明") if chinese else ("route", *people, "")
    return table(head, access.table(chinese))


TABLES: dict[str, Callable[[bool], list[str]]] = {
    "settings": settings,
    "errors": error_codes,
    "machines": machines,
    "bases": base_images,
    "preprocessors": preprocessors,
    "access": access,
    "cloud": lambda chinese: sentences(chinese, cloud_errors.KINDS.values()),
    "box": lambda chinese: sentences(chinese, box_errors.KINDS.values()),
}


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
