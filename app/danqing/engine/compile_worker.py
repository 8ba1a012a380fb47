"""Compiles one network in a process of its own: `python -m danqing.engine.compile_worker list|make JSON`.

It may crash, hang, eat memory or fill the disk without anybody who draws noticing: `compile.py` watches it. Networks are built
from the checkpoint's shapes with random numbers, for compiled code holds no weights; every checkpoint of the shape uses it with
its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from danqing import torchvision_shim as torchvision_shim  # before diffusers
from danqing.engine import compile_unet, compile_vae
from danqing.engine.building import meta_parts
from danqing.engine.compile_store import PACKAGE, Want
from danqing.engine.compile_unet import Compilable, Variant
from danqing.engine.compile_vae import Coder
from danqing.engine.device import DeviceClass, class_of, facts_of, precision, prepared
from danqing.engine.device_graphs import CudaRecorder, Graphs
from danqing.library.architecture import recognise
from danqing.library.folders import recognise_folder
from danqing.library.index import Checkpoint, Library
from danqing.library.weights import open_weights

NICE = 15
DIES_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""

MEASURED_SECONDS = 8.0
"""For timing the compiled and the eager network by turns."""

GRAPH_BOUND = 1e-3
"""Largest deviation of a replay by the largest number: libraries may choose other kernels while one is recorded."""

ROWS = 2
"""Of the example: one picture with guidance."""

VARIANTS: tuple[Variant, ...] = ("plain", "full")
"""Of a UNet."""

ORDER: tuple[tuple[str, str], ...] = (("unet", "plain"), ("vae", "decode"), ("unet", "full"), ("vae", "encode"))
"""Networks and their variants in the order in which they are made: first what every picture needs."""

TALL = (1.0, 1.5)
"""Beside the model's own square what it is compiled for: portrait and landscape of 2 to 3."""


def meta_networks(checkpoint: Checkpoint, dtype: torch.dtype, row: DeviceClass) -> dict[str, Any]:
    """The checkpoint's "unet" and "vae" without numbers, in the format and layout in which the engine holds them.

    Raises:
        DanqingError: `model_broken`, `model_unsafe`.
    """
    weights = open_weights(checkpoint.filename)
    if weights.configs:
        architecture = recognise_folder(checkpoint.name, weights)
    else:
        architecture = recognise(checkpoint.name, weights.shapes, checkpoint.config)
    parts = meta_parts(architecture)
    return {
        name: prepared(torch.nn.Module.to(parts[name], dtype).eval().requires_grad_(False), row)
        for name in ("unet", "vae")
    }


def filled(network: Any, device: torch.device, row: DeviceClass) -> Any:
    """A network without numbers with random ones on a device, small enough that nothing overflows."""
    network = prepared(torch.nn.Module.to_empty(network, device=device), row)
    for name, parameter in network.named_parameters():
        fan = max(1, parameter[0].numel()) if parameter.ndim > 1 else 1
        parameter.data.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.5 * fan**-0.5)
    return network


def sizes_of(checkpoint: Checkpoint, wanted: str) -> list[tuple[int, int]]:
    """Height and width of the latents to compile for. wanted: "auto", or pixels as in "512x512,768x512" (width first)."""
    if wanted != "auto":
        pairs = [part.lower().split("x") for part in wanted.split(",")]
        return [(int(height) // 8, int(width) // 8) for width, height in pairs]
    side = checkpoint.native_size
    long = int(side * TALL[1]) // 64 * 64
    return [(side // 8, side // 8), (long // 8, side // 8), (side // 8, long // 8)]


def listed(job: dict[str, Any]) -> dict[str, Any]:
    """What could be compiled here. job: data, device, dtype, models (most), sizes."""
    device = torch.device(job["device"])
    facts = facts_of(device)
    row = class_of(facts)
    dtype = precision(job["dtype"], row)
    library = Library(Path(job["data"]))
    first = library.default()
    others = [one for one in library.checkpoints() if one.filename != first.filename]
    wants: dict[str, dict[str, Any]] = {}
    for checkpoint in [first, *others][: job["models"]]:
        networks = meta_networks(checkpoint, dtype, row)
        architectures = {
            "unet": compile_unet.architecture_of(networks["unet"]),
            "vae": compile_vae.architecture_of(networks["vae"]),
        }
        for height, width in sizes_of(checkpoint, job["sizes"]):
            for network, variant in ORDER:
                want = Want(architectures[network], variant, height, width)
                wants.setdefault(want.name, {**asdict(want), "model": checkpoint.name})
    return {"fingerprint": facts.fingerprint, "device": facts.name, "wants": list(wants.values())}


def made(job: dict[str, Any]) -> dict[str, Any]:
    """Compile one of `listed`. job: data, device, dtype, want, folder. Answer: seconds, gain, difference."""
    device = torch.device(job["device"])
    row = class_of(facts_of(device))
    rows = dict(job["want"])
    checkpoint = Library(Path(job["data"])).closest(rows.pop("model"))
    want = Want(**rows)
    part = "vae" if want.variant in compile_vae.VARIANTS else "unet"
    network = filled(meta_networks(checkpoint, precision(job["dtype"], row), row)[part], device, row)
    return compiled_into(Path(job["folder"]), network, want, row.buckets if part == "unet" else ())


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is compiled, with an example of its inputs, and how compiled code names its weights."""

    network: torch.nn.Module
    inputs: tuple[Any, ...]
    free: tuple[Any, ...]
    constants: Callable[[Sequence[str]], dict[str, torch.Tensor]]


def _subject(network: Any, want: Want) -> _Subject:
    for half in compile_vae.VARIANTS:
        if half == want.variant:
            coder = Coder(network, half)
            inputs = compile_vae.example(network, half, want.height, want.width, ROWS)
            return _Subject(
                coder, inputs, compile_vae.free_dimensions(), partial(compile_unet.constants_of, coder, prefix="")
            )
    variant: Variant = "full" if want.variant == "full" else "plain"
    given = compile_unet.example(network, variant, want.height, want.width, ROWS)
    free = compile_unet.free_dimensions(given)
    return _Subject(Compilable(network), given, free, partial(compile_unet.constants_of, network))


def compiled_into(
    folder: Path, network: Any, want: Want, buckets: tuple[int, ...] = (), **more: Any
) -> dict[str, float]:
    """Compile a network to `folder`/network.pt2, load that and compare it with the eager one on the same inputs.

    Answer: `seconds` of compiling, `gain` (eager time by compiled time), `difference` (largest deviation by the largest number),
    `graphs` (gain with CUDA graphs, 0 where they fail or answer otherwise). `more`: options of inductor.
    """
    subject = _subject(network, want)
    eagerly, inputs = subject.network, subject.inputs
    began = time.monotonic()
    with torch.no_grad():
        program = torch.export.export(eagerly, inputs, dynamic_shapes=subject.free, strict=False)
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(folder / PACKAGE),
            inductor_configs=inductor_options(inputs[0].device) | more,
        )
    seconds = time.monotonic() - began
    package = torch._inductor.aoti_load_package(str(folder / PACKAGE))
    package.load_constants(subject.constants(package.get_constant_fqns()), check_full_update=True, user_managed=True)
    with torch.inference_mode():
        eager, compiled = eagerly(*inputs).float(), package(*inputs).float()
        difference = float((eager - compiled).abs().max() / eager.abs().max().clamp_min(1e-9))
        if not bool(torch.isfinite(compiled).all()):
            difference = float("inf")
        gain = _gain(eagerly, package, inputs)
        graphs = _with_graphs(eagerly, package, inputs, compiled, buckets) if buckets else 0.0
    return {
        "seconds": round(seconds, 1),
        "gain": round(gain, 3),
        "difference": difference,
        "graphs": round(graphs, 3),
    }


def _with_graphs(
    eager: Callable[..., Any],
    package: Callable[..., Any],
    inputs: Any,
    wanted: torch.Tensor,
    buckets: tuple[int, ...],
) -> float:
    """The gain of replaying compiled code as a graph; 0 where that fails or gives other numbers. The engine uses graphs of no
    code that was not found to work here."""
    try:
        graphs = Graphs(buckets, CudaRecorder())

        def replayed(*given: Any) -> torch.Tensor:
            return graphs.run("worker", package, given)

        bound = GRAPH_BOUND * wanted.abs().max()
        if not bool(((replayed(*inputs).float() - wanted).abs() <= bound).all()):
            return 0.0
        return _gain(eager, replayed, inputs)
    except (RuntimeError, torch.AcceleratorError):
        return 0.0


def inductor_options(device: torch.device) -> dict[str, Any]:
    """Weights stay outside the code; threads are the engine's, not those of this process; nothing is read that an earlier,
    perhaps killed, compilation left."""
    options: dict[str, Any] = {
        "aot_inductor.package_constants_in_so": False,
        # Without it biases of up to eight numbers, such as the last layer's, are written into the code.
        "always_keep_tensor_constants": True,
        "force_disable_caches": True,
    }
    if device.type == "cpu":
        options["cpp.dynamic_threads"] = True
    return options


def _gain(eager: Callable[..., Any], compiled: Callable[..., Any], inputs: tuple[Any, ...]) -> float:
    """By turns, the fastest of each: others may be using the device meanwhile."""
    best = {eager: float("inf"), compiled: float("inf")}
    end, rounds = time.monotonic() + MEASURED_SECONDS, 0
    while rounds < 2 or time.monotonic() < end:
        for run in best:
            began = time.monotonic()
            run(*inputs)
            if inputs[0].device.type == "cuda":
                torch.cuda.synchronize()
            best[run] = min(best[run], time.monotonic() - began)
        rounds += 1
    return best[eager] / best[compiled]


def main() -> int:
    """One job from the command line, its answer as the last line of standard output."""
    ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)
    os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
    torch.set_num_threads(1)
    op, job = sys.argv[1], json.loads(sys.argv[2])
    answer = listed(job) if op == "list" else made(job)
    print("\n" + json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
