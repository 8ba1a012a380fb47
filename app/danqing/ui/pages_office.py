"""HTML of the system tab, the merger, the manifest and the list of plug-ins. What a person or a file named is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from danqing.errors import DanqingError
from danqing.library.vaes import vae_files
from danqing.ui.words import say

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.library.chores import Chore
    from danqing.plugins.loading import Info
    from danqing.ui.context import UiContext

CHARTS = ("memory", "load", "queue")
FACTS = ("ready", "device", "compiled", "queue", "disk", "pictures", "models")
METHODS = (("merge_sum", "weighted sum"), ("merge_difference", "add difference"), ("merge_none", "no interpolation"))

Choices = Iterable[tuple[str, str]]


class Page:
    """Words and pieces in one language."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language

    def word(self, key: str, **params: object) -> str:
        return escape(say(key, self.language, **params))

    def head(self, key: str) -> str:
        return f"<h2>{self.word(key)}</h2>"

    def note(self, key: str) -> str:
        return f'<p class="dq-note">{self.word(key)}</p>'

    def button(self, key: str, act: str, more: str = "") -> str:
        return f'<button type="button" class="dq-button" data-office="{act}" {more}>{self.word(key)}</button>'

    def row(self, key: str, inner: str, note: str = "") -> str:
        """A labelled line of a form."""
        small = f"<small>{self.word(note)}</small>" if note else ""
        return f'<label class="dq-field"><span>{self.word(key)}{small}</span>{inner}</label>'

    def menu(self, name: str, choices: Choices) -> str:
        cells = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for text, value in choices)
        return f'<select name="{name}">{cells}</select>'


def system(
    values: Mapping[str, Any],
    pinned: Sequence[str],
    versions: Mapping[str, Any],
    restarts: bool,
    language: Language,
) -> str:
    """The machine's page; `static/office.js` fills charts, facts and log from /ui/system/facts.

    Args:
        values: the allocator's settings; `pinned` ones come from the environment and cannot be changed here.
        restarts: whether the whole service can be restarted.
    """
    page = Page(language)
    charts = "".join(
        f'<figure class="dq-chart" data-chart="{one}"><figcaption></figcaption><svg viewBox="0 0 120 40" role="img" '
        f'preserveAspectRatio="none"></svg></figure>'
        for one in CHARTS
    )
    facts = "".join(f'<div data-fact="{one}"><dt></dt><dd>…</dd></div>' for one in FACTS)
    words = {
        key: say(f"system_{key}", language)
        for key in (
            *("memory", "device_memory", "load", "device_load", "queue", "disk", "device", "free", "of", "waiting"),
            *("running", "pictures", "models", "compiled", "ready", "not_ready", "paused"),
        )
    } | {key: say(key, language) for key in ("restart_sure", "restarting", "applied")}
    told = " ".join(f'data-{key.replace("_", "-")}="{escape(text)}"' for key, text in words.items())
    return (
        f'<div class="dq-system" {told}><section>{page.head("system_now")}<div class="dq-charts">{charts}</div>'
        f'<dl class="dq-facts">{facts}</dl></section>'
        f"{_log(page)}{_care(page, restarts)}{_allocator(page, values, pinned)}{_versions(page, versions)}</div>"
    )


def _log(page: Page) -> str:
    follow = f'<label><input type="checkbox" data-follow checked> {page.word("system_follow")}</label>'
    return (
        f'<section>{page.head("system_log")}<div class="dq-shelf-tools">{follow}</div>'
        f'<pre class="dq-log" tabindex="0" role="log" aria-label="{page.word("system_log")}"></pre></section>'
    )


def _care(page: Page, restarts: bool) -> str:
    rows = [("restart_engine", "restart-engine"), *([("restart_service", "restart-service")] if restarts else [])]
    cells = "".join(f"<div>{page.button(key, act)}{page.note(f'{key}_note')}</div>" for key, act in rows)
    link = f'<a class="dq-button" href="/ui/system/bundle" download>{page.word("bundle")}</a>'
    return (
        f'<section>{page.head("system_actions")}<div class="dq-care">{cells}<div>{link}{page.note("bundle_note")}</div>'
        "</div></section>"
    )


def _allocator(page: Page, values: Mapping[str, Any], pinned: Sequence[str]) -> str:
    def attributes(name: str) -> str:
        fixed = f' disabled title="{page.word("pinned")}"' if name in pinned else ""
        return f'name="{name}"{fixed}'

    rows = (
        page.row(
            "alloc_max_split_mb",
            f'<input type="number" min="0" max="65536" step="1" value="{values["alloc_max_split_mb"]}"'
            f" {attributes('alloc_max_split_mb')}>",
            "alloc_max_split_mb_note",
        ),
        page.row(
            "alloc_expandable",
            f'<input type="checkbox"{" checked" if values["alloc_expandable"] else ""} {attributes("alloc_expandable")}>',
            "alloc_expandable_note",
        ),
        page.row(
            "alloc_collect_at",
            f'<input type="number" min="0" max="1" step="0.05" value="{values["alloc_collect_at"]:g}"'
            f" {attributes('alloc_collect_at')}>",
            "alloc_collect_at_note",
        ),
    )
    return (
        f'<section>{page.head("allocator")}{page.note("allocator_note")}<form class="dq-form" data-form="allocator">'
        f'{"".join(rows)}<button class="dq-button dq-strong">{page.word("apply")}</button> <span role="status"></span>'
        "</form></section>"
    )


def _versions(page: Page, versions: Mapping[str, Any]) -> str:
    flat: dict[str, Any] = {key: value for key, value in versions.items() if isinstance(value, str)}
    flat |= versions.get("packages") or {}
    rows = "".join(f"<tr><td>{escape(key)}</td><td>{escape(str(value))}</td></tr>" for key, value in flat.items())
    return f'<section>{page.head("system_versions")}<div class="dq-scroll"><table>{rows}</table></div></section>'


def merger(context: UiContext, language: Language) -> str:
    """The merger's form and the works below it."""
    page = Page(language)
    models = [(one.model_name, one.title) for one in context.library.checkpoints()]
    none = [(say("none", language), "")]
    vaes = [*none, *((name, name) for name in vae_files(context.data))]
    kept = [(say("merge_keep", language), "keep"), ("float16", "fp16"), ("bfloat16", "bf16"), ("float32", "fp32")]
    configs = [(say("merge_any", language), "any"), ("B", "B"), ("C", "C"), (say("none", language), "none")]
    methods = [(say(key, language), value) for key, value in METHODS]
    rows = (
        page.row("merge_method", page.menu("method", methods)),
        page.row("merge_a", page.menu("a", models)),
        page.row("merge_b", page.menu("b", [*none, *models])),
        page.row("merge_c", page.menu("c", [*none, *models])),
        page.row(
            "merge_multiplier", '<input type="number" name="multiplier" value="0.3" min="-10" max="10" step="0.05">'
        ),
        page.row("merge_name", '<input type="text" name="name" maxlength="180">'),
        page.row("merge_precision", page.menu("precision", kept)),
        page.row("merge_vae", page.menu("vae", vaes)),
        page.row("merge_config", page.menu("config", configs)),
        page.row("merge_discard", '<input type="text" name="discard" maxlength="500">'),
        page.row("merge_copy", '<input type="checkbox" name="copy_metadata" checked>'),
        page.row("merge_record", '<input type="checkbox" name="record" checked>'),
    )
    return (
        f'{page.note("merge_note")}<form class="dq-form" data-form="merge">{"".join(rows)}'
        f'<button class="dq-button dq-strong">{page.word("merge_begin")}</button></form>{works(page)}'
    )


def works(page: Page) -> str:
    """Where the works are listed; the script fills it."""
    stop = page.word("chore_cancel")
    return f'<section class="dq-works" data-stop="{stop}" hidden>{page.head("chores")}<ul></ul></section>'


def outcome(chore: Chore, language: Language) -> str:
    """A line of how a work stands, as plain text."""
    kind = say(f"chore_{chore.kind}", language) if chore.kind in ("merge", "fetch") else chore.kind
    if chore.state == "failed":
        return f"{kind}: {DanqingError.from_dict(chore.error).text(language)}"
    if chore.state == "done":
        return f"{kind}: {say('chore_done', language, result=chore.result)}"
    return f"{kind}: {chore.title} · {say(f'chore_{chore.state}', language)} {chore.progress:.0%}"


def manifest(rows: Sequence[Mapping[str, Any]], hub: bool, language: Language) -> str:
    """What can be fetched, to be chosen."""
    page = Page(language)
    names = ("model_name", "model_size", "manifest_license")
    head = "".join(f"<th>{page.word(name)}</th>" for name in names)
    body = "".join(_fetchable(page, row) for row in rows)
    return (
        f'{page.note("manifest_note")}{"" if hub else page.note("manifest_no_hub")}<form data-form="fetch">'
        f'<div class="dq-scroll dq-tall"><table><thead><tr><th></th>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f'<label class="dq-accept"><input type="checkbox" name="accepted" required> {page.word("manifest_accept")}</label>'
        f'<button class="dq-button dq-strong">{page.word("manifest_begin")}</button></form>{works(page)}'
    )


def _fetchable(page: Page, row: Mapping[str, Any]) -> str:
    name, there = escape(row["name"]), row["there"]
    mark = f"<small>{page.word('manifest_there')}</small>" if there else ""
    chosen = f'<input type="checkbox" name="names" value="{name}" aria-label="{name}"{" disabled" if there else ""}>'
    return (
        f"<tr><td>{chosen}</td><td>{name} {mark}<br><code>{escape(row['file'])}</code></td>"
        f"<td>{row['bytes'] / 2**20:,.0f} MB</td><td>{escape(row['license'])}</td></tr>"
    )


def plugins(found: Sequence[Info], admin: bool, language: Language) -> str:
    """All plug-ins with their switches."""
    page = Page(language)
    look = f'<div class="dq-shelf-tools">{page.button("plugins_look", "look")}</div>' if admin else ""
    return page.note("plugins_note") + look + "".join(_plugin(page, one, admin) for one in found)


def _plugin(page: Page, one: Info, admin: bool) -> str:
    chinese = page.language == "zh"
    title, about = escape(one.title[chinese] or one.name), escape(one.about[chinese])
    error = f'<p class="dq-fault" role="status">{page.word("plugin_failed", reason=one.error)}</p>' if one.error else ""
    on = one.enabled and not one.error
    # What could not even be read has no switch: its folder has to be mended first.
    fixed = "" if admin and "@" not in one.name else " disabled"
    return (
        f'<article class="dq-plugin"{"" if on else " data-off"}><label><input type="checkbox" role="switch"'
        f' data-plugin="{escape(one.name)}"{" checked" if on else ""}{fixed} aria-label="{page.word("plugin_on")} {title}">'
        f"</label><div><h3>{title} <small>{escape(one.version)} · {page.word(f'plugin_{one.origin}')}</small></h3>"
        f"<p>{about}</p>{error}<code>{escape(one.name)}</code></div></article>"
    )
