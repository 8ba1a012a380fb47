"""From a picture to a prompt: BLIP writes a caption, CLIP adds the words of given lists that fit best; DeepDanbooru says tags.

All are optional. BLIP (Li et al. 2022, https://arxiv.org/abs/2201.12086) lies under DATA/models/interrogate/blip, CLIP
(Radford et al. 2021, https://arxiv.org/abs/2103.00020) under DATA/models/interrogate/clip, each a folder in transformers'
layout; the lists are DATA/interrogate/NAME.txt, one entry a line, of which NAME_topN.txt adds the best N.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from danqing import torchvision_shim as torchvision_shim  # before transformers
from danqing.engine import deepbooru, interrogators
from danqing.engine.interrogators import Manner
from danqing.errors import DanqingError

Made = TypeVar("Made")

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the pictures that CLIP and BLIP learnt from, red, green, blue."""

CPU = torch.device("cpu")

BATCH = 64
"""Entries of a list that CLIP reads at once."""


@dataclass(frozen=True, slots=True)
class Interrogators:
    """The networks of one data root. One call at a time, so that only one set of them is in memory."""

    data: Path
    device: torch.device = CPU
    kept: dict[Path, Any] = field(default_factory=dict)
    """What stays in memory between two calls."""
    turn: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, image: Image.Image, name: str, manner: Manner) -> str:
        """A prompt for `image` from the interrogator `name`; any thread may call it.

        Raises:
            DanqingError: `interrogator_missing`, `model_broken`, `model_unsafe`.
        """
        with self.turn:
            try:
                return self._tags(image, manner) if name == "deepdanbooru" else self._prompt(image, manner)
            finally:
                if not manner.keep:
                    self.forget()

    def forget(self) -> None:
        """Drop the networks that were kept."""
        self.kept.clear()

    def _tags(self, image: Image.Image, manner: Manner) -> str:
        path = interrogators.tagger(self.data)
        return deepbooru.tagged(
            image, self.loaded(path, lambda: deepbooru.load(path, self.device)), self.device, manner
        )

    def _prompt(self, image: Image.Image, manner: Manner) -> str:
        prompt = self.caption(image, interrogators.network(self.data, "blip"), manner)
        lists = [path for path in sorted((self.data / "interrogate").glob("*.txt")) if path.stem not in manner.skip]
        if lists and self.data.joinpath(*interrogators.FOLDER, "clip").is_dir():
            found = self.fitting(image, interrogators.network(self.data, "clip"), lists, manner)
            words = [f"({word}:{score:.3f})" if manner.ranks else word for word, score in found]
            prompt += "".join(f", {word}" for word in words)
        return prompt

    def loaded(self, path: Path, load: Callable[[], Made]) -> Made:
        """What `load` gives, or gave while it is kept."""
        if path not in self.kept:
            self.kept[path] = load()
        found: Made = self.kept[path]
        return found

    @torch.inference_mode()
    def caption(self, image: Image.Image, folder: Path, manner: Manner) -> str:
        """What BLIP says of the picture."""
        from transformers import BlipForConditionalGeneration

        model, tokenizer = self.loaded(folder, lambda: _loaded(BlipForConditionalGeneration, folder, self.device))
        pixels = tensor_of(image, model.config.vision_config.image_size).to(self.device)
        tokens = model.generate(
            pixel_values=pixels,
            num_beams=manner.beams,
            min_length=manner.shortest,
            max_length=manner.longest,
            do_sample=False,
        )
        return str(tokenizer.decode(tokens[0].tolist(), skip_special_tokens=True)).strip()

    @torch.inference_mode()
    def fitting(
        self, image: Image.Image, folder: Path, lists: Sequence[Path], manner: Manner
    ) -> list[tuple[str, float]]:
        """The entries of each list that CLIP finds most like the picture, the best first, lists in order.

        With each its probability among the entries of its list.
        """
        from transformers import CLIPModel

        model, tokenizer = self.loaded(folder, lambda: _loaded(CLIPModel, folder, self.device))
        tokenizer.enable_truncation(model.config.text_config.max_position_embeddings)
        pad = model.config.text_config.eos_token_id
        tokenizer.enable_padding(pad_id=pad if isinstance(pad, int) else 0)
        pixels = tensor_of(image, model.config.vision_config.image_size).to(self.device)
        wanted = _unit(model.visual_projection(model.vision_model(pixels).pooler_output))[0]
        found: list[tuple[str, float]] = []
        for path in lists:
            entries = entries_of(path, manner.limit)
            parts = [entries[at : at + BATCH] for at in range(0, len(entries), BATCH)]
            if parts:
                scores = torch.cat([_unit(_texts(model, tokenizer, part, self.device)) @ wanted for part in parts])
                best = (scores * model.logit_scale.exp()).softmax(0).topk(min(top_of(path), len(entries)))
                found += [(entries[index], sure) for sure, index in zip(*map(torch.Tensor.tolist, best), strict=True)]
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
