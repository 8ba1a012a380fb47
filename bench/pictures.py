"""Draws docs/images/samples.png: eight prompts, English and Chinese, through the real queue and engine."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from PIL import Image

from danqing import log
from danqing.app import load_settings
from danqing.jobs.model import JobState
from danqing.jobs.service import JobService
from danqing.library.index import Library
from danqing.request import GenerateRequest, checked

TARGET = Path(__file__).resolve().parent.parent / "docs" / "images" / "samples.png"
PROMPTS = (
    "a large red heart on a yellow background",
    "a yellow star on a blue background",
    "a green tree on a white background",
    "a red heart to the left of a blue star on a white background",
    "一个大的紫色菱形，白色背景",
    "一个人跳起来，穿红色上衣，青色背景",
    "一只橙色的猫，紫色背景",
    "左边是绿色三角形，右边是紫色圆形，黄色背景",
)
"""In the order of the strip, row by row; the READMEs quote them."""

COLUMNS = 4
GAP = 8


async def draw(data: Path, seed: int) -> list[Image.Image]:
    """One picture per prompt, all asked for at once."""
    settings, library = load_settings(data), Library(data)
    mini = library.resolve("danqing-mini")
    size = {"width": mini.native_size, "height": mini.native_size}
    service = JobService(data, settings, library=library)
    await service.start()
    try:
        jobs = [
            await service.submit(
                checked(GenerateRequest(prompt=prompt, seed=seed, cfg_scale=5.0, model=mini.title, **size), settings),
                owner="bench",
            )
            for prompt in PROMPTS
        ]
        done = [await service.wait(job.id) for job in jobs]
        if failed := [job for job in done if job.state is not JobState.DONE]:
            raise SystemExit(f"{failed[0].request.prompt}: {failed[0].error}")
        return [Image.open(service.gallery.get(job.pictures[0]).path).convert("RGB") for job in done]
    finally:
        await service.stop()


def strip(pictures: list[Image.Image]) -> Image.Image:
    """The pictures in rows of `COLUMNS`, as they are."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (width + GAP) - GAP, rows * (height + GAP) - GAP), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % COLUMNS * (width + GAP), number // COLUMNS * (height + GAP)))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    options = parser.parse_args()
    log.configure(level="warning")
    with tempfile.TemporaryDirectory() as data:
        sheet = strip(asyncio.run(draw(Path(data), options.seed)))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.output, optimize=True)


if __name__ == "__main__":
    main()
