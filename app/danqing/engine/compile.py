"""Compiles what this device can run compiled, beside an engine that goes on drawing: `danqing box compile`.

Each network is compiled by a process of its own (`compile_worker`), watched from here: whatever becomes of it, nothing half made
gets a name, and how it ended stands in the store's state, where the engine reads it. Imports no torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from danqing.engine.compile_store import Artefact, Store, Want
from danqing.settings import Settings

WORKER = (sys.executable, "-m", "danqing.engine.compile_worker")
SCRATCH = "scratch"
"""Below the folder of one compilation: what the compilers write on the way."""

REASONS: dict[str, tuple[str, str]] = {
    "killed": ("compiling was killed", "编译进程被终止"),
    "timeout": ("compiling took too long and was stopped", "编译超时，已停止"),
    "disk_full": ("there is too little room on the disk to compile", "磁盘空间不足，无法编译"),
    "failed": ("compiling failed", "编译失败"),
    "slower": ("compiled code is no faster here", "编译后的代码在此设备上并不更快"),
    "differs": ("compiled code draws other pictures", "编译后的代码画出的图不同"),
    "nothing": ("there is nothing to compile", "没有可编译的内容"),
    "broken": ("compiled code failed while drawing", "编译后的代码在绘图时出错"),
}
"""Why there is no compiled code in use, in English and Chinese."""

SPEEDS = {
    "eager": ("not compiled", "未编译"),
    "compiling": ("compiling", "正在编译"),
    "compiled": ("compiled", "已编译"),
}

LEAST_GAIN = 1.02
"""Compiled code that is not faster by this much is kept, so that it is not made again, and not used."""

BOUNDS = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
"""Largest deviation of one forward, by its largest number, of code that may be used. Sums in another order differ in the last
digits of a format: 2e-6 was measured in float32, where a bound is to find wrong code and not to forbid rounding."""

END_SECONDS = 5.0
"""Between asking a process to end and killing it."""


class CompileError(Exception):
    """`code`: of `REASONS`. `detail`: the compiler's own last words."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{REASONS[code][0]}{f': {detail}' if detail else ''}")
        self.code, self.detail = code, detail


@dataclass(frozen=True, slots=True)
class Task:
    """What to compile and within which bounds.

    Args:
        roots: see `Store`. seconds: most of one compilation. room: bytes that must be free on the disk before it.
        device, dtype: as the settings name them. models: so many checkpoints, the default first. sizes: see `worker.sizes_of`.
    """

    data: Path
    roots: Sequence[Path]
    device: str
    dtype: str = "auto"
    models: int = 1
    sizes: str = "auto"
    seconds: float = 1800.0
    room: int = 2 * 2**30
    command: Sequence[str] = field(default=WORKER)
    variants: Sequence[str] = ("plain", "decode", "full", "encode")

    def job(self, **more: Any) -> dict[str, Any]:
        """What the worker is told."""
        return {
            "data": str(self.data),
            "device": self.device,
            "dtype": self.dtype,
            "models": self.models,
            "sizes": self.sizes,
            **more,
        }


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a task. `made`: compiled now. `there`: was compiled before. `failed`: name → reason."""

    made: list[Artefact]
    there: list[Artefact]
    failed: dict[str, CompileError]
    busy: bool = False
    """Somebody else is compiling; nothing was done."""


def accelerated(told: Mapping[str, Any]) -> tuple[str, str]:
    """What `CompiledNetworks.report` says in one line, in English and Chinese: whether networks run compiled, gain, why not."""
    en, zh = SPEEDS.get(str(told.get("state")), SPEEDS["eager"])
    if told.get("gain"):
        en, zh = f"{en}, {float(told['gain']):.2f} times as fast", f"{zh}，速度为 {float(told['gain']):.2f} 倍"
    if told.get("vae_gain"):
        gain = float(told["vae_gain"])
        en, zh = f"{en}, VAE {gain:.2f} times as fast", f"{zh}，VAE 速度为 {gain:.2f} 倍"
    if told.get("en"):
        en, zh = f"{en}: {told['en']}", f"{zh}：{told.get('zh', told['en'])}"
    return en, zh


def roots(data: Path, settings: Settings) -> tuple[Path, ...]:
    """Where compiled code lies: what this machine makes, then what came with the image."""
    baked = settings.get_str("compile_baked")
    return (data / "cache/compiled", *((Path(baked),) if baked else ()))


Tell = Callable[[int, int, str], object]
"""(so many are done, of so many, name of the one at work)"""


def run(task: Task, tell: Tell = lambda done, total, name: None) -> Outcome:
    """Compile everything that is not there yet, one after another; those that fail do not keep the others from being made.

    Raises:
        CompileError: it cannot even be said what to compile.
    """
    listed = ask(task, "list", task.job(), Path())
    store = Store(task.roots, str(listed["fingerprint"]))
    rows = [row for row in listed["wants"] if row["variant"] in task.variants]
    with store.locked() as mine:
        if not mine:
            return Outcome([], [], {}, busy=True)
        store.clean()
        outcome = Outcome([], [], {})
        for done, row in enumerate(rows):
            want = Want(row["architecture"], row["variant"], row["height"], row["width"])
            if (found := store.checked(want)) is not None:
                outcome.there.append(found)
                continue
            tell(done, len(rows), want.name)
            store.tell("compiling", name=want.name, done=done, total=len(rows))
            try:
                outcome.made.append(_make(task, store, want, row))
            except CompileError as failure:
                outcome.failed[want.name] = failure
        _conclude(store, outcome)
    return outcome


def _conclude(store: Store, outcome: Outcome) -> None:
    seconds = round(sum(one.seconds for one in outcome.made), 1)
    if outcome.failed:
        failure = next(iter(outcome.failed.values()))
        store.tell("failed", failure.code, detail=failure.detail, seconds=seconds)
    else:
        store.tell("done", "" if outcome.made or outcome.there else "nothing", seconds=seconds)


def _make(task: Task, store: Store, want: Want, row: dict[str, Any]) -> Artefact:
    try:
        if shutil.disk_usage(store.folder).free < task.room:
            raise CompileError("disk_full")
        with store.making(want) as half:
            (half / SCRATCH).mkdir()
            answer = ask(task, "make", task.job(want=row, folder=str(half)), half / SCRATCH)
            return store.publish(
                half,
                want,
                seconds=float(answer["seconds"]),
                gain=float(answer["gain"]),
                difference=float(answer["difference"]),
                graphs=float(answer["graphs"]),
            )
    except OSError as error:
        raise CompileError("disk_full" if error.errno == 28 else "failed", error.strerror or str(error)) from error
    except (KeyError, ValueError, TypeError) as error:
        raise CompileError("failed", f"the worker answered {error}") from error


def ask(task: Task, op: str, job: dict[str, Any], scratch: Path) -> dict[str, Any]:
    """Run the worker and read its answer. Everything that it writes on the way goes below `scratch`.

    Raises:
        CompileError: it failed, was killed, or did not end in time.
    """
    environment = dict(os.environ)
    if scratch != Path():
        # Caches of their own, gone with the folder: what a killed compiler left in a shared one broke the next run.
        environment |= {name: str(scratch) for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "TMPDIR")}
    process = subprocess.Popen(
        [*task.command, op, json.dumps(job)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        out, told = process.communicate(timeout=task.seconds)
    except subprocess.TimeoutExpired:
        raise CompileError("timeout", f"{task.seconds:.0f} s") from None
    finally:
        _end(process)
    last = next((line.strip() for line in reversed(told.splitlines()) if line.strip()), "")[:300]
    if process.returncode:
        full = "No space left on device" in told or "File too large" in told
        code = "disk_full" if full else "killed" if process.returncode < 0 else "failed"
        raise CompileError(code, last or f"exit code {process.returncode}")
    try:
        answer = json.loads(out.strip().splitlines()[-1])
    except (ValueError, IndexError):
        raise CompileError("failed", "the worker gave no answer") from None
    if not isinstance(answer, dict):
        raise CompileError("failed", "the worker gave no answer")
    return answer


def _end(process: subprocess.Popen[str]) -> None:
    """End the worker with the compilers that it started."""
    for number, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
        end = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(0.05)
        if process.poll() is not None:
            break
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
