"""Input pictures and masks made ready, by the small checkpoint's own latents: what the WebUI encoded from the same files.

No sampler takes part except in soft inpainting, where a plain Euler walk does.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image

from danqing.engine.calls import Load, Track, Work
from danqing.engine.image_to_image import _canvas, canvas
from danqing.engine.models import Model
from danqing.engine.passes import Scene
from danqing.imaging import masks, resize, soft
from danqing.options import DrawOptions
from danqing.request import GenerateRequest, Inpaint, SoftInpainting

from .conftest import Bench

REFERENCE = Path(__file__).parent / "reference"
TOLERANCE = 2e-4

Prepare = Callable[[dict[str, Any], Image.Image], Image.Image]


@pytest.fixture(scope="module")
def model(shared_bench: Bench) -> Model:
    workshop = shared_bench.workshop
    found: Model = workshop.models.acquire(Load(workshop.library.resolve("tiny-sd15"))).result()
    workshop.models.release(found)
    return found


def case(name: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    request = json.loads((REFERENCE / "img2img" / f"{name}.json").read_text("utf-8"))["request"]
    with np.load(REFERENCE / "img2img" / f"{name}.0.npz") as arrays:
        return request, dict(arrays)


def given(reference: str) -> Image.Image:
    return Image.open(REFERENCE / reference.removeprefix("@"))


@torch.inference_mode()
def encoded(model: Model, image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image.convert("RGB"))).float() / 255 * 2 - 1
    mean = model.vae.encode(pixels.permute(2, 0, 1)[None]).latent_dist.mean
    return mean[0] * model.vae.config.scaling_factor


@torch.inference_mode()
def decoded(model: Model, latent: torch.Tensor) -> Image.Image:
    pixels = model.vae.decode(latent[None] / model.vae.config.scaling_factor, return_dict=False)[0][0]
    return Image.fromarray((((pixels + 1) / 2).clamp(0, 1) * 255).permute(1, 2, 0).to(torch.uint8).numpy())


def apart(one: torch.Tensor, other: np.ndarray) -> float:
    """Largest difference, relative to the largest value recorded."""
    wanted = torch.from_numpy(other)
    return float((one - wanted).abs().max() / wanted.abs().max())


def prepared(request: dict[str, Any]) -> tuple[Image.Image, Image.Image | None]:
    """The picture that is encoded, and its mask."""
    width, height = request["width"], request["height"]
    image = resize.flattened(given(request["init_images"][0]))
    if "mask" not in request:
        mode = request.get("resize_mode", 0)
        return (image if mode == 3 else resize.resize_image(mode, image, width, height)), None
    blur = request.get("mask_blur", 4)
    mask = masks.prepared(given(request["mask"]), request.get("mask_round", True), False, blur, blur)
    if request.get("inpaint_full_res", True):
        box = masks.only_masked(mask, 0, width, height)
        assert box is not None
        image, mask = masks.cropped(image, box, width, height), masks.cropped(mask, box, width, height)
    return (masks.filled(image, mask) if request.get("inpainting_fill", 0) != 1 else image), mask


@pytest.mark.parametrize(
    "name", ["resize1", "resize3", "rgba", "inp_blur12", "inp_fill0", "inp_nothing3", "inp_default"]
)
def test_what_is_encoded_is_what_the_webui_encoded(name: str, model: Model) -> None:
    request, arrays = case(name)
    image, mask = prepared(request)
    latent = encoded(model, image)
    if request.get("resize_mode") == 3:
        latent = torch.nn.functional.interpolate(latent[None], size=(16, 16), mode="bilinear")[0]
    if request.get("inpainting_fill") == 3:
        assert mask is not None
        latent = latent * (1 - torch.from_numpy(masks.latent_mask(mask, 16, 16, rounded=True)))
    assert apart(latent, arrays["call0_x"][0]) < TOLERANCE


@torch.inference_mode()
def test_soft_inpainting_draws_the_recorded_latent_and_picture(model: Model) -> None:
    request, arrays = case("inp_soft")
    original = given(request["init_images"][0]).convert("RGB")
    mask = masks.prepared(given(request["mask"]), False, False, 8, 8)
    repaint = masks.latent_mask(mask, 16, 16, rounded=False)
    kept = torch.from_numpy(arrays["call0_x"][0])

    def blend(clean: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.from_numpy(soft.blended(clean.numpy(), kept.numpy(), repaint, sigma, SoftInpainting()))

    contexts = torch.stack([torch.from_numpy(arrays[f"call0_{row}_t0_end12"]).float() for row in ("c_b0_s0", "uc_b0")])
    x = walked(model, request, arrays, contexts, blend)
    assert apart(x, arrays["iter0_latent"][0]) < TOLERANCE
    seen = soft.composite_mask(x.numpy(), kept.numpy(), repaint, 128, 128, SoftInpainting())
    result = masks.composed(decoded(model, x), masks.overlay(original, seen))
    recorded = Image.open(REFERENCE / "img2img" / "inp_soft.0.png")
    assert np.abs(np.asarray(result).astype(int) - np.asarray(recorded)).max() <= 2


def walked(
    model: Model, request: dict[str, Any], arrays: dict[str, np.ndarray], contexts: torch.Tensor, blend: Any
) -> torch.Tensor:
    """Euler's method over the last steps of the model's uniform schedule, Karras et al. 2022, algorithm 2 without churn."""
    steps, strength = request["steps"], request["denoising_strength"]
    times = torch.linspace(999, 0, steps)
    sigmas = torch.cat([model.sigmas.to_sigma(times), torch.zeros(1)])[steps - int(strength * steps) - 1 :]
    x = torch.from_numpy(arrays["call0_x"][0] + arrays["call0_noise"][0] * float(sigmas[0]))
    for sigma, following in itertools.pairwise(sigmas):
        t = model.sigmas.to_t(sigma.reshape(1)).expand(2)
        rows = (x / (sigma**2 + 1).sqrt()).expand(2, -1, -1, -1)
        cond, uncond = model.unet(rows, t, encoder_hidden_states=contexts, return_dict=False)[0]
        clean = blend(x - (uncond + request["cfg_scale"] * (cond - uncond)) * sigma, float(sigma))
        x = x + (x - clean) / sigma * (following - sigma)
    return x


@pytest.mark.parametrize("fill", [0, 1])
def test_a_mask_is_fitted_where_the_latent_is_stretched(fill: Literal[0, 1]) -> None:
    """Resize mode 3 knows no mask: the WebUI fits it as mode 2 does, while the picture keeps its size."""
    mask = Image.new("L", (160, 96))
    mask.paste(255, (0, 0, 80, 96))
    inpaint = Inpaint(mask="", blur_x=0, blur_y=0, fill=fill)
    request = GenerateRequest(kind="img2img", width=64, height=64, resize_mode=3, inpaint=inpaint)
    made = canvas(request, Image.new("RGB", (160, 96), "red"), mask, None)
    assert made.image.size == (160, 96)
    assert made.mask is not None
    assert made.mask.size == (64, 64)
    fitted = resize.resize_image(resize.FILL, mask, 64, 64)
    assert np.array_equal(np.asarray(made.mask), np.asarray(fitted))


def test_an_upscaler_enlarges_what_is_cut_out(shared_bench: Bench) -> None:
    """upscaler_for_img2img counts for the part that "only masked" cuts out, and not for the rest."""
    studio = shared_bench.workshop.studio
    image = given("inputs/check160x96.png")
    mask = Image.new("L", image.size)
    mask.paste(255, (16, 16, 48, 48))
    names = studio.hold(image), studio.hold(mask)
    inpaint = Inpaint(mask=names[1], blur_x=0, blur_y=0, only_masked=True)
    found = []
    for upscaler in ("", "Nearest"):
        request = GenerateRequest(
            kind="img2img",
            width=64,
            height=64,
            init_images=names[:1],
            inpaint=inpaint,
            options=DrawOptions(upscaler_for_img2img=upscaler),
        )
        walk, answer = _canvas(Scene(request, 0, studio, Track(1))), None
        while True:
            try:
                call = walk.send(answer)
            except StopIteration as stop:
                found.append(np.asarray(stop.value.image))
                break
            assert isinstance(call, Work)
            answer = call.run()
    cut = image.convert("RGB").crop((16, 16, 48, 48))
    assert np.array_equal(found[1], np.asarray(cut.resize((64, 64), Image.Resampling.NEAREST)))
    assert np.array_equal(found[0], np.asarray(cut.resize((64, 64), Image.Resampling.LANCZOS)))
