"""The GPU: is there one, does its driver fit the build of torch, does a CUDA operation work.

`preflight` is quick (no torch) and runs before the engine is started; `look` also computes something on the GPU, in a process of
its own, because a broken driver may take the process with it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from danqing.box import phases, tools
from danqing.box.local import data_folder
from danqing.box.places import USER, Places
from danqing.errors import DanqingError

NVIDIA = "0x10de"
OLDEST = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
"""CUDA major of a torch build → oldest driver that runs it (CUDA's minor-version compatibility)."""
QUERY = "name,driver_version,memory.total,memory.used"
OPERATION_SECONDS = 300.0
TROUBLE = "run/gpu-trouble.json"
"""Below the data folder: why the engine was not started, for the web process to tell."""

OPERATION = """
import json, time, torch
began = time.monotonic()
a = torch.ones(256, 256, device="cuda", dtype=torch.float16)
total = (a @ a).float().sum().item()
assert total == 256.0 ** 3, total
free, whole = torch.cuda.mem_get_info()
print(json.dumps({"seconds": round(time.monotonic() - began, 2), "capability": list(torch.cuda.get_device_capability()),
                  "free_mb": free >> 20, "total_mb": whole >> 20}))
"""


@dataclass(frozen=True, slots=True)
class Gpu:
    """What was found. `state`: absent, no_driver, cpu_build, driver_too_old, broken, untested or ok."""

    state: str
    name: str = ""
    driver: str = ""
    cuda: str = ""
    """Of the torch build; "" for one without CUDA."""
    memory_mb: int = 0
    used_mb: int = 0
    error: DanqingError | None = None
    operation: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(replace(self, error=None)), "error": self.error.as_dict() if self.error else None}

    def lines(self) -> list[tuple[str, str]]:
        """For people."""
        if self.error:
            return [(self.error.text("en"), self.error.text("zh"))]
        en, zh = WORDS[self.state]
        found = [(en, zh)]
        if self.name:
            memory = f"{self.used_mb} / {self.memory_mb} MB"
            found.append((f"{self.name}, driver {self.driver}, {memory}", f"{self.name}，驱动 {self.driver}，{memory}"))
        if self.operation:
            seconds = self.operation["seconds"]
            found.append((f"CUDA {self.cuda} operation: {seconds} s", f"CUDA {self.cuda} 运算：{seconds} 秒"))
        return found


WORDS = {
    "absent": ("no NVIDIA GPU here: Danqing draws on the CPU, slowly", "没有 NVIDIA 显卡：丹青使用 CPU 绘图，速度较慢"),
    "no_driver": (
        "there is an NVIDIA GPU but no driver: Danqing draws on the CPU, slowly. Install the driver, reboot",
        "有 NVIDIA 显卡但没有驱动：丹青使用 CPU 绘图，速度较慢。请安装驱动后重启",
    ),
    "cpu_build": (
        "there is an NVIDIA GPU but this torch is built for CPUs: Danqing draws on the CPU. Bake the image on a "
        "base with a driver",
        "有 NVIDIA 显卡，但此 torch 仅支持 CPU：丹青使用 CPU 绘图。请在带驱动的基础镜像上重新制作镜像",
    ),
    "untested": ("there is a GPU and its driver fits", "检测到显卡，驱动匹配"),
    "ok": ("the GPU works", "显卡工作正常"),
}


def torch_cuda() -> str:
    """CUDA version of the installed torch, "" for a build without; torch is not imported, which takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        return ""
    with contextlib.suppress(OSError):
        text = Path(spec.origin).with_name("version.py").read_text("utf-8")
        if match := re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)['\"]", text, re.MULTILINE):
            return match[1]
    return ""


def too_old(driver: str, cuda: str) -> str:
    """The driver that the CUDA version wants when this one is older, else ""."""
    wanted = OLDEST.get(int(cuda.split(".")[0]), "") if cuda else ""
    return wanted if wanted and _numbers(driver) < _numbers(wanted) else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def on_bus(places: Places) -> bool:
    """Whether an NVIDIA display device is plugged in, driver or not."""
    for device in (places.root / "sys/bus/pci/devices").glob("*"):
        with contextlib.suppress(OSError):
            if (device / "vendor").read_text().strip() == NVIDIA and (device / "class").read_text().startswith("0x03"):
                return True
    return False


def driver_of(places: Places) -> str:
    """Version of the loaded driver, "" when none is."""
    with contextlib.suppress(OSError):
        text = (places.root / "proc/driver/nvidia/version").read_text()
        if match := re.search(r"\b(\d{3,}\.\d[\d.]*)", text):
            return match[1]
    return ""


def preflight(places: Places) -> Gpu:
    """Everything that can be known without computing."""
    row = [
        part.strip()
        for part in tools.quiet("nvidia-smi", f"--query-gpu={QUERY}", "--format=csv,noheader,nounits").split(",")
    ]
    listed = len(row) >= 4
    name, driver = (row[0], row[1]) if listed else ("NVIDIA", driver_of(places))
    if not driver:
        return Gpu("no_driver" if on_bus(places) else "absent")
    total, used = (_number(row[2]), _number(row[3].splitlines()[0])) if listed else (0, 0)
    found = Gpu("untested", name, driver, torch_cuda(), total, used)
    if not found.cuda:
        return replace(found, state="cpu_build")
    if wanted := too_old(driver, found.cuda):
        error = DanqingError("driver_too_old", driver=driver, cuda=found.cuda, wanted=wanted)
        return replace(found, state="driver_too_old", error=error)
    return found


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def look(places: Places) -> Gpu:
    """`preflight`, and a CUDA operation where one should work."""
    found = preflight(places)
    if found.state != "untested":
        return found
    try:
        done = subprocess.run(
            [sys.executable, "-c", OPERATION], capture_output=True, text=True, timeout=OPERATION_SECONDS, check=False
        )
        answer = json.loads(done.stdout) if done.returncode == 0 else None
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    except (subprocess.TimeoutExpired, ValueError) as failure:
        answer, reason = None, str(failure)
    if answer is None:
        error = DanqingError("gpu_broken", name=found.name, driver=found.driver, reason=reason[:300])
        return replace(found, state="broken", error=error)
    return replace(found, state="ok", operation=answer)


def tell(places: Places, found: Gpu) -> None:
    """Put it on the waiting page and into the report, and leave the web process word of why no engine comes."""
    en, zh = found.lines()[0]
    running = phases.Phase(places, "gpu")
    running.tell("failed" if found.error else "done", note="; ".join(line for line, _ in found.lines()))
    phases.write(places, [], error={"en": en, "zh": zh} if found.error else None, device=found.state)
    path = data_folder(places) / TROUBLE
    with contextlib.suppress(OSError):
        if found.error:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            phases.replace(path, json.dumps(found.error.as_dict()))
            tools.give(path, USER)
        else:
            path.unlink(missing_ok=True)
