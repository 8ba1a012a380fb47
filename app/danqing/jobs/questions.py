"""What is asked of the engine and answered at once, beside the queue: what is in a picture, maps of it. Nothing of it is kept."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from danqing.control.catalog import Values
from danqing.engine import interrogators
from danqing.engine.interrogators import Manner
from danqing.engine.protocol import Message
from danqing.errors import DanqingError

MOST = 64
"""Questions that wait for an answer at once; the engine looks at one picture after the other."""


class Questions:
    """Asks and matches answers (`EngineListener`). Belongs to one event loop."""

    def __init__(self, send: Callable[[Message], Awaitable[None]]) -> None:
        self._send = send
        self._waiting: dict[str, asyncio.Future[Message]] = {}
        self._numbers = itertools.count(1)
        self._open = False

    async def interrogate(self, data: Path, image: str, name: str, manner: Manner) -> str:
        """What an interrogator sees in an input picture of the data root.

        Raises:
            DanqingError: `interrogator_missing`, and those of `ask`.
        """
        await asyncio.to_thread(interrogators.check, data, name)
        wanted = {"op": "interrogate", "image": image, "model": name, "manner": manner.model_dump(mode="json")}
        return str((await self.ask(wanted)).body["text"])

    async def detect(self, image: str, mask: str, module: str, values: Values) -> tuple[bytes, str]:
        """The control map that a preprocessor makes of an input picture, as PNG, and OpenPose's JSON as text or "".

        Args:
            image, mask: names of input pictures; "" for no mask.
            module: a preprocessor whose weights are on disk.

        Raises:
            DanqingError: those of `ask`.
        """
        wanted = {"op": "detect", "image": image, "mask": mask, "module": module, **values._asdict()}
        answer = await self.ask(wanted)
        return answer.blobs[0], str(answer.body["poses"])

    async def translate(self, texts: list[str]) -> list[str]:
        """Chinese texts in English, by the model in the engine's process.

        Raises:
            DanqingError: `files_missing`, `model_broken`, and those of `ask`.
        """
        return [str(one) for one in (await self.ask({"op": "translate", "texts": texts})).body["texts"]]

    async def ask(self, body: dict[str, Any]) -> Message:
        """The engine's answer to a message.

        Raises:
            DanqingError: what it says instead; `engine_not_ready`, `engine_lost`, `queue_full`.
        """
        if not self._open:
            raise DanqingError("engine_not_ready")
        if len(self._waiting) >= MOST:
            raise DanqingError("queue_full", count=len(self._waiting), maximum=MOST)
        name = f"question.{next(self._numbers)}"
        answer: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._waiting[name] = answer
        try:
            await self._send(Message({**body, "job": name}))
            return await answer
        except OSError:
            raise DanqingError("engine_lost", attempts=1) from None
        finally:
            del self._waiting[name]

    async def ready(self) -> None:
        self._open = True

    async def message(self, message: Message) -> None:
        answer = self._waiting.get(str(message.body.get("job")))
        if answer is None or answer.done():
            return
        if message.body.get("event") == "failed":
            answer.set_exception(DanqingError.from_dict(message.body["error"]))
        else:
            answer.set_result(message)

    async def lost(self) -> None:
        self._open = False
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(DanqingError("engine_lost", attempts=1))
