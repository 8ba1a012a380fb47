"""HTML of the stage and the strip: escaped, complete, in the reader's language."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from danqing.errors import DanqingError
from danqing.jobs.model import Job, JobState, JobView
from danqing.request import GenerateRequest
from danqing.ui import render
from danqing.ui.examples import GENERAL, MINI, examples_for
from tests.ui.conftest import picture

NASTY = "<img src=x onerror=alert(1)> \"'> </pre><script>alert(2)</script> ${alert(3)} {{7*7}}"


class Outline(HTMLParser):
    """Tags and attributes of a piece of HTML; complains about tags that are left open."""

    VOID = frozenset({"img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def view(state: JobState = JobState.RUNNING, **more: object) -> JobView:
    request = GenerateRequest(prompt=str(more.pop("prompt", "a star")), width=64, height=32, steps=10, seed=1)
    job = Job("job", "ann", request, state, 10.0, started=11.0, finished=14.5)
    for name in ("error", "interrupted", "notes"):
        if name in more:
            object.__setattr__(job, name, more.pop(name))
    return JobView(job, **more)  # type: ignore[arg-type]


def test_nothing_that_a_person_wrote_becomes_markup() -> None:
    one = picture(infotext=NASTY + "\nSteps: 1, Model: " + NASTY)
    pieces = [
        render.stage(None, [one, one], "en"),
        render.history([one], "zh"),
        render.stage(view(prompt=NASTY, preview=b"png"), [one], "en"),
        render.notice(NASTY),
        render.stage(view(JobState.FAILED, error=DanqingError("unknown_sampler", name=NASTY, known=NASTY)), [], "en"),
    ]
    for piece in pieces:
        outline = Outline(piece)
        assert "script" not in outline.tags
        assert not [name for name, _ in outline.attributes if name.startswith("on")]
        sources = [value or "" for name, value in outline.attributes if name in ("src", "href")]
        assert all(source.startswith(("/pictures/p1", "data:image/png;base64,")) for source in sources)
        assert "alert(1)" in outline.text + str(outline.attributes), "shown as it was written"


def test_alternative_text_is_the_prompt() -> None:
    assert ("alt", "a red star") in Outline(render.history([picture()], "en")).attributes
    bare = picture(infotext="Steps: 5, Sampler: Euler, Seed: 1")
    assert ("alt", "无提示词") in Outline(render.history([bare], "zh")).attributes


def test_progress_says_step_picture_and_time() -> None:
    outline = Outline(render.stage(view(step=5, steps=20, image=1, images=4, eta=3.2), [], "en", more=2))
    assert ("aria-valuenow", "25") in outline.attributes
    assert "Step 5 of 20 · picture 2 of 4 · 2 more of yours are waiting" in outline.text
    assert "about 3 s left" in outline.text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.2, "马上就好"), (12.4, "约剩 12 秒"), (89, "约剩 89 秒"), (150, "约剩 2 分钟")],
)
def test_time_left_as_people_say_it(seconds: float | None, text: str) -> None:
    assert render.time_left(seconds, "zh") == text


def test_place_in_the_queue() -> None:
    waiting = view(JobState.QUEUED, position=3)
    assert "排队中，前面还有 3 个任务" in render.stage(waiting, [], "zh")
    assert "引擎正在预热" in render.stage(waiting, [], "zh", ready=False)
    assert "Next in line" in render.stage(view(JobState.QUEUED), [], "en")


def test_blur_goes_as_the_picture_comes() -> None:
    early = render.stage(view(step=1, steps=10, preview=b"x"), [], "en")
    late = render.stage(view(step=10, steps=10, preview=b"x"), [], "en")
    assert "--blur:12.0px" in early
    assert "--blur:3.0px" in late


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_end_is_told(language: str) -> None:
    ends = [
        render.stage(view(JobState.DONE), [picture()], language),  # type: ignore[arg-type]
        render.stage(view(JobState.DONE, interrupted=True), [picture()], language),  # type: ignore[arg-type]
        render.stage(view(JobState.CANCELLED), [], language),  # type: ignore[arg-type]
        render.stage(view(JobState.FAILED), [], language),  # type: ignore[arg-type]
    ]
    lines = [Outline(piece).text for piece in ends]
    assert len(set(lines)) == 4
    assert "3.5" in lines[0]
    assert all('role="status"' in piece or 'role="alert"' in piece for piece in ends)


def test_what_was_left_out_is_told_while_it_is_drawn_and_afterwards() -> None:
    notes = (DanqingError("network_absent", kind="lora", name=NASTY),)
    for state in (JobState.RUNNING, JobState.DONE):
        piece = render.stage(view(state, notes=notes), [picture()], "zh")
        assert f"没有名为“{NASTY}”的 lora" in Outline(piece).text
        assert "script" not in Outline(piece).tags


def test_pictures_of_a_failed_job_are_still_shown() -> None:
    text = render.stage(view(JobState.FAILED, error=DanqingError("disk_full", free_mb=1)), [picture()], "en")
    assert "/pictures/p1" in text
    assert "The disk is full" in text


def test_examples_suit_the_model() -> None:
    assert examples_for(128) is MINI
    assert examples_for(512) is GENERAL
    outline = Outline(render.welcome(MINI, "zh"))
    assert outline.tags.count("button") == 4
    assert all(example.zh in outline.text for example in MINI)


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.DONE])
def test_a_warning_of_the_box_stands_below_the_stage(state: JobState) -> None:
    warning = DanqingError("disk_low", free_mb=7)
    shown = Outline(render.stage(view(state), [picture()], "zh", warning=warning))
    assert ("role", "alert") in shown.attributes
    assert warning.text("zh") in shown.text
    assert ("role", "alert") not in Outline(render.stage(view(state), [picture()], "zh")).attributes
