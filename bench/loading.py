"""A checkpoint of SD 1.5's size from disk to networks that can draw: time beside `dd` of the same file, and memory.

Every row runs in a process of its own that has imported what it needs before the clock starts. The file (2.1 GB, fp16, random
weights) is made once. "cold" is after its pages have left the page cache, "warm" after it has been read once.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import Cell, show
from danqing import torchvision_shim as torchvision_shim  # before diffusers and transformers

GB = 2**30


def make(path: Path) -> None:
    """Every tensor of SD 1.5 under its name, one block of noise over and over: fresh noise takes half a minute."""
    import torch

    from danqing.library.tensors import Row, write_safetensors
    from tests.library import layouts

    block = (torch.randn(2**20) * 0.02).half()

    def numbers(shape: tuple[int, ...]) -> torch.Tensor:
        count = torch.Size(shape).numel()
        return block.repeat(-(-count // len(block)))[:count].reshape(shape)

    shapes = layouts.shapes(layouts.FULL["sd1"])
    rows = [Row(name, "F16", shape, lambda shape=shape: numbers(shape)) for name, shape in shapes.items()]  # type: ignore[misc]
    write_safetensors(path, rows, {})


def drop(path: Path) -> None:
    """Take a file's pages out of the page cache; no privilege is needed for that."""
    os.sync()
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def warm(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(2**24):
            pass


def dd(path: Path) -> float:
    """Seconds that dd says it took."""
    done = subprocess.run(
        ["dd", f"if={path}", "of=/dev/null", "bs=16M"], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
    )
    found = re.search(r"([\d.]+) s,", done.stderr)
    assert found is not None, done.stderr
    return float(found[1])


def peak() -> float:
    """Most memory that this process ever had, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GB


def ours(path: Path, dtype: str) -> dict[str, float]:
    """Load with Danqing; `hashed`: when the sha256 was known too."""
    import diffusers.models.autoencoders.autoencoder_kl
    import diffusers.models.unets.unet_2d_condition  # noqa: F401
    import torch
    from transformers import CLIPTextModel  # noqa: F401

    from danqing.engine import models
    from danqing.library.index import Checkpoint, Library

    library = Library(path.parent / f"nothing-{os.getpid()}")
    checkpoint = Checkpoint(path.name, path, None, None, 512, "")
    idle, start = peak(), time.perf_counter()
    model = models.load(checkpoint, torch.device("cpu"), getattr(torch, dtype), library.sha256_of)
    seconds = time.perf_counter() - start
    model.hashed.result()
    parts = [model.unet, model.vae, model.text]
    weights = sum(row.numel() * row.element_size() for part in parts for row in part.parameters()) / GB
    return {"seconds": seconds, "hashed": time.perf_counter() - start, "above": peak() - idle, "weights": weights}


def theirs(path: Path, dtype: str) -> dict[str, float]:
    """Load with diffusers' `from_single_file`, all its configurations from a local folder."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    from danqing.engine import building
    from danqing.library.architecture import recognise
    from tests.library import layouts

    architecture = recognise("sd15", layouts.shapes(layouts.FULL["sd1"]), None)
    with tempfile.TemporaryDirectory() as folder:
        for part, module in building.meta_parts(architecture).items():
            target = Path(folder) / part
            target.mkdir()
            (target / "config.json").write_text(
                module.config.to_json_string() if part == "text0" else module.to_json_string()
            )
        kind = getattr(torch, dtype)
        idle, start = peak(), time.perf_counter()
        more: dict[str, Any] = {"torch_dtype": kind, "local_files_only": True}
        unet = UNet2DConditionModel.from_single_file(str(path), config=folder, subfolder="unet", **more)
        vae = AutoencoderKL.from_single_file(str(path), config=folder, subfolder="vae", **more)
        from safetensors.torch import load_file

        prefix = "cond_stage_model.transformer.text_model."
        state = {k.removeprefix(prefix): v.to(kind) for k, v in load_file(path).items() if k.startswith(prefix)}
        text = CLIPTextModel(CLIPTextModel.config_class.from_pretrained(Path(folder) / "text0"))
        text.load_state_dict(state, strict=False, assign=True)
        seconds = time.perf_counter() - start
        parts = [unet, vae, text]
        weights = sum(row.numel() * row.element_size() for part in parts for row in part.parameters()) / GB
        return {"seconds": seconds, "above": peak() - idle, "weights": weights}


def measured(who: str, dtype: str, path: Path) -> dict[str, float]:
    """One load in a process of its own."""
    command = [sys.executable, "-m", "bench.loading", "--child", who, "--dtype", dtype, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def row(name: str, state: str, found: dict[str, float], reading: float) -> dict[str, Cell]:
    return {
        "what": name,
        "file": state,
        "seconds": round(found["seconds"], 2),
        "times dd": round(found["seconds"] / reading, 2),
        "sha256 known after": round(found["hashed"], 2) if "hashed" in found else None,
        "weights GB": round(found["weights"], 2) if "weights" in found else None,
        "peak above idle GB": round(found["above"], 2) if "above" in found else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, default=Path(tempfile.gettempdir()) / "danqing-bench-sd15.safetensors")
    parser.add_argument("--child", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--dtype", default="float32", help=argparse.SUPPRESS)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.child:
        print(json.dumps((ours if given.child == "ours" else theirs)(given.file, given.dtype)))
        return
    if not given.file.is_file():
        make(given.file)
    runs: dict[str, Callable[[], dict[str, float]]] = {"dd": lambda: {"seconds": dd(given.file)}}
    for name, who in (("danqing", "ours"), ("diffusers", "theirs")):
        for dtype in ("float16", "float32"):
            runs[f"{name} {dtype}"] = lambda who=who, dtype=dtype: measured(who, dtype, given.file)  # type: ignore[misc]
    rows: list[dict[str, Cell]] = []
    for state, prepare in (("cold", drop), ("warm", warm)):
        # In turn, since a cloud's disk is another one from minute to minute.
        found: dict[str, list[dict[str, float]]] = {name: [] for name in runs}
        for _ in range(given.repeats):
            for name, run in runs.items():
                prepare(given.file)
                found[name].append(run())
        best = {name: min(several, key=lambda one: one["seconds"]) for name, several in found.items()}
        rows += [row(name, state, one, best["dd"]["seconds"]) for name, one in best.items()]
    show(
        "loading",
        "Loading a checkpoint of SD 1.5's size (2.1 GB, fp16)",
        rows,
        [f"The best of {given.repeats} runs each, which took turns."],
    )


if __name__ == "__main__":
    main()
