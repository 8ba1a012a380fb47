"""Pictures drawn with the networks as they are in memory: samples of a training, and those that prior preservation needs."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from PIL import Image

from danqing.train.methods.base import Method
from danqing.train.networks import Networks
from danqing.train.text import Encoding


class Painter:
    """Draws with diffusers' pipeline: DPM++ 2M Karras, classifier-free guidance."""

    def __init__(self, networks: Networks, precision: torch.dtype) -> None:
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

        first, last, count = networks.model.architecture.betas
        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=count,
            beta_start=first,
            beta_end=last,
            beta_schedule="scaled_linear",
            steps_offset=1,
            algorithm_type="dpmsolver++",
            use_karras_sigmas=True,
            prediction_type="v_prediction" if networks.is_v else "epsilon",
        )
        self._networks, self._precision = networks, precision
        self._pipeline: Any = StableDiffusionPipeline(
            vae=networks.vae,
            text_encoder=networks.text,
            tokenizer=None,
            unet=networks.unet,
            scheduler=scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        self._pipeline.set_progress_bar_config(disable=True)

    @torch.no_grad()
    def draw(
        self,
        encode: Encoding,
        prompts: Sequence[str],
        seeds: Sequence[int],
        size: tuple[int, int],
        steps: int,
        guidance: float,
        negative: str = "",
    ) -> list[Image.Image]:
        """One picture (width, height) a prompt, each with its own seed."""
        device = self._networks.device
        with torch.autocast(device.type, self._precision, enabled=self._precision != torch.float32):
            both = encode([*prompts, negative]).to(self._networks.unet.dtype)
            found: list[Image.Image] = self._pipeline(
                prompt_embeds=both[:-1],
                negative_prompt_embeds=both[-1:].expand(len(prompts), -1, -1),
                width=size[0],
                height=size[1],
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            ).images
        return found


def sampled(painter: Painter, method: Method, resolution: int) -> Iterator[bytes]:
    """The recipe's sample prompts as PNGs, seeds from the recipe's on. One at a time: the memory was sized for the training."""
    recipe = method.recipe
    method.train(False)
    try:
        for index, prompt in enumerate(recipe.samples):
            (picture,) = painter.draw(
                method.encode,
                [prompt.replace("[name]", recipe.word)],
                [recipe.seed + index],
                (resolution, resolution),
                recipe.sample_steps,
                recipe.sample_guidance,
                recipe.sample_negative,
            )
            yield png(picture)
    finally:
        method.train(True)


def png(picture: Image.Image) -> bytes:
    """As a file."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
