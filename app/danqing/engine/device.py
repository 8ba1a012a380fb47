"""What a device is good at: its facts, and the class of devices whose ways of computing fit them.

The table is chosen by compute capability and not by name, so that a card that is not out yet gets the row of its generation.
Which cards do what: NVIDIA, CUDA C++ Programming Guide, "Compute Capabilities", and the architectures' white papers.
"""

from __future__ import annotations

import contextlib
import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

Precision = Literal["float32", "float16", "bfloat16"]
Attention = Literal["cudnn", "flash", "efficient", "math"]

CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "asimd", "sve")
"""Instructions that compiled code may use where it finds them: code made with them dies on a machine without."""

GIB = 2**30

CPU_DEVICE = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device, as the driver describes it. `memory` in bytes; `capability` (0, 0) for a CPU."""

    kind: Literal["cpu", "cuda"]
    name: str
    capability: tuple[int, int] = (0, 0)
    memory: int = 0
    features: tuple[str, ...] = ()
    """Of a CPU, those of `CPU_FLAGS` that it has."""
    torch: str = torch.__version__
    """Version of the build, with its CUDA."""

    @property
    def fingerprint(self) -> str:
        """16 hex digits: compiled code fits exactly the devices and builds of torch that share it."""
        parts = (self.kind, self.name if self.kind == "cuda" else platform.machine(), *map(str, self.capability))
        return hashlib.sha256("|".join((*parts, *self.features, self.torch)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """How networks run on devices of one kind.

    `buckets`: numbers of rows that a CUDA graph is recorded for, () for none. `slow_bf16`: emulated, to be refused as automatic
    choice. `peak`: dense TFLOP/s of the networks' format by the vendor's data sheet, 0 where it depends on the model of the card.
    """

    name: str
    precision: Precision
    channels_last: bool = False
    attention: tuple[Attention, ...] = ()
    """Kernels in the order in which they are tried, () for torch's own choice."""
    buckets: tuple[int, ...] = ()
    half_accumulation: bool = False
    """Whether sums in float16 are twice as fast as those in float32: consumer and inference cards of 8.6 and 8.9."""
    slow_bf16: bool = False


_SMALL = (1, 2, 4, 8)
_LARGE = (1, 2, 4, 8, 16, 32)

CPU = DeviceClass("cpu", "float32")
"""float32 draws what the references were drawn with; a graph's launch costs nothing to save here."""

TABLE: tuple[tuple[tuple[int, int], DeviceClass], ...] = (
    ((10, 0), DeviceClass("blackwell", "float16", True, ("cudnn", "flash", "efficient", "math"), _LARGE)),
    ((9, 0), DeviceClass("hopper", "float16", True, ("cudnn", "flash", "efficient", "math"), _LARGE)),
    ((8, 9), DeviceClass("ada", "float16", True, ("flash", "efficient", "math"), _LARGE, half_accumulation=True)),
    ((8, 6), DeviceClass("ampere-small", "float16", True, ("flash", "efficient", "math"), _SMALL, True)),
    ((8, 0), DeviceClass("ampere", "float16", True, ("flash", "efficient", "math"), _LARGE)),
    ((7, 5), DeviceClass("turing", "float16", True, ("efficient", "math"), _SMALL, slow_bf16=True)),
    ((7, 0), DeviceClass("volta", "float16", True, ("efficient", "math"), _SMALL, slow_bf16=True)),
    ((0, 0), DeviceClass("old-gpu", "float32", False, (), (), slow_bf16=True)),
)
"""Lowest compute capability → class, the highest first.

float16 and not bfloat16 wherever both are equally fast: it keeps three more bits of each number, and what overflows it (some
VAEs) is run again in float32. Flash attention needs 8.0; before 7.0 there are no tensor cores and float16 is slow or coarse.
"""


def class_of(facts: DeviceFacts) -> DeviceClass:
    """The row of the table for a device."""
    if facts.kind == "cpu":
        return CPU
    return next(row for lowest, row in TABLE if facts.capability >= lowest)


def facts_of(device: torch.device) -> DeviceFacts:
    """What torch and the kernel say of a device."""
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        build = f"{torch.__version__} cuda {torch.version.cuda}"
        return DeviceFacts("cuda", found.name, (found.major, found.minor), found.total_memory, (), build)
    return DeviceFacts("cpu", platform.processor() or platform.machine(), features=cpu_features())


def cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """Those of `CPU_FLAGS` that this machine has, () where that cannot be read."""
    try:
        lines = cpuinfo.read_text("utf-8", "replace").splitlines()
    except OSError:
        return ()
    words = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return tuple(flag for flag in CPU_FLAGS if flag in words)


def precision(wanted: str, row: DeviceClass) -> torch.dtype:
    """The number format of the networks: as asked for, "auto" is the class's own."""
    name = row.precision if wanted == "auto" else wanted
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[name]


def prepared(network: Any, row: DeviceClass) -> Any:
    """The network in the class's memory layout. Convolutions of tensor cores read channels last."""
    if row.channels_last:
        network.to(memory_format=torch.channels_last)
    return network


KERNELS = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def attending(row: DeviceClass) -> contextlib.AbstractContextManager[Any]:
    """Within the context attention runs on the first of the class's kernels that takes the shapes."""
    if not row.attention:
        return contextlib.nullcontext()
    return sdpa_kernel([KERNELS[name] for name in row.attention], set_priority=True)


def tune(row: DeviceClass, *, half_sums: bool) -> None:
    """Settings of the whole process. half_sums: let matrix products sum in float16 where the class is faster that way; what it
    does to pictures has not been measured."""
    if row.half_accumulation and half_sums:
        torch.backends.cuda.matmul.allow_fp16_accumulation = True


def placed(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A tensor of the CPU on the device, without waiting for what the device is doing: from pinned memory, which the driver reads
    by itself."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
