"""A copy of every saved picture in a bucket of S3, or of a store that speaks its language.

The picture is whole on this machine's disk before anything is sent, and stays there whatever becomes of the copy. How far the
copying has come is one time in a file: after a restart, and while the bucket cannot be reached, what is younger is sent again
under the same name, which changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import structlog

from danqing.database import Database, Row
from danqing.errors import DanqingError
from danqing.library.whole import replace_whole
from danqing.settings import Settings

log = structlog.get_logger(__name__)

STATE = "run/copies.json"
"""Below the data folder: `until`, seconds since 1970; every saved picture that was made before is in the bucket."""

SETTLED = 300.0
"""Seconds after which no picture appears that was made before: its time is taken when it is written."""

EVERY, TROUBLED = 5.0, 60.0
"""Seconds between two rounds, and when the last one failed."""

PAGE = 200

TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}

YOUNGER = """
SELECT * FROM picture WHERE complete = 1 AND temporary = 0 AND created >= ? ORDER BY created, id LIMIT ? OFFSET ?
"""


class Bucket(Protocol):
    """Where copies go."""

    def put(self, path: Path, key: str) -> None:
        """Store a file under a name.

        Raises:
            Exception: it could not be stored.
        """


@dataclass(frozen=True, slots=True)
class S3:
    """A bucket. boto3 tries again by itself what is throttled or cut off, with growing waits."""

    client: Any
    name: str

    def put(self, path: Path, key: str) -> None:
        kind = TYPES.get(path.suffix.lower(), "application/octet-stream")
        with path.open("rb") as body:
            self.client.put_object(Bucket=self.name, Key=key, Body=body, ContentType=kind)


def bucket_of(settings: Settings) -> S3 | None:
    """The bucket of the settings, None where none is set. Credentials are found as boto3 finds them: the machine's role.

    Raises:
        DanqingError: `bad_setting`.
    """
    name = settings.get_str("s3_bucket")
    if not name:
        return None
    if find_spec("boto3") is None:
        raise DanqingError("bad_setting", name="s3_bucket", reason="boto3 is not installed")
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    config = Config(retries={"mode": "standard", "total_max_attempts": 6}, connect_timeout=10, read_timeout=60)
    region, endpoint = settings.get_str("s3_region") or None, settings.get_str("s3_endpoint") or None
    try:
        return S3(boto3.client("s3", region_name=region, endpoint_url=endpoint, config=config), name)
    except (BotoCoreError, ValueError) as error:
        raise DanqingError("bad_setting", name="s3_bucket", reason=str(error)[:200]) from None


class Copies:
    """Sends what is not yet copied. `round` blocks and belongs into a thread.

    Args:
        prefix: what keys begin with; the owner and the path below outputs/ follow.
    """

    def __init__(
        self, data: Path, database: Database, bucket: Bucket | None, prefix: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._data, self._database, self._bucket, self._prefix = data, database, bucket, prefix
        self._clock = clock
        self._state = data / STATE
        self._until = self._read()
        self._sent: dict[str, float] = {}
        """Pictures that were sent since, by id, and when they were made."""
        self.trouble: DanqingError | None = None
        """Why the last round failed."""
        self.copied = self.failed = 0

    @property
    def until(self) -> float | None:
        """Pictures made before are copied; None where nothing is copied at all."""
        return None if self._bucket is None else self._until

    async def run(self) -> None:
        """Rounds until cancelled."""
        while self._bucket is not None:
            try:
                await asyncio.to_thread(self.round)
            except Exception:
                log.exception("copying failed")
            await asyncio.sleep(TROUBLED if self.trouble else EVERY)

    def round(self) -> None:
        """Send every picture that is not in the bucket yet; the first failure ends the round."""
        started, place = self._clock(), 0
        self.trouble = None
        while rows := self._database.rows(YOUNGER, (self._until, PAGE, place)):
            if not all(self._copied(row) for row in rows):
                return
            before = self._until
            self._settle(min(rows[-1]["created"], started - SETTLED))
            place = 0 if self._until > before else place + len(rows)
        self._settle(started - SETTLED)

    def _copied(self, row: Row) -> bool:
        if row["id"] in self._sent:
            return True
        path = self._data / row["path"]
        try:
            assert self._bucket is not None
            self._bucket.put(path, self._key(row))
        except FileNotFoundError:
            return True  # taken away by hand meanwhile
        except Exception as error:  # noqa: BLE001 - whatever the bucket or the network raises, the picture is here
            self.failed += 1
            self.trouble = DanqingError("copy_failed", reason=str(error)[:200] or type(error).__name__)
            log.warning("picture not copied", picture=row["id"], user=row["owner"], error=str(error)[:200])
            self._settle(min(row["created"], self._clock() - SETTLED))
            return False
        self.copied += 1
        self._sent[row["id"]] = row["created"]
        return True

    def _key(self, row: Row) -> str:
        return f"{self._prefix}{quote(row['owner'], safe='')}/{row['path'].removeprefix('outputs/')}"

    def _settle(self, until: float) -> None:
        """All that was made before `until` is copied."""
        if until <= self._until:
            return
        self._until = until
        self._sent = {one: made for one, made in self._sent.items() if made >= until}
        replace_whole(self._state, json.dumps({"until": until}).encode())

    def _read(self) -> float:
        try:
            return float(json.loads(self._state.read_text("utf-8"))["until"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0.0

    def waiting(self) -> int:
        """Saved pictures that are not in the bucket yet."""
        if self._bucket is None:
            return 0
        row = self._database.row(
            "SELECT count(*) n FROM picture WHERE complete = 1 AND temporary = 0 AND created >= ?", (self._until,)
        )
        return max(0, (row["n"] if row else 0) - len(self._sent))

    def stats(self) -> dict[str, float]:
        """Numbers for /metrics, where pictures are copied."""
        if self._bucket is None:
            return {}
        numbers: Sequence[tuple[str, float]] = (
            ("copies", self.copied),
            ("copies_failed", self.failed),
            ("copies_waiting", self.waiting()),
        )
        return {name: float(value) for name, value in numbers}
