"""What the web process and the engine process say to each other over a Unix socket.

A frame is a 4-byte big-endian length, a JSON header of that many bytes, then the blobs whose byte lengths the header lists
under `blobs`. Nothing here imports torch: the web process reads this file.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import asdict, dataclass, field
from typing import Any

from danqing.errors import DanqingError

HEADER_LIMIT = 32 * 1024 * 1024
"""Bytes; a longer header means that the peer is not ours."""

BLOB_LIMIT = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """A frame: `body["op"]` (to the engine) or `body["event"]` (from it) says what it is.

    To the engine:
        submit     job: str, request: GenerateRequest as JSON; its input pictures lie under DATA/inputs;
                   share: str - jobs of one share get one share of the device, however many they are
        interrupt  job: str - stop sampling now, decode and return what is there
        skip       job: str - the same for the pictures that are being drawn, then go on with the next
        cancel     job: str - drop the job without a picture
        interrogate  job: str, image: an input picture's name, model: "clip" | "deepdanbooru", manner: `Manner` as JSON
        train      job: str, folder: str - run the training in DATA/training/FOLDER in a process of its own, one at a time
        train-end  job: str, kill: bool - have it save its state and end; with `kill` end at once
        detect     job: str, image, mask: input pictures' names ("" for no mask), module, resolution, a, b - a control map
        translate  job: str, texts: list of Chinese str; answered by `translation` or `failed`
        restart    - finish nothing, exit; whoever started the engine starts the next
        stop       - finish nothing, exit

    From the engine:
        phase      name: str, state: "running" | "done" | "failed", seconds: float
        ready      device: str
        started    job
        progress   job, step, steps (model steps of the whole job so far and in all), image (pictures finished), images;
                   blob 0, where there is one: a preview (PNG at latent size, to be scaled up by whoever shows it)
        image      job, index, facts: `ImageFacts` as dict, request: the one it was drawn from, where that is not the job's;
                   blob 0: pixels, height*width*channels bytes, row by row
        note       job, note: DanqingError.as_dict() - what the owner is to know of pictures that are drawn all the same
        done       job, interrupted: bool, images: how many there were - after the last image
        caption    job, text: str - what was seen in the picture of an `interrogate`; `failed` where nothing could be
        trained    job, code: int - a training's process has ended; what came of it stands in its folder
        map        job, poses: OpenPose's JSON as text, or ""; blob 0: the PNG that a `detect` asked for
        failed     job, error: DanqingError.as_dict()
        translation  job, texts: list of str, in English
        log        level: int, text: str - a line of the engine's log
        log        level: int, text: str - a line of the engine's log
        stats      rows, groups, step_ms... - numbers for /metrics, about once a second while working;
                   acceleration: `CompiledNetworks.report` - whether networks run compiled, and why not
    """

    body: dict[str, Any]
    blobs: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        header = json.dumps({**self.body, "blobs": [len(blob) for blob in self.blobs]}).encode()
        return b"".join((struct.pack(">I", len(header)), header, *self.blobs))


async def read_message(reader: asyncio.StreamReader) -> Message | None:
    """The next message, or None at the end of the stream.

    Raises:
        DanqingError: `internal`, when the frame is not one of ours.
    """
    try:
        (length,) = struct.unpack(">I", await reader.readexactly(4))
        if length > HEADER_LIMIT:
            raise DanqingError("internal", reference=f"frame header of {length} bytes")
        body = json.loads(await reader.readexactly(length))
        sizes = body.pop("blobs", [])
        if sum(sizes) > BLOB_LIMIT or any(size < 0 for size in sizes):
            raise DanqingError("internal", reference=f"frame blobs of {sum(sizes)} bytes")
        return Message(body, tuple([await reader.readexactly(size) for size in sizes]))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the engine knows of a finished picture and the request does not say."""

    seed: int
    width: int
    height: int
    model_name: str
    model_hash: str
    """First 10 hex digits of the file's sha256, "" while it is not known."""
    schedule: str
    """Label of the schedule really used: "Automatic" only where the model's own sigmas were."""
    role: str = "image"
    """"image"; "grid" of a script; "mask", "composite" of inpainting; "map" of a control unit."""
    subseed: int = 0
    channels: int = 3
    """3, or 4 where the pixels have an alpha channel."""
    extra: dict[str, str | int | float] = field(default_factory=dict)
    """More infotext pairs, in order."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ImageFacts:
        return cls(**data)
