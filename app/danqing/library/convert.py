"""Converting a checkpoint: `.ckpt` to `.safetensors`, another precision, without what drawing has no use for."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from danqing.errors import DanqingError
from danqing.library.header import Entry
from danqing.library.keys import EMA, UNET, VAE, ema_name
from danqing.library.merge import Precision, compiled, open_single, written
from danqing.library.tensors import Row, TensorReader, write_safetensors

Kept = Literal["all", "no-ema", "ema-only"]

DRAWN = (UNET, VAE, "cond_stage_model.", "conditioner.", "v_pred", "ztsnr")
"""What the names of the tensors begin with that a picture is drawn with."""


def convert(
    source: Path,
    target: Path,
    precision: Precision = "keep",
    kept: Kept = "all",
    prune: bool = False,
    discard: str = "",
    overwrite: bool = False,
) -> None:
    """Write `source` to `target`, a `.safetensors` file; a YAML beside it is copied, its metadata are kept.

    Args:
        kept: "no-ema" leaves the running means of the UNet's weights out, "ema-only" puts them in the weights' place.
        prune: leave out everything but UNet, VAE and text encoders.
        discard: a regular expression; tensors in whose names it is found are left out.

    Raises:
        DanqingError: `merge_misfit`, for "ema-only" where there are none; what reading and writing raise.
    """
    weights = open_single(source)
    pattern = compiled(discard)
    with TensorReader(weights) as reader:
        rows = [
            row
            for row in _rows(reader, precision, kept, source.name)
            if (not prune or row.name.startswith(DRAWN)) and (pattern is None or not pattern.search(row.name))
        ]
        write_safetensors(target, rows, weights.metadata, overwrite)
    config = source.with_suffix(".yaml")
    if config.is_file() and config.resolve() != target.with_suffix(".yaml").resolve():
        shutil.copyfile(config, target.with_suffix(".yaml"))


def _rows(reader: TensorReader, precision: Precision, kept: Kept, name: str) -> Iterator[Row]:
    entries: dict[str, Entry] = reader.entries
    if kept == "ema-only" and not any(key.startswith(EMA + "diffusion_model") for key in entries):
        raise DanqingError("merge_misfit", name=name, reason="it holds no running means (EMA)")
    for key, entry in entries.items():
        if key.startswith(EMA) and kept != "all":
            continue
        source = ema_name(key) if kept == "ema-only" and key.startswith(UNET) and ema_name(key) in entries else key
        yield Row(key, written(key, entry, precision), entry.shape, partial(reader.get, source))
