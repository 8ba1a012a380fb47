"""Merging checkpoints as the WebUI does: weighted sum, add difference, or one checkpoint with another VAE.

Tensor by tensor: two files of any size are merged within the memory of their largest tensors.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from danqing.errors import DanqingError
from danqing.library.header import Entry
from danqing.library.keys import UNET, VAE, vae_name
from danqing.library.tensors import DTYPES, FLOATS, Row, TensorReader, write_safetensors
from danqing.library.weights import Weights, open_weights

Method = Literal["weighted sum", "add difference", "no interpolation"]
Precision = Literal["keep", "fp16", "bf16", "fp32"]
PRECISIONS = {"fp16": "F16", "bf16": "BF16", "fp32": "F32"}

LEVEL = re.compile(r"\.(?:down|up)\.(\d+)\.")

FIRST = UNET + "input_blocks.0.0.weight"
"""The one tensor whose shape differs between a plain, an inpainting and an instruct-pix2pix model."""


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that goes in. `sha256`: for the recipe in the metadata."""

    path: Path
    name: str
    sha256: str
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to make. A weighted sum is A·(1 − M) + B·M, an added difference A + (B − C)·M.

    `discard`: a regular expression; tensors in whose names it is found are left out. `vae`: a file that takes the place of the
    VAE. `config_from`: whose YAML is copied; "any" is the first that has one.
    """

    method: Method
    primary: Source
    secondary: Source | None = None
    tertiary: Source | None = None
    multiplier: float = 0.3
    precision: Precision = "keep"
    vae: Path | None = None
    discard: str = ""
    config_from: Literal["any", "B", "C", "none"] = "any"
    copy_metadata: bool = True
    record: bool = True
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Source, ...]:
        """Those that the method reads."""
        used = {"weighted sum": 2, "add difference": 3, "no interpolation": 1}[self.method]
        found = (self.primary, self.secondary, self.tertiary)[:used]
        if None in found:
            raise DanqingError("merge_lacks", method=self.method, count=used)
        return tuple(source for source in found if source is not None)

    @property
    def default_name(self) -> str:
        """As the WebUI names what was given no name."""
        names, m = [Path(source.name).stem for source in self.sources], self.multiplier
        # Disks take 255 bytes, the ending among them; long names are cut short.
        names = [
            name.encode("utf-8", "surrogateescape")[: 200 // len(names)].decode("utf-8", "ignore") for name in names
        ]
        if self.method == "weighted sum":
            return f"{round(1 - m, 2)}({names[0]}) + {round(m, 2)}({names[1]})"
        if self.method == "add difference":
            return f"{names[0]} + {round(m, 2)}({names[1]} - {names[2]})"
        return names[0]


Tell = Callable[[float], None]


def merge(recipe: Recipe, target: Path, overwrite: bool = False, tell: Tell | None = None) -> None:
    """Write the merged checkpoint to `target`, a `.safetensors` file, with its YAML beside it.

    `tell` hears before each tensor which share of them is written, and may raise to end it.

    Raises:
        DanqingError: `merge_lacks`, `merge_misfit`, `invalid_field`, what reading and writing raise.
    """
    sources = recipe.sources
    pattern = compiled(recipe.discard)
    with ExitStack() as stack:
        readers = [stack.enter_context(TensorReader(open_single(source.path))) for source in sources]
        vae = stack.enter_context(TensorReader(open_weights(recipe.vae))) if recipe.vae else None
        rows = [row for row in _rows(recipe, readers, vae) if pattern is None or not pattern.search(row.name)]
        if tell is not None:
            rows = [replace(row, make=partial(_told, tell, place / len(rows), row)) for place, row in enumerate(rows)]
        write_safetensors(target, rows, _metadata(recipe, readers[0].entries), overwrite)
    _copy_config(recipe, target)


def _told(tell: Tell, share: float, row: Row) -> torch.Tensor:
    tell(share)
    return row.make()


def open_single(path: Path) -> Weights:
    """A checkpoint's weights; a folder in diffusers' layout has other names and cannot be merged.

    Raises:
        DanqingError: `merge_misfit`.
    """
    weights = open_weights(path)
    if weights.configs:
        raise DanqingError("merge_misfit", name=path.name, reason="it is a folder in diffusers' layout")
    return weights


def compiled(discard: str) -> re.Pattern[str] | None:
    """
    Raises:
        DanqingError: `invalid_field`, for what is no regular expression.
    """
    try:
        return re.compile(discard) if discard else None
    except re.error as error:
        raise DanqingError("invalid_field", field="discard", reason=str(error)) from None


def _rows(recipe: Recipe, readers: list[TensorReader], vae: TensorReader | None) -> Iterator[Row]:
    primary = readers[0]
    baked = _places(recipe, primary, vae) if vae is not None else {}
    for name, entry in primary.entries.items():
        word, shape = written(name, entry, recipe.precision), entry.shape
        if name.endswith("position_ids"):
            yield Row(name, entry.dtype, entry.shape, partial(primary.get, name))
            continue
        inside = baked.get(name)
        if vae is not None and inside is not None:
            other = vae.entries[inside]
            if other.shape != shape and [n for n in other.shape if n != 1] != [n for n in shape if n != 1]:
                raise DanqingError("merge_misfit", name=inside, reason=f"{list(other.shape)} and {list(shape)}")
            yield Row(name, word, shape, partial(_baked, vae, inside, shape))
        elif len(readers) == 1 or entry.dtype not in FLOATS or any(name not in reader for reader in readers[1:]):
            yield Row(name, word, shape, partial(primary.get, name))
        else:
            _check(name, [reader.entries[name].shape for reader in readers])
            yield Row(name, word, shape, partial(_mixed, recipe, readers, name))


def _places(recipe: Recipe, primary: TensorReader, vae: TensorReader) -> dict[str, str]:
    """The primary model's tensors that the VAE's take the place of, and their names there: in the original code's or diffusers'.

    Raises:
        DanqingError: `merge_misfit`, where none is.
    """
    own = [name for name in primary.entries if name.startswith(VAE)]
    levels = max((int(level[1]) + 1 for name in own if (level := LEVEL.search(name))), default=1)
    theirs = {_common(name, levels): name for name in vae.entries}
    found = {name: theirs[key] for name in own if (key := _common(name, levels)) in theirs}
    if not found:
        name = recipe.vae.name if recipe.vae else ""
        raise DanqingError("merge_misfit", name=name, reason="it holds no VAE that this model can take")
    return found


def _common(name: str, levels: int) -> str:
    """A VAE's tensor by one name in all layouts."""
    bare = name.removeprefix(VAE)
    return vae_name(bare, levels) if bare.startswith(("encoder.", "decoder.")) else bare


def _baked(vae: TensorReader, name: str, shape: tuple[int, ...]) -> torch.Tensor:
    return vae.get(name).reshape(shape)


def written(name: str, entry: Entry, precision: Precision) -> str:
    """The dtype word that a tensor is written with.

    Raises:
        DanqingError: `merge_misfit`, for numbers that torch has not.
    """
    if entry.dtype not in DTYPES:
        raise DanqingError("merge_misfit", name=name, reason=f"numbers of the type {entry.dtype[:20]}")
    return PRECISIONS.get(precision, entry.dtype) if entry.dtype in FLOATS else entry.dtype


def _check(name: str, shapes: list[tuple[int, ...]]) -> None:
    first = shapes[0]
    if len(shapes) > 2 and shapes[1] != shapes[2]:
        raise DanqingError("merge_misfit", name=name, reason=f"B has {list(shapes[1])} and C has {list(shapes[2])}")
    for other in shapes[1:]:
        if other == first:
            continue
        grown = name == FIRST and other[:1] + other[2:] == first[:1] + first[2:]
        if grown and other[1] == 4 and first[1] in (5, 8, 9):
            continue
        if grown and first[1] == 4:
            reason = f"one with {other[1]} input channels (inpainting, instruct-pix2pix or depth) must be A, the primary model"
            raise DanqingError("merge_misfit", name=name, reason=reason)
        raise DanqingError("merge_misfit", name=name, reason=f"{list(first)} and {list(other)}")


def _mixed(recipe: Recipe, readers: list[TensorReader], name: str) -> torch.Tensor:
    """In float32. Of a model with more input channels only the latent's four are mixed."""
    first, *others = (reader.get(name).float() for reader in readers)
    m = recipe.multiplier
    part = first[:, : others[0].shape[1]] if first.shape != others[0].shape else first
    summed = recipe.method == "weighted sum"
    mixed = part * (1 - m) + others[0] * m if summed else part + (others[0] - others[1]) * m
    if mixed.shape == first.shape:
        return mixed
    result = first.clone()
    result[:, : mixed.shape[1]] = mixed
    return result


def _metadata(recipe: Recipe, entries: dict[str, Entry]) -> dict[str, str]:
    found: dict[str, str] = {}
    for source in reversed(recipe.sources) if recipe.copy_metadata else ():
        found |= {key: value for key, value in open_weights(source.path).metadata.items() if key != "format"}
    found |= recipe.metadata
    if not recipe.record:
        return found
    ids = [source.sha256 for source in recipe.sources]
    channels = entries[FIRST].shape[1] if FIRST in entries else 4
    found["sd_merge_recipe"] = json.dumps(
        {
            "type": "danqing",
            **dict(zip(("primary_model_hash", "secondary_model_hash", "tertiary_model_hash"), ids, strict=False)),
            "interp_method": recipe.method.capitalize(),
            "multiplier": recipe.multiplier,
            "save_as_half": recipe.precision == "fp16",
            "config_source": recipe.config_from,
            "bake_in_vae": recipe.vae.name if recipe.vae else "None",
            "discard_weights": recipe.discard,
            "is_inpainting": channels == 9,
            "is_instruct_pix2pix": channels == 8,
        },
        ensure_ascii=False,
    )
    models = {source.sha256: {"name": source.name} for source in recipe.sources}
    found["sd_merge_models"] = json.dumps(models, ensure_ascii=False)
    return found


def _copy_config(recipe: Recipe, target: Path) -> None:
    sources = recipe.sources
    chosen = {"any": sources, "B": sources[1:2], "C": sources[2:3], "none": ()}[recipe.config_from]
    config = next((source.config for source in chosen if source.config is not None), None)
    if config is not None:
        shutil.copyfile(config, target.with_suffix(".yaml"))
