"""HTML of the gallery, the models and the settings. Everything that a person or a file named is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from danqing.api.options import Option
from danqing.library.controls import Controls
from danqing.library.embeddings import Embeddings
from danqing.library.networks import Networks
from danqing.library.previews import preview_of
from danqing.library.vaes import vae_files
from danqing.options import DrawOptions
from danqing.ui.render import prompt_of
from danqing.ui.uploads import KINDS
from danqing.ui.words import say
from danqing.ui.words_options import GROUPS, OPTIONS
from danqing.upscale.catalog import upscalers

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.gallery.store import Picture
    from danqing.settings import Setting
    from danqing.ui.context import UiContext

SHOWN = tuple(OPTIONS)
"""Options that the page lets people set."""


def gallery(pictures: Sequence[Picture], liked: set[str], language: Language, *, more: bool) -> str:
    """Cards of pictures, and a button for older ones where there are `more`. `liked`: ids of favourites."""
    if not pictures:
        return f'<p class="dq-none">{escape(say("none_found", language))}</p>'
    cards = "".join(_picture(picture, picture.id in liked, language) for picture in pictures)
    older = (
        f'<button type="button" class="dq-button dq-older" data-before="{pictures[-1].created!r}">'
        f"{escape(say('more_pictures', language))}</button>"
        if more
        else ""
    )
    return cards + older


def _picture(picture: Picture, favourite: bool, language: Language) -> str:
    alt = escape(prompt_of(picture.infotext) or say("no_prompt", language))
    chosen, liked = escape(say("select", language)), escape(say("favourite", language))
    return (
        f'<figure class="dq-piece"><button type="button" class="dq-thumb" data-do="open" data-id="{escape(picture.id)}"'
        f' data-info="{escape(picture.infotext)}" data-w="{picture.width}" data-h="{picture.height}" title="{alt}">'
        f'<img src="/pictures/{escape(picture.id)}" alt="{alt}" width="{picture.width}" height="{picture.height}"'
        f' loading="lazy" decoding="async"></button><input type="checkbox" aria-label="{chosen}">'
        f'<button type="button" class="dq-like" aria-label="{liked}" aria-pressed="{str(favourite).lower()}">'
        '<svg viewBox="0 0 24 24" aria-hidden="true"><path d="M12 20.500 4.200 12.700a5 5 0 0 1 7.100-7.100l.7.700.7-.7'
        'a5 5 0 0 1 7.100 7.100z"/></svg></button></figure>'
    )


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    path: Path | None
    hash: str = ""
    note: str = ""
    action: str = ""
    picture: str = ""
    tools: str = ""
    file: str = ""


def models(context: UiContext, language: Language, *, uploads: bool = False) -> str:
    """Everything on disk by kind: name, hash, size, notes; a checkpoint can be chosen and a network put into the prompt.

    `uploads`: whether the reader may add files.
    """
    return (_upload(language) + _fetching(language) if uploads else "") + "".join(
        _section(kind, folder, [_tools(context.data, kind, row, uploads, language) for row in rows], language)
        for kind, folder, rows in (
            ("checkpoint", "models/Stable-diffusion", _checkpoints(context)),
            ("vae", "models/VAE", _vaes(context.data)),
            ("lora", "models/Lora", _networks(context, "lora")),
            ("embedding", "embeddings", _embeddings(context)),
            ("hypernet", "models/hypernetworks", _networks(context, "hypernet")),
            ("control", "models/ControlNet", (_Row(c.name, c.path, c.hash) for c in Controls(context.data).all())),
            ("upscaler", "models/ESRGAN", (_Row(u.name, u.path) for u in upscalers(context.data) if u.path)),
        )
    )


def _upload(language: Language) -> str:
    """A kind to choose, a file to choose, and where the progress stands."""
    kinds = "".join(f'<option value="{kind}">{escape(say(f"kind_{kind}", language))}</option>' for kind in KINDS)
    word = escape(say("upload", language))
    return (
        f'<div class="dq-shelf-tools dq-upload" data-done="{escape(say("uploaded", language))}">'
        f'<select aria-label="{word}">{kinds}</select><label class="dq-button">{word}<input type="file" hidden></label>'
        "<progress max='1' value='0' hidden></progress><span role='status'></span></div>"
    )


def _fetching(language: Language) -> str:
    """Where the manifest opens, and where a file that was deleted can be brought back."""
    said, undo = say("model_deleted", language, name="{name}"), say("undo", language)
    return (
        f'<div class="dq-model-gone" data-said="{escape(said)}" hidden><span role="status"></span><button type="button"'
        f' class="dq-button" data-office="model-restore">{escape(undo)}</button></div>'
        f'<section><button type="button" class="dq-button" data-office="manifest">{escape(say("manifest", language))}'
        "</button><div data-manifest hidden></div></section>"
    )


def _tools(data: Path, kind: str, row: _Row, admin: bool, language: Language) -> _Row:
    """The row with its picture, and with what an administrator may do with a file that lies in its kind's folder."""
    name = inside(data, kind, row.path)
    if not name:
        return row
    picture = preview_address(data, kind, row.path)
    acts = (("model_preview", "model-preview"), ("model_delete", "model-delete")) if admin else ()
    cells = "".join(
        f'<button type="button" class="dq-tool" data-office="{act}">{escape(say(word, language))}</button>'
        for word, act in acts
    )
    return replace(row, picture=picture, tools=cells, file=f'data-file data-kind="{kind}" data-name="{escape(name)}"')


def inside(data: Path, kind: str, path: Path | None) -> str:
    """A model file's name below its kind's folder, "" for what is no file there."""
    folder, endings = data / KINDS[kind][0], KINDS[kind][1]
    if path is None or not path.is_file() or not path.is_relative_to(folder):
        return ""
    name = path.relative_to(folder).as_posix()
    return name if name.lower().endswith(endings) else ""


def preview_address(data: Path, kind: str, path: Path | None) -> str:
    """Where the picture beside a model's file is served, "" without one."""
    name = inside(data, kind, path)
    return f"/ui/models/preview/{kind}/{quote(name)}" if name and path and preview_of(path) else ""


def _checkpoints(context: UiContext) -> Iterable[_Row]:
    for one in context.library.checkpoints():
        note = f"{one.native_size} px" + (f" · {one.license}" if one.license else "")
        yield _Row(one.name, one.filename, one.hash10 or "", note, f'data-model="{escape(one.title)}"')


def _vaes(data: Path) -> Iterable[_Row]:
    for name, path in vae_files(data).items():
        yield _Row(name, path, action=f'data-vae="{escape(name)}"')


def _networks(context: UiContext, kind: str) -> Iterable[_Row]:
    networks = Networks(context.data)
    for one in networks.loras() if kind == "lora" else networks.hypernetworks():
        words = one.user_metadata().get("activation text")
        note = words if isinstance(words, str) else ""
        tag = escape(f"<{kind}:{one.name}:1>")
        yield _Row(one.name, one.path, networks.known_hash(one) or "", note, f'data-insert="{tag}"')


def _embeddings(context: UiContext) -> Iterable[_Row]:
    for one in Embeddings(context.data).all():
        note = f"{one.length} × {one.shape}"
        yield _Row(one.name, one.path, "", note, f'data-insert="{escape(one.name)}"')


def _section(kind: str, folder: str, rows: list[_Row], language: Language) -> str:
    title = f"<h2>{escape(say(f'kind_{kind}', language))} <small>{len(rows)}</small></h2>"
    if not rows:
        return f'<section>{title}<p class="dq-none">{escape(say("model_none", language, folder=folder))}</p></section>'
    names = ("model_name", "model_hash", "model_size", "model_note")
    head = "".join(f"<th>{escape(say(name, language))}</th>" for name in names)
    body = "".join(_row(row, language) for row in rows)
    return (
        f"<section>{title}<div class='dq-scroll'><table><thead><tr>{head}<th></th></tr></thead>"
        f"<tbody>{body}</tbody></table></div></section>"
    )


def _row(row: _Row, language: Language) -> str:
    use = (
        f'<button type="button" class="dq-button" {row.action}>{escape(say("model_use", language))}</button>'
        if row.action
        else ""
    )
    picture = f'<img src="{escape(row.picture)}" alt="" loading="lazy">' if row.picture else ""
    return (
        f'<tr {row.file}><td><div class="dq-model-card">{picture}<span>{escape(row.name)}</span></div></td>'
        f"<td><code>{escape(row.hash)}</code></td><td>{_size(row.path)}</td><td>{escape(row.note)}</td>"
        f'<td><div class="dq-row-tools">{row.tools}{use}</div></td></tr>'
    )


def _size(path: Path | None) -> str:
    """Of a file, or of all files of a folder."""
    if path is None:
        return ""
    try:
        files = path.rglob("*") if path.is_dir() else (path,)
        size = sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return ""
    return f"{size / 2**30:.2f} GB" if size >= 2**30 else f"{size / 2**20:.1f} MB"


def settings(
    values: Mapping[str, Any],
    defaults: Mapping[str, Any],
    table: Mapping[str, Option],
    language: Language,
    *,
    box: bool = False,
) -> str:
    """A form of the options, grouped, each with its key and its default. `box`: they are everybody's."""
    parts = [f'<p class="dq-note">{escape(say("settings_box_note" if box else "settings_note", language))}</p>']
    for group, keys in GROUPS.items():
        rows = "".join(_option(key, values[key], defaults[key], table[key], language) for key in keys)
        parts.append(f"<section><h2>{escape(group[language == 'zh'])}</h2>{rows}</section>")
    return "".join(parts)


def _option(key: str, value: Any, default: Any, row: Option, language: Language) -> str:
    box = input_of(key, value, row, choices_of(key) or row.choices)
    return option_row(key, OPTIONS[key][language == "zh"], box, value != default, default, language)


def option_row(key: str, text: str, box: str, changed: bool, default: Any, language: Language) -> str:
    """A row of a form of options: what it is, its key, its input and the way back to its default."""
    key, mark = escape(key), " dq-changed" if changed else ""
    return (
        f'<div class="dq-option{mark}" data-key="{key}" data-default="{escape(_written(default))}">'
        f'<label for="dq-opt-{key}">{escape(text)}<code>{key}</code></label>'
        f'{box}<button type="button" class="dq-tool" data-reset>{escape(say("reset", language))}</button></div>'
    )


def input_of(key: str, value: Any, row: Option | Setting, choices: Sequence[str], disabled: bool = False) -> str:
    """The input that suits a row of either table."""
    name = f'id="dq-opt-{escape(key)}"{" disabled" if disabled else ""}'
    if isinstance(row.default, bool):
        return f'<input type="checkbox" {name}{" checked" if value else ""}>'
    if choices:
        cells = "".join(f"<option{' selected' if one == value else ''}>{escape(str(one))}</option>" for one in choices)
        return f"<select {name}>{cells}</select>"
    if isinstance(row.default, int | float):
        limits = (("min", row.minimum), ("max", row.maximum))
        bounds = "".join(f' {which}="{bound}"' for which, bound in limits if bound is not None)
        step = "1" if isinstance(row.default, int) else "any"
        return f'<input type="number" {name} value="{escape(_written(value))}" step="{step}"{bounds}>'
    return f'<input type="text" {name} value="{escape(str(value or ""))}">'


def _written(value: Any) -> str:
    """As the page's scripts write it: true, 1 and not 1.0."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def choices_of(key: str) -> tuple[str, ...]:
    """The values that an option of drawing takes, () where it is free."""
    field = DrawOptions.model_fields.get(key)
    choices = getattr(field.annotation, "__args__", ()) if field is not None else ()
    return tuple(one for one in choices if isinstance(one, str))
