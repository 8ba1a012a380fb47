"""Settings of the page."""

from __future__ import annotations

from danqing.settings import Setting

ROWS: tuple[Setting, ...] = (
    Setting(
        "page_language",
        "auto",
        "Language of the page for readers who chose none and whose browser asks for neither: zh or en; auto is en.",
        "读者未选择、浏览器也未要求中文或英文时网页的语言：zh 或 en；auto 为 en。",
        choices=("auto", "zh", "en"),
    ),
)
