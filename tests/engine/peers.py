"""diffusers' own pipelines and networks beside the engine's: the same weights, noise and prompts, their code.

Euler over four steps visits timesteps 999, 666, 333 and 0, so that both sides' noise levels are the model's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import danqing
from danqing.engine.models import Model
from danqing.request import GenerateRequest

STEPS = 4

BASE = GenerateRequest(
    prompt="a photo of a cat, trees",
    negative_prompt="blurry, lowres",
    sampler="Euler",
    steps=STEPS,
    width=128,
    height=128,
    seed=42,
    model="tiny-sd15",
    rng="CPU",
)


def model_of(bench: Any, name: str = "tiny-sd15") -> Model:
    """The engine's checkpoint."""
    from danqing.engine.calls import Load

    store = bench.workshop.models
    model: Model = store.acquire(Load(bench.workshop.studio.checkpoint(name))).result()
    store.release(model)
    return model


def scheduler() -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def parts(model: Model) -> dict[str, Any]:
    """What every pipeline is made from."""
    from transformers import CLIPTokenizer

    return {
        "vae": model.vae,
        "text_encoder": model.text,
        "tokenizer": CLIPTokenizer.from_pretrained(Path(danqing.__file__).parent / "assets" / "clip"),
        "unet": model.unet,
        "scheduler": scheduler(),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def noise(request: GenerateRequest) -> torch.Tensor:
    """(1, 4, h, w), what the request's seed draws."""
    shape = (1, 4, request.height // 8, request.width // 8)
    return torch.randn(shape, generator=torch.Generator().manual_seed(request.seed))


@torch.no_grad()
def drawn(pipeline: Any, request: GenerateRequest, **more: Any) -> torch.Tensor:
    """The final latent of a pipeline's run, (4, h, w)."""
    pipeline.set_progress_bar_config(disable=True)
    done = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        num_inference_steps=request.steps,
        guidance_scale=request.cfg_scale,
        width=request.width,
        height=request.height,
        latents=noise(request),
        output_type="latent",
        **more,
    )
    latent: torch.Tensor = done.images[0]
    return latent


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """Relative distance of two latents."""
    return float((a - b).norm() / b.norm())


def randomised(module: Any, seed: int, gain: float = 1.0) -> Any:
    """The module with every weight drawn anew: matrices of a size that keeps signals alive, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.named_parameters():
            fresh = torch.randn(value.shape, generator=generator)
            if value.ndim >= 2:
                value.copy_(fresh * gain / max(1, value[0].numel()) ** 0.5)
            else:
                value.copy_(1 + 0.1 * fresh if name.endswith("weight") else 0.05 * fresh)
    return module.eval().requires_grad_(False)


def photograph(seed: int, width: int = 128, height: int = 128) -> Image.Image:
    """A picture of soft colours and one bright disc."""
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    whole = np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    down, across = np.mgrid[:height, :width]
    whole[(down - height // 2) ** 2 + (across - width // 3) ** 2 < (height // 5) ** 2] = (250, 240, 60)
    return Image.fromarray(whole)
