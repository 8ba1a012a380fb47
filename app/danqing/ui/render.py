"""HTML of the parts of the page that Gradio has no component for: the stage with its picture, and the strip of pictures.

Everything that a person or a file named is escaped here. The result goes through Gradio's default template `${value}` only:
values inside a template of one's own would be evaluated as JavaScript.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from danqing.errors import DanqingError, Language
from danqing.jobs.model import JobState, JobView
from danqing.ui.examples import Example
from danqing.ui.words import both, say, sentence

if TYPE_CHECKING:
    from danqing.gallery.store import Picture

MINUTE = 90
"""From this many seconds on the time left is told in minutes."""


def bilingual(key: str) -> str:
    """A word in both languages; the style sheet shows the one of the browser."""
    english, chinese = both(key)
    return (
        f'<span class="dq-en" lang="en">{escape(english)}</span><span class="dq-zh" lang="zh">{escape(chinese)}</span>'
    )


def prompt_of(infotext: str) -> str:
    """The first line that a picture says of itself, for its alternative text."""
    first = infotext.split("\n", 1)[0].strip()
    return "" if first.startswith(("Negative prompt:", "Steps:")) else first


def stage(
    view: JobView | None,
    pictures: Sequence[Picture],
    language: Language,
    *,
    more: int = 0,
    ready: bool = True,
    warning: DanqingError | None = None,
) -> str:
    """The job that is being watched, or the pictures of the last one.

    Args:
        view: the job, None when the pictures come from an earlier visit.
        pictures: those of the job that are finished, in order.
        more: how many jobs of the same session wait behind it.
        ready: False while the engine is starting.
        warning: what will keep pictures from being drawn before long, such as a disk that is nearly full.
    """
    notes = view.job.notes if view is not None else ()
    warned = "".join(
        f'<p class="dq-line" role="alert">{escape(one.text(language))}</p>'
        for one in (*notes, *((warning,) if warning else ()))
    )
    if view is not None and not view.job.state.final:
        return _section("busy", _live(view, pictures, language) + _progress(view, language, more, ready) + warned)
    line = (_outcome(view, pictures, language) if view is not None else "") + warned
    if not pictures:
        return _section("message", line)
    return _section("shown", _shown(pictures, language) + line + _details(pictures[0], language), pictures[0])


def welcome(examples: Sequence[Example], language: Language) -> str:
    """What stands there before the first picture: an invitation and four prompts that draw on click."""
    cards = "".join(
        f'<button type="button" class="dq-example" data-do="example" data-index="{index}">'
        f"{_drawn(example, language)}<span>{escape(example.prompt(language))}</span></button>"
        for index, example in enumerate(examples)
    )
    text = f"<h2>{escape(say('welcome', language))}</h2><p>{escape(say('welcome_more', language))}</p>"
    return _section("welcome", f'<div class="dq-welcome">{text}<div class="dq-examples">{cards}</div></div>')


def _drawn(example: Example, language: Language) -> str:
    source = example.picture()
    alt = escape(example.prompt(language))
    return f'<img src="{source}" alt="{alt}" width="128" height="128">' if source else ""


def notice(text: str) -> str:
    """A stage that only says something."""
    return _section("message", f'<p class="dq-line" role="status">{escape(text)}</p>')


def submitting(language: Language) -> str:
    """The stage between a click and the first news of its job."""
    return _section(
        "busy",
        f'<figure class="dq-canvas dq-blank"></figure>{_bar(None, language)}{_line(say("submitting", language))}',
    )


def history(pictures: Sequence[Picture], language: Language) -> str:
    """The strip of somebody's newest pictures."""
    if not pictures:
        return f'<p class="dq-none">{escape(say("history_empty", language))}</p>'
    return f'<div class="dq-strip" role="list">{"".join(_thumb(p, "open", language) for p in pictures)}</div>'


def _section(state: str, inner: str, picture: Picture | None = None) -> str:
    shown = f' data-id="{escape(picture.id)}"' if picture else ""
    return f'<section class="dq-stage" data-state="{state}"{shown}>{inner}</section>'


def _shape(width: int, height: int) -> str:
    return f"--w:{width};--h:{height}"


def _image(picture: Picture, language: Language, *, thumb: bool = False) -> str:
    alt = prompt_of(picture.infotext) or say("no_prompt", language)
    lazy = ' loading="lazy"' if thumb else ""
    return (
        f'<img src="/pictures/{escape(picture.id)}" alt="{escape(alt)}"'
        f' width="{picture.width}" height="{picture.height}"{lazy} decoding="async">'
    )


def _thumb(picture: Picture, action: str, language: Language) -> str:
    alt = prompt_of(picture.infotext) or say("no_prompt", language)
    return (
        f'<div role="listitem"><button type="button" class="dq-thumb" data-do="{action}" data-id="{escape(picture.id)}"'
        f' data-info="{escape(picture.infotext)}" data-w="{picture.width}" data-h="{picture.height}"'
        f' title="{escape(alt)}">{_image(picture, language, thumb=True)}</button></div>'
    )


def _thumbs(pictures: Sequence[Picture], language: Language) -> str:
    cells = "".join(_thumb(picture, "pick", language) for picture in pictures)
    return f'<div class="dq-thumbs" role="list">{cells}</div>'


def _shown(pictures: Sequence[Picture], language: Language) -> str:
    first = pictures[0]
    frame = (
        f'<figure class="dq-canvas" style="{_shape(first.width, first.height)}"><button type="button" class="dq-zoom"'
        f' data-do="zoom" title="{escape(say("zoom", language))}">{_image(first, language)}</button></figure>'
    )
    return frame + (_thumbs(pictures, language) if len(pictures) > 1 else "")


def _live(view: JobView, pictures: Sequence[Picture], language: Language) -> str:
    request = view.job.request
    inner = '<span class="dq-wash"></span>'
    if view.preview:
        data = base64.b64encode(view.preview).decode()
        # A preview has one pixel for eight: the blur hides the steps and goes as the picture comes.
        blur = 10 * (1 - view.progress) + 3
        alt = escape(request.prompt[:200])
        inner = f'<img class="dq-preview" style="--blur:{blur:.1f}px" src="data:image/png;base64,{data}" alt="{alt}">'
    frame = f'<figure class="dq-canvas dq-live" style="{_shape(request.width, request.height)}">{inner}</figure>'
    return frame + (_thumbs(pictures, language) if pictures else "")


def _bar(progress: float | None, language: Language) -> str:
    name = f'role="progressbar" aria-label="{escape(say("drawing", language))}"'
    if progress is None:
        return f'<div class="dq-bar dq-unknown" {name}><i></i></div>'
    percent = round(100 * progress)
    return (
        f'<div class="dq-bar" {name} aria-valuemin="0" aria-valuemax="100" aria-valuenow="{percent}">'
        f'<i style="width:{percent}%"></i></div>'
    )


def _line(text: str, aside: str = "") -> str:
    right = f"<span>{escape(aside)}</span>" if aside else ""
    return f'<p class="dq-line"><span>{escape(text)}</span>{right}</p>'


def _progress(view: JobView, language: Language, more: int, ready: bool) -> str:
    parts = [progress_text(view, language) if ready else say("starting", language)]
    if more:
        parts.append(say("more_jobs", language, count=more))
    known = view.job.state is JobState.RUNNING and view.steps > 0
    spoken = say("drawing" if known else "waiting_next", language)
    return (
        _bar(view.progress if known else None, language)
        + _line(" · ".join(parts), time_left(view.eta, language) if known else "")
        + f'<p class="dq-spoken" role="status">{escape(spoken)}</p>'
    )


def progress_text(view: JobView, language: Language) -> str:
    """Where the job stands: its place in the queue, or its step and picture."""
    if view.job.state is JobState.QUEUED:
        return say("waiting", language, ahead=view.position) if view.position else say("waiting_next", language)
    if not view.step:
        return say("beginning", language)
    text = say("step", language, step=view.step, steps=view.steps)
    if view.images > 1:
        text += " · " + say("picture_of", language, image=min(view.image + 1, view.images), images=view.images)
    return text


def time_left(seconds: float | None, language: Language) -> str:
    """The time left as people say it, "" when it is not known."""
    if seconds is None:
        return ""
    if seconds < 1:
        return say("almost", language)
    if seconds < MINUTE:
        return say("seconds_left", language, seconds=round(seconds))
    return say("minutes_left", language, minutes=round(seconds / 60))


def _outcome(view: JobView, pictures: Sequence[Picture], language: Language) -> str:
    job = view.job
    if job.state is JobState.FAILED:
        error = job.error or DanqingError("internal", reference=job.id)
        return (
            f'<div class="dq-error" role="alert"><strong>{escape(say("failed", language))}</strong>'
            f"<p>{escape(sentence(error, language))}</p></div>"
        )
    if job.state is JobState.CANCELLED:
        return f'<p class="dq-line" role="status">{escape(say("cancelled", language))}</p>'
    if job.interrupted:
        return f'<p class="dq-line" role="status">{escape(say("stopped", language))}</p>'
    seconds = f"{(job.finished or job.created) - (job.started or job.created):.1f}"
    key = "done_one" if len(pictures) == 1 else "done_many"
    text = say(key, language, seconds=seconds, count=len(pictures))
    return f'<p class="dq-line" role="status">{escape(text)}</p>'


def _details(picture: Picture, language: Language) -> str:
    download = (
        f'<a class="dq-button" data-role="download" href="/pictures/{escape(picture.id)}?download=1" download>'
        f"{escape(say('download', language))}</a>"
    )
    sends = "".join(
        f'<button type="button" class="dq-button" data-do="send" data-tab="{tab}">'
        f"{escape(say(f'send_{tab}', language))}</button>"
        for tab in ("img2img", "inpaint", "extras")
    )
    sends += (
        '<button type="button" class="dq-button" data-do="hires">' + escape(say("first_pass", language)) + "</button>"
    )
    return (
        f'<div class="dq-actions">{_button("use", language, strong=True)}{_button("copy", language)}{download}{sends}</div>'
        f'<pre class="dq-info" tabindex="0" aria-label="{escape(say("parameters", language))}"'
        f' data-copied="{escape(say("copied", language))}">{escape(picture.infotext)}</pre>'
    )


def _button(action: str, language: Language, *, strong: bool = False) -> str:
    style = "dq-button dq-strong" if strong else "dq-button"
    return f'<button type="button" class="{style}" data-do="{action}">{escape(say(action, language))}</button>'
