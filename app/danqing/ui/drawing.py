"""Drawing from the page: submit, watch, stop, and come back to what was running.

The queue is the service's own and outlives every page: a watcher only looks on. Handlers take and give values by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import gradio as gr

from danqing.errors import DanqingError
from danqing.gallery import inputs
from danqing.jobs.model import JobView
from danqing.prompt.terms import has_chinese
from danqing.ui import render
from danqing.ui.examples import examples_for
from danqing.ui.fields import NAMES, request_of
from danqing.ui.session import Session
from danqing.ui.speech import in_words, reader
from danqing.ui.wording import spoken, translates
from danqing.ui.words import sentence

if TYPE_CHECKING:
    from danqing.errors import Language
    from danqing.gallery.store import Picture
    from danqing.request import GenerateRequest
    from danqing.ui.board import Board
    from danqing.ui.context import UiContext

Updates = dict[Any, Any]

PACE = 0.2
"""Seconds between two updates of a page, at least."""

STRIP = 36
"""Pictures in the strip."""


class Drawing:
    """The handlers of one page."""

    def __init__(self, context: UiContext, board: Board) -> None:
        self.context = context
        self.service = context.service
        self.board = board

    def owner(self, request: gr.Request) -> str:
        """Who sent this."""
        return self.context.owner_of(request.request)

    async def submit(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """Hands in what stands in the boxes. The answer shows it as handed in; `watch` goes on from there."""
        with in_words(request):
            values = self.board.values(data)
            session: Session = values["session"]
            await self._translate(values)
            for wanted in await asyncio.to_thread(self._requests, values, request):
                await asyncio.to_thread(self.context.library.resolve, wanted.model)
                job = await self.service.submit(wanted, owner=self.owner(request), client="page")
                session.add(job.id)
            kept = {name: values[name] for name in (*NAMES, *self.board.plugged)}
            updates = self.board.updates(draft=kept, first_pass="")
            if session.current in ("", session.jobs[-1]):
                updates |= self.board.updates(stage=render.submitting(reader(request)))
            return updates

    async def _translate(self, values: dict[str, Any]) -> None:
        """Unknown Chinese is translated before it is drawn, where its box does not hold a translation already."""
        boxes = (("prompt", "english"), ("negative_prompt", "english_negative"))
        prompts = [str(values[name] or "") for name, english in boxes if not str(values[english] or "").strip()]
        wish, model = str(values["translate"] or "auto"), str(values["model"] or "")
        if any(map(has_chinese, prompts)) and await asyncio.to_thread(translates, self.context, model, wish):
            await self.context.translations.learn(self.context, prompts)

    def _requests(self, values: dict[str, Any], request: gr.Request) -> list[GenerateRequest]:
        """What the boxes ask for: one request, or one for each picture of a batch. Blocks."""
        context = self.context
        options = context.drawing_options(request.request)
        own = request_of(values, context.settings, options)
        prompts: dict[str, Any] = {}
        if own.kind != "extras":
            prompts = {
                **context.own_fields(request.request),
                **spoken(context, own, values, self.owner(request)),
            }
        pictures = str(values["init"] or "").split() if own.kind == "img2img" and values["tab"] == "img2img" else []
        batch: list[dict[str, Any]] = [{"init_images": [one]} for one in pictures] if len(pictures) > 1 else [{}]
        wanted = [request_of(values, context.settings, options, **prompts, **more) for more in batch]
        for one in filter(lambda one: one.inputs, wanted):
            inputs.check_own(self.service.gallery.database, self.owner(request), one.inputs)
        return wanted

    async def watch(self, data: dict[Any, Any], request: gr.Request) -> AsyncIterator[Updates]:
        """Shows the jobs of this page, one after the other, until none is left or a newer watcher takes over."""
        session: Session = self.board.values(data)["session"]
        number = session.begin_watch()
        # An event that never answers would empty its outputs.
        yield self.board.updates(stage=gr.skip())
        with in_words(request):
            while (job_id := self._next(session, self.owner(request))) and session.watch == number:
                session.current = job_id
                async with aclosing(self._follow(session, request)) as updates:
                    async for update in updates:
                        if session.watch != number:
                            return
                        yield update
                session.jobs.remove(job_id)
            session.current = ""

    def _next(self, session: Session, owner: str) -> str | None:
        """The oldest job that was not yet shown to its end."""
        session.jobs[:] = [job_id for job_id in session.jobs if self._mine(job_id, owner)]
        return session.jobs[0] if session.jobs else None

    def _mine(self, job_id: str, owner: str) -> bool:
        try:
            return self.service.get(job_id).owner == owner
        except DanqingError:
            return False

    async def _follow(self, session: Session, request: gr.Request) -> AsyncGenerator[Updates, None]:
        """One job from where it stands to its end."""
        job_id, language = session.current, reader(request)
        seen, pictures = -1, list[Any]()
        async with aclosing(self.service.changes(job_id)) as views:  # type: ignore[type-var]
            async for view in views:
                over = view.job.state.final
                updates: Updates = {}
                if over or view.image != seen:
                    seen, pictures = view.image, await asyncio.to_thread(self.service.gallery.of_job, job_id)
                    updates = await self._strip(request)
                yield updates | self.board.updates(stage=self._stage(view, pictures, session, language))
                if not over:
                    await asyncio.sleep(PACE)

    def _stage(self, view: JobView, pictures: list[Picture], session: Session, language: Language) -> str:
        more, now = len(session.jobs) - 1, self.service.readiness()
        return render.stage(view, pictures, language, more=max(0, more), ready=now.ready, warning=now.warning)

    async def _strip(self, request: gr.Request) -> Updates:
        pictures = await self.newest(self.owner(request))
        return self.board.updates(history=render.history(pictures, reader(request)))

    async def newest(self, owner: str) -> list[Picture]:
        """The owner's newest pictures; those that a program drew without keeping them are left out."""
        found = await asyncio.to_thread(self.service.gallery.pictures, owner, limit=2 * STRIP)
        return [picture for picture in found if not picture.temporary][:STRIP]

    async def resume(self, data: dict[Any, Any], request: gr.Request) -> Updates:
        """The first look of a page: this owner's running jobs, else the last pictures, else an invitation."""
        with in_words(request):
            session: Session = self.board.values(data)["session"]
            owner, language = self.owner(request), reader(request)
            for view in reversed(self.service.views(owner, active=True, trainings=False)):
                session.add(view.job.id)
            pictures = await self.newest(owner)
            stage = render.submitting(language) if session.jobs else await self._last(pictures, language)
            return self.board.updates(stage=stage, history=render.history(pictures, language))

    async def _last(self, pictures: list[Picture], language: Language) -> str:
        if not pictures:
            try:
                native = (await asyncio.to_thread(self.context.library.default)).native_size
            except DanqingError as error:
                return render.notice(sentence(error, language))
            return render.welcome(examples_for(native), language)
        shown = pictures[:1]
        if pictures[0].job:
            shown = await asyncio.to_thread(self.service.gallery.of_job, pictures[0].job) or shown
        return render.stage(None, shown, language)

    async def interrupt(self, data: dict[Any, Any], request: gr.Request) -> None:
        """Stops the job on the stage; what is drawn so far is kept."""
        with in_words(request):
            session: Session = self.board.values(data)["session"]
            owner = self.owner(request)
            job_id = session.current or self._next(session, owner)
            if job_id and self._mine(job_id, owner):
                await self.service.interrupt(job_id)

    async def skip(self, data: dict[Any, Any], request: gr.Request) -> None:
        """Goes on with the next picture of the job on the stage."""
        with in_words(request):
            job_id = self.board.values(data)["session"].current
            if job_id and self._mine(job_id, self.owner(request)):
                await self.service.skip(job_id)
