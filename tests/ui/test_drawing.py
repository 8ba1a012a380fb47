"""The handlers that draw: hand in, watch, stop, come back, and say what went wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import gradio as gr
import pytest

from danqing.errors import DanqingError
from danqing.jobs.model import JobState
from danqing.ui import drawing
from danqing.ui.session import Session
from tests.ui.conftest import Desk, a_request, picture


@pytest.fixture(autouse=True)
def no_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "PACE", 0)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


async def watched(desk: Desk, session: Session, request: Any) -> list[dict[str, Any]]:
    data = desk.data(session=session)
    return [desk.named(update) async for update in desk.drawing.watch(data, request)]


def test_submit_hands_in_and_keeps_the_boxes(desk: Desk) -> None:
    updates = desk.named(run(desk.drawing.submit(desk.good(prompt="一颗星"), a_request())))
    job = desk.service.jobs["j1"].job
    assert (job.owner, job.request.prompt, job.request.steps) == ("ann", "一颗星", 5)
    assert updates["draft"]["prompt"] == "一颗星"
    assert 'data-state="busy"' in updates["stage"]
    assert desk.session.jobs == ["j1"]


@pytest.mark.parametrize(
    ("boxes", "english", "chinese"),
    [
        ({"steps": None}, "Steps must be a finite number.", "采样步数必须是有限的数字。"),
        (
            {"width": 10**6},
            "Width is 1000000; it must lie between 8 and 4096.",
            "宽度为 1000000，应在 8 到 4096 之间。",
        ),
        ({"model": "gone"}, "There is no model “gone”.", "没有名为“gone”的模型。"),
        ({"sampler": "<b>x"}, "There is no sampler “&lt;b&gt;x”.", "没有名为“&lt;b&gt;x”的采样方法。"),
    ],
)
def test_bad_boxes_are_a_sentence(desk: Desk, boxes: dict[str, Any], english: str, chinese: str) -> None:
    for language, text in (("en", english), ("zh-CN", chinese)):
        with pytest.raises(gr.Error) as caught:
            run(desk.drawing.submit(desk.good(**boxes), a_request(language)))
        assert caught.value.message.startswith(text)
        assert not caught.value.print_exception
    assert desk.service.jobs == {}


@pytest.mark.parametrize(
    "trouble", [DanqingError("queue_full", count=9, maximum=9), DanqingError("disk_full", free_mb=1)]
)
def test_refusals_of_the_queue_are_told(desk: Desk, trouble: DanqingError) -> None:
    desk.service.refuse = trouble
    with pytest.raises(gr.Error, match=trouble.text("zh")[:4]):
        run(desk.drawing.submit(desk.good(), a_request("zh")))


def test_surprises_are_logged_and_not_shown(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.service.refuse = RuntimeError("secret of the house")
    with pytest.raises(gr.Error) as caught:
        run(desk.drawing.submit(desk.good(), a_request()))
    assert "secret" not in caught.value.message
    reference = caught.value.message.split("(")[1].split(")")[0]
    assert reference in caplog.text
    assert "secret of the house" in caplog.text


def test_watch_goes_from_queue_to_picture(desk: Desk) -> None:
    async def story() -> list[dict[str, Any]]:
        await desk.drawing.submit(desk.good(), a_request())
        watcher = asyncio.create_task(watched(desk, desk.session, a_request()))
        await asyncio.sleep(0.02)
        desk.service.move("j1", JobState.RUNNING, step=3)
        await asyncio.sleep(0.02)
        desk.service.gallery.all.append(picture(job="j1"))
        desk.service.move("j1", JobState.DONE, started=1.0, finished=3.0)
        return await watcher

    updates = run(story())
    stages = [update["stage"] for update in updates if isinstance(update.get("stage"), str)]
    assert "Next in line" in stages[0]
    assert "Step 3 of 5" in stages[-2]
    assert "Done in 2.0 s" in stages[-1]
    assert "/pictures/p1" in updates[-1]["history"]
    assert desk.session.jobs == []
    assert desk.session.current == ""


def test_jobs_handed_in_meanwhile_are_shown_next(desk: Desk) -> None:
    async def story() -> list[dict[str, Any]]:
        await desk.drawing.submit(desk.good(prompt="first"), a_request())
        watcher = asyncio.create_task(watched(desk, desk.session, a_request()))
        await asyncio.sleep(0.02)
        await desk.drawing.submit(desk.good(prompt="second"), a_request())
        desk.service.move("j1", JobState.RUNNING, step=1)
        await asyncio.sleep(0.02)
        for job in ("j1", "j2"):
            desk.service.move(job, JobState.DONE)
            await asyncio.sleep(0.02)
        return await watcher

    stages = [update["stage"] for update in run(story()) if isinstance(update.get("stage"), str)]
    assert any("1 more of yours" in stage for stage in stages)
    assert sum("pictures in" in stage for stage in stages) == 2


def test_a_newer_watcher_takes_over(desk: Desk) -> None:
    async def story() -> tuple[list[Any], list[Any]]:
        await desk.drawing.submit(desk.good(), a_request())
        old = asyncio.create_task(watched(desk, desk.session, a_request()))
        await asyncio.sleep(0.02)
        new = asyncio.create_task(watched(desk, desk.session, a_request()))
        await asyncio.sleep(0.02)
        desk.service.move("j1", JobState.DONE)
        return await old, await new

    old, new = run(story())
    assert "pictures in" not in str(old)
    assert "pictures in" in str(new)


def test_a_page_that_goes_away_leaves_the_job(desk: Desk) -> None:
    async def story() -> None:
        await desk.drawing.submit(desk.good(), a_request())
        looking = desk.drawing.watch(desk.data(), a_request())
        await anext(looking)
        await anext(looking)
        await looking.aclose()

    run(story())
    assert desk.service.interrupted == []
    assert desk.service.jobs["j1"].job.state is JobState.QUEUED


def test_resume_finds_running_jobs_oldest_first(desk: Desk) -> None:
    async def story() -> dict[str, Any]:
        for _ in range(2):
            await desk.drawing.submit(desk.good(), a_request())
        await desk.drawing.submit(desk.good(), a_request(user="bob"))
        fresh = Session()
        updates = desk.named(await desk.drawing.resume(desk.data(session=fresh), a_request()))
        return {**updates, "jobs": fresh.jobs}

    updates = run(story())
    assert updates["jobs"] == ["j1", "j2"]
    assert 'data-state="busy"' in updates["stage"]


def test_resume_shows_the_last_pictures_of_this_owner(desk: Desk) -> None:
    desk.service.gallery.all += [picture(1), picture(2, job="late"), picture(3, job="late"), picture(4, temporary=True)]
    desk.service.gallery.all.append(picture(5, owner="bob", job="other"))
    updates = desk.named(run(desk.drawing.resume(desk.data(), a_request())))
    assert 'data-id="p2"' in updates["stage"]
    assert 'data-id="p3"' in updates["stage"]
    assert [n for n in (1, 2, 3, 4, 5) if f'"p{n}"' in updates["history"]] == [1, 2, 3]


def test_first_visit_is_an_invitation(desk: Desk) -> None:
    updates = desk.named(run(desk.drawing.resume(desk.data(), a_request("zh"))))
    assert updates["stage"].count('data-do="example"') == 4
    assert "今天画点什么" in updates["stage"]


def test_a_house_without_models_says_so(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise DanqingError("no_model", folder="/m")

    monkeypatch.setattr(desk.drawing.context.library, "default", none)
    updates = desk.named(run(desk.drawing.resume(desk.data(), a_request())))
    assert "No model is on disk" in updates["stage"]


def test_interrupt_stops_what_is_on_the_stage_only(desk: Desk) -> None:
    async def story() -> None:
        for _ in range(2):
            await desk.drawing.submit(desk.good(), a_request())
        await desk.drawing.interrupt(desk.data(), a_request())
        await desk.drawing.interrupt(desk.data(), a_request(user="bob"))

    run(story())
    assert desk.service.interrupted == ["j1"]


def test_nobody_watches_the_jobs_of_others(desk: Desk) -> None:
    async def story() -> list[dict[str, Any]]:
        await desk.drawing.submit(desk.good(prompt="mine"), a_request())
        return await watched(desk, Session(jobs=["j1", "unknown"]), a_request(user="bob"))

    assert "mine" not in str(run(story()))
