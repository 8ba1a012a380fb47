"""A program that speaks the engine's protocol over a real socket and draws noise, without torch.

`python fake_engine.py --socket PATH [--step SECONDS] [--log FILE] [--keep] [--data DIR]`. Words in a prompt say what happens:

    die         kill -9 of itself in the middle of the job
    die-once    the same, but only while the log holds no earlier `die-once` of the job
    out-of-memory   the job fails with this error
    malformed   an image without pixels
    silent      done without an image
    unknown     says twice that a network is not there, and draws
    garbage     bytes that are no frame
    hang-once   the whole program stops, as `die-once`

The log gets a line per job taken: "submit JOB" and "drawn JOB INDEX".
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from danqing.engine.protocol import ImageFacts, Message, read_message
from danqing.engine.trainee import Trainee

PREVIEW = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEklEQVR4nGM8wYAdMOEQH6QSAKKAANhVIlE9AAAAAElFTkSuQmCC"
)
"""8x8, red."""


def pixels(seed: int, width: int, height: int) -> bytes:
    """What this engine draws: noise that depends on the seed alone and does not compress."""
    return random.Random(seed).randbytes(width * height * 3)


COMPILED = {"state": "compiled", "reason": "", "en": "", "zh": "", "gain": 1.43, "seconds": 312.0}
"""What an engine with compiled networks says of itself."""


class FakeEngine:
    def __init__(self, step_seconds: float, log: Path | None, keep: bool) -> None:
        self.step_seconds, self.log, self.keep = step_seconds, log, keep
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.interrupted: set[str] = set()
        self.over = asyncio.Event()
        self.writer: asyncio.StreamWriter
        self.trainee: Trainee | None = None

    def note(self, line: str) -> None:
        if self.log:
            with self.log.open("a") as file:
                file.write(line + "\n")

    def emit(self, body: dict, *blobs: bytes) -> None:
        self.writer.write(Message(body, blobs).encode())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        for name in ("torch", "model"):
            self.emit({"event": "phase", "name": name, "state": "running", "seconds": 0.0})
            self.emit({"event": "phase", "name": name, "state": "done", "seconds": 0.01})
        self.emit({"event": "ready", "device": "fake"})
        heart = asyncio.create_task(self.beat())
        while (message := await read_message(reader)) is not None and message.body["op"] != "stop":
            self.obey(message)
        for task in (heart, *self.tasks.values()):
            task.cancel()
        if self.trainee is not None:
            await self.trainee.leave()
        if not self.keep:
            self.over.set()

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(0.2)
            self.emit({"event": "stats", "rows": 1, "acceleration": COMPILED})

    def obey(self, message: Message) -> None:
        op, job = message.body["op"], message.body["job"]
        if op == "submit":
            self.note(f"submit {job}")
            self.tasks[job] = asyncio.create_task(self.draw(job, message.body["request"]))
        elif op in ("train", "train-end") and self.trainee is not None:
            self.note(f"{op} {job}")
            if op == "train":
                self.trainee.begin(job, message.body["folder"])
            else:
                self.trainee.end(job, kill=message.body.get("kill", False))
        elif op == "interrogate":
            self.look(job, message.body)
        elif op == "detect":
            self.map(job, message.body)
        elif op == "interrupt":
            self.interrupted.add(job)
        elif op == "cancel" and job in self.tasks:
            self.tasks.pop(job).cancel()

    def map(self, job: str, body: dict) -> None:
        """A red map, and what it was asked as the people it sees."""
        poses = json.dumps({"people": [], "asked": [body["module"], body["image"], body["resolution"], body["a"]]})
        self.emit({"event": "map", "job": job, "poses": poses}, PREVIEW)

    def look(self, job: str, body: dict) -> None:
        """What it sees is what it was asked; told to take one word at most, it dies instead of an answer."""
        if body["manner"]["longest"] == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if body["image"]:
            self.emit({"event": "caption", "job": job, "text": f"{body['model']} sees {body['image'][:8]}"})
        else:
            self.emit({"event": "failed", "job": job, "error": {"code": "unknown_picture", "params": {"picture": ""}}})

    async def draw(self, job: str, request: dict) -> None:
        count, steps = request["batch_size"] * request["n_iter"], request["steps"]
        self.emit({"event": "started", "job": job})
        for index in range(count):
            for step in range(1, steps + 1):
                await asyncio.sleep(self.step_seconds)
                if job in self.interrupted:
                    break
                place = {"step": index * steps + step, "steps": count * steps, "image": index, "images": count}
                self.emit({"event": "progress", "job": job, **place}, *([PREVIEW] if step % 2 else []))
                if step == steps // 2:
                    self.misbehave(job, request["prompt"].split())
            self.image(job, index, request)
            if job in self.interrupted:
                break
        self.tasks.pop(job, None)
        self.emit({"event": "done", "job": job, "interrupted": job in self.interrupted})
        self.emit({"event": "stats", "rows": 1, "step_ms": self.step_seconds * 1000, "acceleration": COMPILED})

    def image(self, job: str, index: int, request: dict) -> None:
        if "silent" in request["prompt"].split():
            return
        width, height, seed = request["width"] // 8 * 8, request["height"] // 8 * 8, request["seed"] + index
        facts = ImageFacts(seed, width, height, "fake", "0123456789", "Karras")
        self.note(f"drawn {job} {index}")
        self.emit({"event": "image", "job": job, "index": index, "facts": facts.as_dict()}, pixels(seed, width, height))

    def misbehave(self, job: str, words: list[str]) -> None:
        died = f"died {job.split('.')[0]}"
        if "die" in words or ("die-once" in words and self.log and died not in self.log.read_text()):
            self.note(died)
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang-once" in words and self.log and died not in self.log.read_text():
            self.note(died)
            time.sleep(1000)
        if "out-of-memory" in words:
            self.tasks.pop(job).cancel()
            error = {"code": "out_of_memory", "params": {"width": 64, "height": 64, "fits": 1}}
            self.emit({"event": "failed", "job": job, "error": error})
        if "malformed" in words:
            self.emit({"event": "image", "job": job, "index": 0, "facts": {"no": "facts"}})
        if "unknown" in words:
            note = {"code": "network_absent", "params": {"kind": "lora", "name": "gone"}}
            for _ in range(2):
                self.emit({"event": "note", "job": job, "note": note})
        if "garbage" in words:
            self.writer.write(b"GET / HTTP/1.1\r\n\r\n")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    parser.add_argument("--step", type=float, default=0.002)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--data", type=Path)
    arguments = parser.parse_args()
    engine = FakeEngine(arguments.step, arguments.log, arguments.keep)
    if arguments.data:
        # The real keeper of workers, with a program that trains nothing.
        worker = [sys.executable, "-m", "tests.jobs.fake_worker"]
        engine.trainee = Trainee(arguments.data, lambda: "cuda", lambda m: engine.emit(m.body), worker)
    server = await asyncio.start_unix_server(engine.serve, arguments.socket)
    await engine.over.wait()
    server.close()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
