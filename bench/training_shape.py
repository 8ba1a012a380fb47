"""One step of every method on a model of SD 1.5's shape with random weights, and the memory it took beside the estimate.

On a CPU the process's own peak is measured, which holds Python and torch besides; on a GPU torch's. Full DreamBooth in float32
needs about 16 GB.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from bench.overhead import SD15
from bench.report import Cell, show
from danqing.engine.building import meta_parts
from danqing.library.keys import UNET, VAE
from danqing.library.tensors import Row, write_safetensors
from danqing.mini.keys import text_key, unet_key, vae_key
from danqing.train.folder import create
from danqing.train.memory import estimate_for
from danqing.train.recipe import METHODS, parsed

FIELDS = {"name": "one", "model": "random.safetensors", "steps": 1, "save_every": 0, "rank": 16, "vectors": 4}


def write_random(path: Path) -> None:
    """A checkpoint of SD 1.5's shape, float16: one block of noise over and over, since fresh noise takes half a minute."""
    block = (torch.randn(2**20) * 0.02).half()
    parts = meta_parts(SD15)
    named = {unet_key(n): p.shape for n, p in parts["unet"].named_parameters()}
    named |= {vae_key(n): p.shape for n, p in parts["vae"].named_parameters()}
    named |= {text_key(n): p.shape for n, p in parts["text0"].named_parameters()}

    def made(shape: torch.Size) -> torch.Tensor:
        count = shape.numel()
        return block.repeat(-(-count // len(block)))[:count].view(shape)

    rows = [Row(name, "F16", tuple(shape), lambda shape=shape: made(shape)) for name, shape in named.items()]  # type: ignore[misc]
    assert {name.split(".")[0] + "." for name in named} >= {UNET.split(".")[0] + ".", VAE}
    write_safetensors(path, rows, {})


def measured(root: Path, method: str, resolution: int, precision: str, device: str) -> dict[str, Cell]:
    """A worker of its own for each method, so that none sees another's peak."""
    fields = FIELDS | {"method": method, "resolution": resolution, "precision": precision}
    recipe = parsed(fields | {"data": str(root / "pictures"), "name": f"one-{random.randrange(10**9)}"})
    training = create(root, recipe)
    command = [
        sys.executable,
        "-m",
        "danqing.train.worker",
        str(training.path),
        "--data",
        str(root),
        "--device",
        device,
    ]
    subprocess.run(command, check=True)
    result = training.result()
    assert result is not None
    root.joinpath(result["files"][0]["path"]).unlink()
    training.checkpoint.unlink()
    figures, found = result["figures"], estimate_for(root, recipe)
    return {
        "method": method,
        "resolution": resolution,
        "precision": precision,
        "loss": figures["loss"],
        "step s": figures["seconds"],
        "peak MB": figures["peak_bytes"] // 2**20,
        "estimated MB": found.megabytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.training_shape", description=__doc__)
    parser.add_argument("methods", nargs="*", metavar="METHOD", help="which; all when none is named")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "fp16", "bf16"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_random(root / "models" / "Stable-diffusion" / "random.safetensors")
        (root / "pictures").mkdir()
        pixels = np.random.default_rng(0).integers(0, 255, (512, 512, 3), np.uint8)
        Image.fromarray(pixels).save(root / "pictures" / "a.png")
        rows = [
            measured(root, method, options.resolution, options.precision, options.device)
            for method in options.methods or METHODS
        ]
    notes = [
        "Peak: of the whole process on a CPU, Python and torch (about 600 MB) included; of torch's allocator on a GPU. "
        "Estimated: what a person is told before the start, for a GPU."
    ]
    show("training_shape", "One step of each method, SD 1.5's shape, random weights", rows, notes)


if __name__ == "__main__":
    main()
