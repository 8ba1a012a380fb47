"""From a picture to a prompt: BLIP writes a caption, CLIP adds the words of given lists that fit best.

Both are optional. BLIP (Li et al. 2022, https://arxiv.org/abs/2201.12086) lies under DATA/models/interrogate/blip, CLIP
(Radford et al. 2021, https://arxiv.org/abs/2103.00020) under DATA/models/interrogate/clip, each a folder in transformers'
layout; the lists are DATA/interrogate/NAME.txt, one entry a line, of which NAME_topN.txt adds the best N.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing import torchvision_shim as torchvision_shim  # before transformers
from danqing.errors import DanqingError

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP and BLIP learnt from, red, green, blue."""

BATCH = 64
"""Entries of a list that CLIP reads at once."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a caption is written. Lengths are in tokens; `limit`: most entries read from a list, 0 for all."""

    beams: int = 1
    shortest: int = 24
    longest: int = 48
    limit: int = 1500


def interrogate(
    image: Image.Image, data: Path, device: torch.device | None = None, manner: Manner | None = None
) -> str:
    """A prompt for `image`. The networks are read for the call and dropped after it.

    Raises:
        DanqingError: `files_missing` names what is not there; `model_broken`.
    """
    place, how = device or torch.device("cpu"), manner or Manner()
    prompt = caption(image, folder_of(data, "blip"), place, how)
    lists = sorted((data / "interrogate").glob("*.txt"))
    if lists and (data / "models" / "interrogate" / "clip").is_dir():
        prompt += "".join(f", {word}" for word in fitting(image, folder_of(data, "clip"), lists, place, how))
    return prompt


def folder_of(data: Path, part: str) -> Path:
    """The folder of a network.

    Raises:
        DanqingError: `files_missing`.
    """
    folder = data / "models" / "interrogate" / part
    missing = [name for name in ("config.json", "model.safetensors", "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise DanqingError("files_missing", feature="interrogate", files=", ".join(missing), folder=str(folder))
    return folder


@torch.inference_mode()
def caption(image: Image.Image, folder: Path, device: torch.device, manner: Manner) -> str:
    """What BLIP says of the picture."""
    from transformers import BlipForConditionalGeneration

    model, tokenizer = _loaded(BlipForConditionalGeneration, folder, device)
    pixels = tensor_of(image, model.config.vision_config.image_size).to(device)
    tokens = model.generate(
        pixel_values=pixels,
        num_beams=manner.beams,
        min_length=manner.shortest,
        max_length=manner.longest,
        do_sample=False,
    )
    return str(tokenizer.decode(tokens[0].tolist(), skip_special_tokens=True)).strip()


@torch.inference_mode()
def fitting(image: Image.Image, folder: Path, lists: Sequence[Path], device: torch.device, manner: Manner) -> list[str]:
    """The entries of each list that CLIP finds most like the picture, the best first, lists in order."""
    from transformers import CLIPModel

    model, tokenizer = _loaded(CLIPModel, folder, device)
    tokenizer.enable_truncation(model.config.text_config.max_position_embeddings)
    pad = model.config.text_config.eos_token_id
    tokenizer.enable_padding(pad_id=pad if isinstance(pad, int) else 0)
    pixels = tensor_of(image, model.config.vision_config.image_size).to(device)
    wanted = _unit(model.visual_projection(model.vision_model(pixels).pooler_output))[0]
    found: list[str] = []
    for path in lists:
        entries = entries_of(path, manner.limit)
        parts = [entries[at : at + BATCH] for at in range(0, len(entries), BATCH)]
        if parts:
            scores = torch.cat([_unit(_texts(model, tokenizer, part, device)) @ wanted for part in parts])
            best = scores.topk(min(top_of(path), len(entries))).indices
            found += [entries[int(index)] for index in best]
    return found


def _texts(model: Any, tokenizer: Any, entries: Sequence[str], device: torch.device) -> torch.Tensor:
    read = tokenizer.encode_batch(list(entries))
    ids, mask = (
        torch.tensor([getattr(text, part) for text in read], device=device) for part in ("ids", "attention_mask")
    )
    features: torch.Tensor = model.text_projection(model.text_model(input_ids=ids, attention_mask=mask).pooler_output)
    return features


def _unit(features: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(features, dim=-1)


def _loaded(kind: Any, folder: Path, device: torch.device) -> tuple[Any, Any]:
    """A network of transformers and its tokenizer, from disk alone."""
    from tokenizers import Tokenizer

    try:
        model = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        return model.to(device).eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises bare Exception
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DanqingError("model_broken", name=f"interrogate/{folder.name}", reason=reason) from error


def tensor_of(image: Image.Image, side: int) -> torch.Tensor:
    """(1, 3, side, side), as CLIP and BLIP see a picture: stretched to a square, bicubic, normalised."""
    small = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    values = (np.asarray(small, np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(DEVIATION, np.float32)
    return torch.from_numpy(values).permute(2, 0, 1)[None].contiguous()


def entries_of(path: Path, limit: int = 0) -> list[str]:
    """The lines of a list, without the empty ones, the first `limit` of them."""
    lines = [line.strip() for line in path.read_text("utf-8", errors="replace").splitlines()]
    filled = [line for line in lines if line]
    return filled[:limit] if limit else filled


def top_of(path: Path) -> int:
    """How many entries of a list are added: N for NAME_topN.txt, 1 for any other name."""
    match = re.search(r"_top(\d+)$", path.stem)
    return max(1, int(match[1])) if match else 1
