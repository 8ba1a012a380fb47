"""Drawing without a server: `danqing generate`. The engine runs in this process."""

from __future__ import annotations

import os
import queue
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from danqing.errors import DanqingError
from danqing.request import LIMITS, GenerateRequest
from danqing.settings import Settings

if TYPE_CHECKING:
    from danqing.gallery.labels import Labels


def main(request: GenerateRequest, data: Path, output: Path) -> list[Path]:
    """Draw a checked request and write its pictures; returns their paths.

    Several pictures go to `NAME-1.png`, `NAME-2.png` and so on. Files appear whole or not at all.

    Raises:
        DanqingError: as the engine has it, or `disk_full`.
    """
    from danqing.engine.imports import first_imports

    first_imports()
    from danqing.engine.build import Workshop
    from danqing.engine.settings import ROWS
    from danqing.gallery import settings as gallery_settings
    from danqing.gallery.labels import Labels

    messages: queue.SimpleQueue[tuple[dict[str, object], tuple[bytes, ...]]] = queue.SimpleQueue()
    settings = Settings.load_known((*LIMITS, *ROWS, *gallery_settings.ROWS), data)
    labels = Labels.of(settings)
    workshop = Workshop(data, settings, lambda message: messages.put((message.body, message.blobs)))
    request = request.resolved()
    workshop.engine.submit("generate", request)
    written: list[Path] = []
    while not workshop.engine.idle or not messages.empty():
        if not workshop.engine.step() and not workshop.engine.idle:
            time.sleep(0.005)
        while not messages.empty():
            body, blobs = messages.get()
            _show_progress(body)
            if body["event"] == "failed":
                error = body["error"]
                raise DanqingError.from_dict(error if isinstance(error, dict) else {})
            if body["event"] == "image":
                written.append(_write(request, body, blobs[0], _path(output, request, body), labels))
    return written


def _show_progress(body: dict[str, object]) -> None:
    if body["event"] == "progress" and sys.stderr.isatty():
        done = body["step"] == body["steps"]
        print(f"\r{body['step']}/{body['steps']}", end="\n" if done else "", file=sys.stderr, flush=True)


def _path(output: Path, request: GenerateRequest, body: dict[str, object]) -> Path:
    if request.image_count == 1:
        return output
    index = body["index"]
    assert isinstance(index, int)
    return output.with_name(f"{output.stem}-{index + 1}{output.suffix or '.png'}")


def _write(request: GenerateRequest, body: dict[str, object], pixels: bytes, path: Path, labels: Labels) -> Path:
    from danqing.engine.protocol import ImageFacts
    from danqing.gallery import infotext
    from danqing.gallery.files import is_full
    from danqing.gallery.png import labelled
    from danqing.gallery.store import free_mb

    found = body["facts"]
    assert isinstance(found, dict)
    facts = ImageFacts.from_dict(found)
    text = infotext.write(request, facts, infotext.VERSION)
    content = labelled(pixels, facts, text, labels)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if is_full(error):
            raise DanqingError("disk_full", free_mb=free_mb(path.parent)) from None
        raise DanqingError("invalid_field", field="output", reason=error.strerror or str(error)) from None
    return path
