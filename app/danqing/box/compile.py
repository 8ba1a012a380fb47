"""`danqing box compile`: makes compiled networks for this machine's device, beside an engine that goes on drawing.

The unit danqing-compile.service runs it at low priority once the box is ready. What came with the image is left as it is.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from danqing.box import gpu
from danqing.box.errors import BoxError
from danqing.box.phases import phase, read
from danqing.box.places import Places
from danqing.engine import compile as compiling
from danqing.engine.compile import CompileError, Outcome, Task
from danqing.engine.settings import ROWS
from danqing.errors import DanqingError
from danqing.settings import Settings

POLL_SECONDS = 1.0
SIZES = re.compile(r"[1-9]\d{1,4}[xX][1-9]\d{1,4}(, *[1-9]\d{1,4}[xX][1-9]\d{1,4})*")
"""Width and height of pictures, one or more of them."""
WITH_GPU = ("untested", "ok")
"""States of `gpu.preflight` in which torch draws on the GPU."""


def task_of(places: Places, data: Path, sizes: str = "") -> Task:
    """What the settings want compiled. `sizes`: others than theirs, as 512x512,512x768.

    Raises:
        DanqingError: `bad_setting`, for sizes of which no picture can be.
    """
    settings = Settings.load_known(ROWS, data)
    sizes = sizes or settings.get_str("compile_sizes")
    if sizes != "auto" and not SIZES.fullmatch(sizes):
        raise DanqingError(
            "bad_setting", name="compile_sizes", reason=f"{sizes!r} is neither auto nor like 512x512,512x768"
        )
    device = settings.get_str("engine_device")
    if device == "auto":
        device = "cuda" if gpu.preflight(places).state in WITH_GPU else "cpu"
    return Task(
        data=data,
        roots=compiling.roots(data, settings),
        device=device,
        dtype=settings.get_str("engine_dtype"),
        models=settings.get_int("compile_models"),
        sizes=sizes,
        seconds=60 * settings.get_float("compile_minutes"),
    )


def wait_for_first_picture(places: Places, seconds: float) -> None:
    """Until the warm-up has drawn, at most so long: the first picture needs the disk and the processor more."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and "first_picture" not in read(places):
        time.sleep(POLL_SECONDS)


def run(places: Places, task: Task) -> Outcome:
    """Compile, and put into the boot report how long it took and what it gains.

    Raises:
        BoxError: `compile_failed`; what could be compiled has been all the same.
    """
    with phase(places, "compile") as running:
        try:
            outcome = compiling.run(
                task, lambda done, total, name: running.tell(note=name, progress=done / max(1, total))
            )
        except CompileError as failure:
            raise BoxError("compile_failed", reason=str(failure)) from None
        if outcome.busy:
            raise BoxError("compile_failed", reason="another compilation is at work")
        if outcome.failed:
            raise BoxError("compile_failed", reason="; ".join(f"{name}: {one}" for name, one in outcome.failed.items()))
        running.row["note"] = told(outcome)[0]
    return outcome


def told(outcome: Outcome) -> tuple[str, str]:
    """What was done, in English and Chinese."""
    artefacts = [*outcome.made, *outcome.there]
    if not artefacts:
        return "nothing to compile", "没有可编译的内容"
    seconds, gains = sum(one.seconds for one in outcome.made), sorted(f"{one.gain:.2f}" for one in artefacts)
    gain = gains[0] if gains[0] == gains[-1] else f"{gains[0]}–{gains[-1]}"
    made, there = len(outcome.made), len(outcome.there)
    return (
        f"{made} networks compiled in {seconds:.0f} s, {there} there before; {gain} times as fast",
        f"编译了 {made} 个网络，用时 {seconds:.0f} 秒；已有 {there} 个；速度为 {gain} 倍",
    )
