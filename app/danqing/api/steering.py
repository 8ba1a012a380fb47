"""Routes that the WebUI has and that steer the server or need what is not here: each says so in the WebUI's shape."""

from __future__ import annotations

import asyncio
import os
import signal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from danqing.api.context import Context
from danqing.api.errors import ApiError, SafeJson
from danqing.api.fields import PIXELS, example
from danqing.api.lists import Route
from danqing.api.tokens import ADMIN
from danqing.api.translate import keep_image
from danqing.api.waiting import unless_stopping
from danqing.api.webui_training import TrainingDoors
from danqing.engine import interrogators

STOP_SECONDS = 0.2
"""The answer is on its way before the server ends."""


class Interrogation(BaseModel):
    """Body of POST interrogate."""

    model_config = example({"image": PIXELS, "model": "clip"})

    image: str = ""
    model: str = "clip"


class Steering:
    """interrogate, training, unload and reload-checkpoint, server-kill, -restart, -stop."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def routes(self) -> dict[str, Route]:
        """Handlers of POST by path."""
        found: dict[str, Route] = {
            "/interrogate": self.interrogate,
            "/unload-checkpoint": self.unload_checkpoint,
            "/reload-checkpoint": self.reload_checkpoint,
            "/server-kill": self.server_kill,
            "/server-stop": self.server_stop,
            "/server-restart": self.server_restart,
        }
        return found | TrainingDoors(self._context).routes()

    async def interrogate(self, request: Request, body: Interrogation) -> Response:
        """A prompt for a picture; needs the networks of a caption on disk."""
        context = self._context
        if body.model not in [row.name for row in interrogators.ROWS]:
            raise ApiError(404, "HTTPException", "Model not found")
        if not body.image:
            raise ApiError(404, "HTTPException", "Image not found")
        options = context.options.of(context.client(request))
        image = await asyncio.to_thread(keep_image, body.image, context)
        caption = await unless_stopping(
            context, context.service.interrogate(image, body.model, interrogators.Manner.of(options))
        )
        return SafeJson({"caption": caption})

    async def unload_checkpoint(self) -> Response:
        """Nothing: the engine itself moves models between the device, RAM and disk."""
        return SafeJson({})

    async def reload_checkpoint(self) -> Response:
        """Nothing: a model is loaded when a request needs it."""
        return SafeJson({})

    async def server_kill(self, request: Request) -> Response:
        """End the server; administrators only, where the setting `api_server_stop` allows it."""
        self._check(request)
        _end_soon()
        return SafeJson(None)

    async def server_stop(self, request: Request) -> Response:
        """The same, with a word."""
        self._check(request)
        _end_soon()
        return PlainTextResponse("Stopping.")

    async def server_restart(self, request: Request) -> Response:
        """End the server where systemd starts it again, else 501."""
        self._check(request)
        if not os.environ.get("NOTIFY_SOCKET"):
            raise ApiError(501, "HTTPException", "Not restartable")
        _end_soon()
        return SafeJson(None)

    def _check(self, request: Request) -> None:
        self._context.require(request, ADMIN)
        if not self._context.settings.get_bool("api_server_stop"):
            raise ApiError(404, "HTTPException", "The setting api_server_stop is off")


def _end_soon() -> None:
    # As from outside: requests under way end, the queue is kept, the engine is told.
    asyncio.get_running_loop().call_later(STOP_SECONDS, os.kill, os.getpid(), signal.SIGTERM)
