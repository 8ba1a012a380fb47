"""What the queue's folder needs from time to time: what is old goes."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import structlog

from danqing.database import Database
from danqing.gallery import inputs, upkeep
from danqing.jobs.board import Board
from danqing.settings import Settings

log = structlog.get_logger(__name__)

EVERY = 3600.0
"""Seconds between two rounds."""


class Housekeeping:
    """Runs until cancelled."""

    def __init__(self, data: Path, settings: Settings, database: Database, board: Board) -> None:
        self._data, self._settings, self._database, self._board = data, settings, database, board

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
        upkeep.sweep(self._data, self._database, self._settings.get_float("temporary_hours"), now)
        inputs.sweep(self._data, wanted, self._settings.get_float("input_hours"), now)
