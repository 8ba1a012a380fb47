"""Trainings as the doors see them: hand one in, pause it, let it go on, look what it does.

Coroutines belong to the service's event loop; the other methods block on the disk and belong into a thread. Where a method takes
an `owner`, somebody else's training is to it as if there were none (`unknown_job`).
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path

from danqing.errors import DanqingError
from danqing.jobs.board import Board, Live
from danqing.jobs.model import Job, JobState
from danqing.jobs.store import JobStore
from danqing.jobs.train_admission import TrainAdmission
from danqing.jobs.trainings import MARK, Trainings
from danqing.request import GenerateRequest
from danqing.train.folder import Training
from danqing.train.recipe import TrainRequest


class TrainingDesk:
    """The doors' side of `Trainings`."""

    def __init__(self, store: JobStore, board: Board, trainings: Trainings, admission: TrainAdmission) -> None:
        self._store, self._board, self._trainings, self.admission = store, board, trainings, admission
        self.datasets = admission.datasets
        self._entering = asyncio.Lock()

    async def submit(self, recipe: TrainRequest, *, owner: str, client: str = "", job_id: str = "") -> Job:
        """Put a training at the end of the queue of trainings; it is on disk when this returns.

        Args:
            recipe: its data already resolved for the owner.
            job_id: 32 hexadecimal digits; a job that has this id already is returned as it is. "" for a new one.

        Raises:
            DanqingError: `too_many_jobs`, or what `TrainAdmission.prepared` refuses.
        """
        async with self._entering:  # two of one name must not pass the check at once
            self.admission.enter(owner)
            recipe, training = await asyncio.to_thread(self.admission.prepared, recipe)
            try:
                return await self._insert(_request(recipe, training), owner, client, job_id)
            except BaseException:
                await asyncio.to_thread(shutil.rmtree, training.path, True)
                raise

    async def _insert(self, request: GenerateRequest, owner: str, client: str, job_id: str) -> Job:
        job = Job(job_id or secrets.token_hex(16), owner, request, JobState.QUEUED, time.time())
        await asyncio.to_thread((self._trainings.folder(job).path / MARK).write_text, job.id)
        try:
            stored = await self._store.insert(job, client=client, save=False)
        except sqlite3.IntegrityError:
            if not job_id:
                raise
            await asyncio.to_thread(shutil.rmtree, self._trainings.folder(job).path, True)
            return self._store.get(job_id)
        live = self._board.add(stored)
        live.steps = request.steps
        self._trainings.wake()
        return job

    async def pause(self, job_id: str, owner: str | None = None) -> None:
        """Have it save its state and wait; one that is over stays as it is.

        Raises:
            DanqingError: `unknown_job`.
        """
        if (live := self._live(job_id, owner)) is not None:
            await self._trainings.pause(live)

    async def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Let it go on. One that failed goes on from its saved state as a new job, which is returned.

        Raises:
            DanqingError: `unknown_job`; `train_unknown` where there is nothing left of it; `too_many_jobs`, `train_running`.
        """
        live, job = self._live(job_id, owner), self._job(job_id, owner)
        if live is not None:
            await self._trainings.resume(live)
            return live.job
        if job.state is not JobState.FAILED:
            return job
        async with self._entering:
            self.admission.enter(job.owner)
            training = self._trainings.folder(job)
            await asyncio.to_thread(training.recipe)
            if any(other.job.request.training == training.id for other in self._board.jobs()):
                raise DanqingError("train_running", path=training.id)
            await asyncio.to_thread(training.forget_failure)
            return await self._insert(job.request, job.owner, "", "")

    def folder(self, job_id: str, owner: str | None = None) -> Training:
        """Everything about the training of a job.

        Raises:
            DanqingError: `unknown_job`.
        """
        return self._trainings.folder(self._job(job_id, owner))

    def samples(self, job_id: str, owner: str | None = None) -> Sequence[Path]:
        """Pictures that it has drawn on its way, in order."""
        return sorted(self.folder(job_id, owner).samples.glob("*.png"))

    def _job(self, job_id: str, owner: str | None) -> Job:
        live = self._board.find(job_id)
        job = live.job if live else self._store.get(job_id)
        if job.request.kind != "train" or (owner is not None and job.owner != owner):
            raise DanqingError("unknown_job", job=job_id[:64])
        return job

    def _live(self, job_id: str, owner: str | None) -> Live | None:
        self._job(job_id, owner)
        return self._board.find(job_id)


def _request(recipe: TrainRequest, training: Training) -> GenerateRequest:
    """A training as a row of the queue."""
    return GenerateRequest(
        kind="train", training=training.id, model=recipe.model, prompt=recipe.name, steps=recipe.steps, seed=recipe.seed
    )
