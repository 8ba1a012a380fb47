"""What the queue's folder needs from time to time: what is old goes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import structlog

from danqing.database import Database
from danqing.gallery import inputs, upkeep
from danqing.gallery.copies import Copies
from danqing.jobs import trainings
from danqing.jobs.board import Board
from danqing.settings import Settings

log = structlog.get_logger(__name__)

EVERY = 3600.0
"""Seconds between two rounds."""

OLD_JOBS = "DELETE FROM job WHERE finished IS NOT NULL AND finished < ?"


class Housekeeping:
    """Runs until cancelled."""

    def __init__(
        self, data: Path, settings: Settings, database: Database, board: Board, copies: Copies | None = None
    ) -> None:
        self._data, self._settings, self._database, self._board = data, settings, database, board
        self._copies = copies

    async def run(self) -> None:
        """A round at once, then one every hour."""
        while True:
            wanted = {image for live in self._board.jobs() for image in live.job.request.inputs}
            try:
                await asyncio.to_thread(self.round, wanted, time.time())
            except (OSError, sqlite3.Error):
                log.exception("housekeeping failed")
            await asyncio.sleep(EVERY)

    def round(self, wanted: set[str], now: float) -> None:
        """Remove what is too old by `now`. `wanted`: input pictures that waiting jobs need."""
        data, settings, database = self._data, self._settings, self._database
        upkeep.sweep(data, database, settings.get_float("temporary_hours"), now)
        copied = self._copies.until if self._copies else None
        upkeep.retire(data, database, settings.get_float("picture_days"), now, copied)
        upkeep.empty_trash(data, database, settings.get_float("trash_days"), now)
        inputs.sweep(data, wanted, settings.get_float("input_hours"), now)
        inputs.disown(database, wanted, settings.get_float("input_hours"), now)
        before = now - settings.get_float("job_days") * 86400
        database.write(lambda connection: connection.execute(OLD_JOBS, (before,)))
        trainings.sweep(data, database, now)
        database.write(lambda connection: connection.execute("DELETE FROM share WHERE expires < ?", (now,)))
