"""The settings of the whole service, as a form for administrators: every row of the table but those that lead to other programs
or to files of the machine, which only whoever logs in there may change."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Container, Iterable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from danqing.errors import DanqingError, Language
from danqing.settings import Setting, Settings, Value
from danqing.ui import pages
from danqing.ui.context import UiContext
from danqing.ui.words import say

OF_THE_MACHINE = frozenset(
    {
        "engine_command",
        "engine_socket",
        "engine_external",
        "chores_external",
        "compile_baked",
        "c2pa_certificate",
        "c2pa_key",
        "oidc_secret_file",
    }
)

GROUPS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("Limits", "限制"): ("limit_", "share_days_", "login_", "session_"),
    ("The page", "网页"): ("page_", "translate_", "preview_"),
    ("Rules of the place", "使用规则"): ("prompt_blocklist", "safety_", "label_", "c2pa_"),
    ("Queue and disk", "队列与磁盘"): (
        "queue_",
        "disk_",
        "job_",
        "picture_",
        "temporary_",
        "trash_",
        "input_",
        "train_",
    ),
    ("Engine", "引擎"): ("engine_", "alloc_", "compile_"),
    ("Network", "网络"): ("allowed_", "proxy_", "cors_", "url_", "webhooks", "oidc_", "api_", "shutdown_"),
    ("Storage and models", "存储与模型"): ("s3_", "model_"),
    ("Log", "日志"): ("log_",),
}
"""Title → with what the names of its rows begin; what fits nowhere comes last, under no title."""


def rows_of(settings: Settings) -> list[Setting]:
    """The rows that a page may change."""
    return [row for row in settings.rows.values() if row.name not in OF_THE_MACHINE]


async def form(context: UiContext, language: Language) -> str:
    """The form with what is kept for the next start."""
    rows = rows_of(context.settings)
    kept = await asyncio.to_thread(Settings.load_known, rows, context.data)
    pinned = {row.name for row in rows if row.variable in os.environ}
    return page(rows, kept.values(), pinned, language)


async def keep(context: UiContext, wanted: Mapping[str, Any]) -> None:
    """Keep some for the next start.

    Raises:
        DanqingError: `invalid_field`: a name that is not of the form, one that the environment sets, a value that does not
            fit; `cannot_write`.
    """
    rows = {row.name: row for row in rows_of(context.settings)}
    for name in wanted:
        if name not in rows:
            raise DanqingError("invalid_field", field=name[:100], reason="is not among the settings of this page")
        if rows[name].variable in os.environ:
            raise DanqingError("invalid_field", field=name, reason=f"is set by {rows[name].variable}")
    await asyncio.to_thread(keep_rows, context.data, rows.values(), wanted)


def keep_rows(data: Path, rows: Iterable[Setting], wanted: Mapping[str, Any]) -> None:
    """`Settings.keep` for somebody at a page: what does not fit is their field, not this program's start.

    Raises:
        DanqingError: `invalid_field`, `cannot_write`.
    """
    try:
        Settings.keep(data, rows, wanted)
    except DanqingError as error:
        if error.code != "bad_setting":
            raise
        raise DanqingError("invalid_field", field=error.params["name"], reason=error.params["reason"]) from None


def page(rows: Iterable[Setting], values: Mapping[str, Value], pinned: Container[str], language: Language) -> str:
    """Sections of rows, each with its help, its name and its default."""
    titles = [*(group[language == "zh"] for group in GROUPS), ""]
    sections: dict[str, list[str]] = {title: [] for title in titles}
    for row in rows:
        group = next((title for title, starts in GROUPS.items() if row.name.startswith(starts)), ("", ""))
        sections[group[language == "zh"]].append(_row(row, values[row.name], row.name in pinned, language))
    parts = [f'<p class="dq-note">{escape(say("settings_service_note", language))}</p>']
    for title, found in sections.items():
        if found:
            parts.append(f"<section><h2>{escape(title)}</h2>{''.join(found)}</section>")
    return "".join(parts)


def _row(row: Setting, value: Value, pinned: bool, language: Language) -> str:
    box = pages.input_of(row.name, value, row, row.choices, disabled=pinned)
    text, changed = (row.zh if language == "zh" else row.en), value != row.default and not pinned
    return pages.option_row(row.name, text, box, changed, row.default, language)
