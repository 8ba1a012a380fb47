"""The safety checker of Stable Diffusion: looks at finished pictures and finds those that are not to be seen by everybody.

It is the network of CompVis/stable-diffusion-safety-checker under DATA/models/safety_checker in transformers' layout, run by
diffusers. What it finds and what it misses: Rando et al. 2022, https://arxiv.org/abs/2210.04610
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from danqing.engine.interrogate import tensor_of
from danqing.engine.protocol import ImageFacts
from danqing.errors import DanqingError

FOLDER = ("models", "safety_checker")
FILES = ("config.json", "model.safetensors")

SHOWN = ("image", "grid", "composite")
"""Roles of pictures that it looks at; masks and control maps show nothing that was drawn."""

TOLD = {"Safety checker": "withheld"}
"""What the infotext says of a picture that was found."""

Pixels = np.ndarray[Any, Any]


@dataclass(slots=True)
class SafetyChecker:
    """The network of one data root, read when the first picture is there."""

    data: Path
    device: torch.device
    _network: Any = field(default=None)

    def present(self) -> None:
        """
        Raises:
            DanqingError: `files_missing`: what is to be checked cannot be, and so is not drawn.
        """
        folder = self.data.joinpath(*FOLDER)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise DanqingError(
                "files_missing", feature="safety_checker", files=", ".join(missing), folder=f"DATA/{'/'.join(FOLDER)}"
            )

    def seen(self, pixels: Pixels, facts: ImageFacts) -> tuple[Pixels, ImageFacts]:
        """The picture (uint8, (h, w, 3 or 4)) as it may be handed out: black in the place of one that is found.

        Raises:
            DanqingError: `files_missing`, `model_broken`.
        """
        if facts.role not in SHOWN or not self.unsafe(pixels):
            return pixels, facts
        black = np.zeros_like(pixels)
        black[..., 3:] = 255
        return black, ImageFacts.from_dict({**facts.as_dict(), "extra": {**facts.extra, **TOLD}})

    @torch.inference_mode()
    def unsafe(self, pixels: Pixels) -> bool:
        """Whether it finds something in the picture."""
        network = self._loaded()
        side = network.config.vision_config.image_size
        shown = tensor_of(Image.fromarray(pixels).convert("RGB"), side).to(self.device)
        # It blackens what it is given beside the tensor: one pixel will do.
        _, found = network(shown, [np.ones((1, 1, 3), np.float32)])
        return bool(found[0])

    def forget(self) -> None:
        """Let go of the network until the next picture."""
        self._network = None

    def _loaded(self) -> Any:
        if self._network is None:
            from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

            self.present()
            try:
                network = StableDiffusionSafetyChecker.from_pretrained(
                    self.data.joinpath(*FOLDER), local_files_only=True, use_safetensors=True
                )
            except Exception as error:  # safetensors raises a bare Exception
                raise DanqingError("model_broken", name="safety_checker", reason=str(error)[:200]) from error
            self._network = network.to(self.device).eval()
        return self._network
