"""One pass of a picture: the model, its conditionings and its sampler, put together from a request."""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from danqing.engine import catalog, control_pass, told
from danqing.engine.calls import Call, Decode, EncodeImage, Load, Track
from danqing.engine.conditioning import Conditionings, conditionings, widths_of
from danqing.engine.extras import restored_faces
from danqing.engine.guidance import EDIT_CHANNELS, Guide, Switch
from danqing.engine.networks import Resolved
from danqing.engine.noise import PictureNoise
from danqing.engine.sampling import Blend, ModelView, SampleSpec, calls_of, prompt_steps, sample, sigmas_of
from danqing.engine.studio import Studio
from danqing.engine.unplaced import unplaced
from danqing.errors import DanqingError
from danqing.options import DrawOptions
from danqing.prompt.networks import without_tags
from danqing.request import GenerateRequest
from danqing.upscale.faces import RESTORERS, weights

if TYPE_CHECKING:
    from danqing.engine.models import Model
    from danqing.library.embeddings import Embedding

INPAINT_CHANNELS, DEPTH_CHANNELS = 9, 5
"""Input channels of UNets that see more than the latent: mask and masked picture, depth (`EDIT_CHANNELS`: a picture)."""

TIMESTEPS = 1000


@dataclass(slots=True)
class Scene:
    """A picture of a job while it is drawn. `pairs` gathers what its infotext says beyond the request."""

    request: GenerateRequest
    index: int
    studio: Studio
    track: Track
    pairs: dict[str, str | int | float] = field(default_factory=dict)
    added: str = ""
    """Tags of networks that options put behind the prompt."""
    maps: list[np.ndarray[Any, Any]] = field(default_factory=list)
    """Control maps to be shown, in the order of units and passes."""

    def tell(self, pairs: told.Pairs) -> None:
        """Add to the infotext; what is already told keeps its place."""
        self.pairs.update(pairs)

    @property
    def seed(self) -> int:
        """With a variation all pictures of a job share the seed and differ in the subseed (spec 8)."""
        return self.request.seed + (0 if self.request.subseed_strength > 0 else self.index)

    @property
    def subseed(self) -> int:
        return self.request.subseed + self.index

    def noise(self) -> PictureNoise:
        """A new source for one pass: every pass begins with the seed's first draw."""
        request = self.request
        return PictureNoise(
            request.rng,
            self.seed,
            subseed=self.subseed,
            subseed_strength=request.subseed_strength,
            resize_from=(max(0, request.seed_resize_from_w), max(0, request.seed_resize_from_h)),
            ensd=request.options.eta_noise_seed_delta,
        )


@dataclass(frozen=True, slots=True)
class Stage:
    """What one pass differs in: the first pass, image to image, or hires fix's second pass."""

    model: str
    prompt: str
    negative_prompt: str
    sampler: str
    scheduler: str
    steps: int
    width: int
    height: int
    hires: bool = False
    start: torch.Tensor | None = None
    denoising: float | None = None
    steps_given: bool = False
    noise_multiplier: float = 1.0
    blend: Blend | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the latent: channels, height, width."""
        return 4, self.height // 8, self.width // 8


def first_stage(request: GenerateRequest) -> Stage:
    """The pass that begins from noise."""
    return Stage(
        model=request.model,
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        sampler=request.sampler,
        scheduler=request.scheduler,
        steps=request.steps,
        width=request.width,
        height=request.height,
    )


def spec_of(request: GenerateRequest, stage: Stage, view: ModelView) -> SampleSpec:
    """What the sampler is told of a pass."""
    return SampleSpec(
        sampler=stage.sampler,
        schedule=stage.scheduler,
        steps=stage.steps,
        view=view,
        shape=stage.shape,
        options=request.options,
        eta=catalog.eta_of(request, catalog.sampler(stage.sampler)),
        s_churn=_sampler_value(request, "s_churn"),
        s_tmin=_sampler_value(request, "s_tmin"),
        s_tmax=_sampler_value(request, "s_tmax"),
        s_noise=_sampler_value(request, "s_noise"),
        start_latent=stage.start,
        denoising=stage.denoising,
        steps_given=stage.steps_given,
        noise_multiplier=stage.noise_multiplier,
        blend=stage.blend,
    )


def _sampler_value(request: GenerateRequest, name: str) -> float | None:
    """A sampler parameter: the option where it is not at its default, else the request's (spec 9.4)."""
    option: float = getattr(request.options, name)
    value: float | None = getattr(request, name)
    return value if option == DrawOptions.model_fields[name].default else option


def stage_calls(request: GenerateRequest, stage: Stage, view: ModelView) -> int:
    """Denoiser calls that the pass takes, for progress."""
    return calls_of(spec_of(request, stage, view))


@dataclass(slots=True)
class Hands:
    """A pass made ready: the guide, and what the sampler must know of its model, which a refiner may replace."""

    guide: Guide
    view: ModelView
    networks: Resolved

    @property
    def model(self) -> Model:
        return self.guide.model


def view_of(model: Model) -> ModelView:
    """What a sampler must know of `model`."""
    return ModelView(model.sigmas, model.prediction, model.family.startswith("sdxl"), model.unet.device)


def short_title(model: Model) -> str:
    """A checkpoint in an infotext: its file's name and the first ten digits of its hash."""
    return f"{model.checkpoint.base} [{model.hash10}]"


def load(scene: Scene, name: str) -> Generator[Call, Any, Model]:
    """The checkpoint of this name with the VAE that belongs to it."""
    checkpoint = scene.studio.checkpoint(name)
    model: Model = yield Load(checkpoint, scene.studio.vae(checkpoint, scene.request))
    return model


def ready(scene: Scene, stage: Stage, reading: Resolved | None = None) -> Generator[Call, Any, Hands]:
    """Load and encode for a pass. `reading`: the networks that the prompts are encoded with, where they are not its own."""
    request = scene.request
    model = yield from load(scene, stage.model)
    scene.track.model = model
    networks = scene.studio.resolved(stage.prompt, request)
    scene.tell(told.with_lora_hashes(scene.pairs if stage.hires else {}, networks.infotext))
    scene.added = scene.added or networks.added
    scene.track.notes.extend((*networks.notes, *unplaced(model, networks.adapters)))
    view = view_of(model)
    steps, base = _prompt_steps(request, stage, view)
    scene.tell(told.of_prompts(request, stage, steps, base))
    encoded = yield from _encoded(scene, stage, model, view, reading or networks)
    if not stage.hires:  # of a second pass the WebUI does not tell what its prompts alone name
        scene.tell(dict(encoded.infotext))
    row = catalog.sampler(stage.sampler)
    hints = (yield from control_pass.units(scene, stage, model)) if request.control else None
    guide = Guide(
        request,
        model,
        encoded,
        adapters=networks.adapters,
        merging=_merging(request, stage),
        empty=encoded.empty,
        scale=request.cfg_scale / row.cfg_divisor,
        both=row.needs_uncond,
        size=(stage.width, stage.height),
        hints=hints,
    )
    hands = Hands(guide, view, networks)
    guide.switch = _refiner(scene, stage, hands)
    return hands


def _encoded(
    scene: Scene, stage: Stage, model: Model, view: ModelView, networks: Resolved
) -> Generator[Call, Any, Conditionings]:
    request = scene.request
    steps, base = _prompt_steps(request, stage, view)
    bundled = scene.studio.embeddings.bundled(one.path for one in networks.adapters if one.kind == "lora")
    found = yield from conditionings(
        request,
        model,
        steps,
        hires=stage.hires,
        prompt=without_tags(stage.prompt),
        negative_prompt=stage.negative_prompt,
        adapters=networks.adapters,
        base_steps=base,
        empty=request.options.pad_cond_uncond,
        embeddings=scene.studio.embeddings,
        bundled=bundled,
    )
    scene.track.notes.extend(_misfits(scene, stage, model, bundled))
    return found


def _prompt_steps(request: GenerateRequest, stage: Stage, view: ModelView) -> tuple[int, int | None]:
    """Steps that the prompts' schedules are made for: of the pass, and of the first one for a hires pass."""
    steps = prompt_steps(spec_of(request, stage, view))
    return steps, prompt_steps(spec_of(request, first_stage(request), view)) if stage.hires else None


def _misfits(scene: Scene, stage: Stage, model: Model, bundled: tuple[Embedding, ...]) -> list[DanqingError]:
    """Of the embeddings that the prompts name, those that the model cannot read."""
    widths = widths_of(model)
    unfit = {one.name: None for one in bundled if not one.fits(widths)} | scene.studio.embeddings.unfit(widths)
    text = f"{without_tags(stage.prompt)}\n{stage.negative_prompt}"
    return [
        DanqingError("embedding_misfit", name=name[:100], model=model.checkpoint.name) if error is None else error
        for name, error in unfit.items()
        if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text, re.IGNORECASE)
    ]


def _merging(request: GenerateRequest, stage: Stage) -> float:
    options = request.options
    if stage.hires and options.token_merging_ratio_hr:
        return options.token_merging_ratio_hr
    if request.kind == "img2img" and options.token_merging_ratio_img2img:
        return options.token_merging_ratio_img2img
    return options.token_merging_ratio


def _refiner(scene: Scene, stage: Stage, hands: Hands) -> Switch | None:
    request = scene.request
    name, at = request.refiner_checkpoint, request.refiner_switch_at
    if not name or at >= 1 or _is(scene, name, hands.model):
        return None
    wanted = request.options.hires_fix_refiner_pass
    if request.hires is not None and wanted != "both passes" and (wanted == "second pass") != stage.hires:
        return None
    by_steps = request.options.refiner_switch_by_sample_steps
    sigmas = sigmas_of(spec_of(request, stage, hands.view)).sigmas

    def due(t: float, sigma: float, call: int, total: int) -> bool:
        if by_steps:
            return call / max(total, 1) >= at
        # Samplers along timesteps hand in t itself, the others a sigma whose nearest training step counts.
        nearest = int(t) if sigma == t else int((sigmas - sigma).abs().argmin())
        return (TIMESTEPS - 1 - nearest) / TIMESTEPS >= at

    def take_over() -> Generator[Call, Any, tuple[Model, Conditionings]]:
        model = yield from load(scene, name)
        control_pass.check_refiner(request, hands.model, model)
        if request.hires is not None and wanted != "second pass":
            hands.guide.told["Hires refiner"] = wanted
        hands.guide.told |= {"Refiner": short_title(model), "Refiner switch at": at}
        encoded = yield from _encoded(scene, stage, model, hands.view, hands.networks)
        scene.track.model = model
        fresh = view_of(model)
        hands.view.sigmas, hands.view.prediction, hands.view.xl = fresh.sigmas, fresh.prediction, fresh.xl
        return model, encoded

    return Switch(due, take_over)


def _is(scene: Scene, name: str, model: Model) -> bool:
    """Whether the name is that of the model's own checkpoint."""
    return scene.studio.checkpoint(name).filename == model.checkpoint.filename


def sampled(scene: Scene, stage: Stage, hands: Hands, noise: Any = None) -> Generator[Call, Any, torch.Tensor]:
    """Run the pass's sampler; the final latent, (4, h, w). `noise` takes the place of the picture's own."""
    spec = spec_of(scene.request, stage, hands.view)
    scene.tell(told.of_noise(scene.request) | told.of_sampling(scene.request, stage))
    latent = yield from sample(spec, hands.guide.predict, noise or scene.noise(), scene.track)
    scene.tell(hands.guide.told)
    return latent


def decoded(scene: Scene, model: Model, latent: torch.Tensor) -> Generator[Call, Any, Any]:
    """uint8 pixels (8h, 8w, 3) of a latent."""
    pixels = yield Decode(model, latent, scene.request.tiling, scene.request.options.vae_tile)
    return pixels


def with_faces(scene: Scene, pixels: np.ndarray[Any, Any]) -> Generator[Call, Any, np.ndarray[Any, Any]]:
    """The picture with its faces restored, where the request asks for it and the network is on disk (spec 2.4)."""
    name = scene.request.options.face_restoration_model
    if not scene.request.restore_faces:
        return pixels
    scene.tell({"Face restoration": name})
    if name not in RESTORERS:
        return pixels
    try:
        weights(scene.studio.data, name)
    except DanqingError:
        return pixels
    restored = yield from restored_faces(scene.studio.data, name, pixels)
    return restored


def encoded_image(scene: Scene, model: Model, pixels: torch.Tensor) -> Generator[Call, Any, torch.Tensor]:
    """The scaled latent of pixels (h, w, 3) in -1..1. What is beyond whole eighths has no latent of its own but is seen."""
    latent: torch.Tensor = yield EncodeImage(model, pixels, scene.request.tiling, scene.request.options.vae_tile)
    return latent


def blank_concat(scene: Scene, model: Model, stage: Stage) -> Generator[Call, Any, torch.Tensor | None]:
    """What a model of more than four input channels sees where there is no picture (spec 13.5).

    Raises:
        DanqingError: `not_available`, for a depth-guided model, which cannot do without.
    """
    channels = model.in_channels
    _, height, width = stage.shape
    if channels == INPAINT_CHANNELS:
        scene.tell({"Conditional mask weight": scene.request.options.inpainting_mask_weight})
        grey = yield from encoded_image(scene, model, torch.zeros(height * 8, width * 8, 3))
        return torch.cat([torch.ones(1, height, width), grey])
    if channels == EDIT_CHANNELS:
        return torch.zeros(4, height, width)
    if channels == DEPTH_CHANNELS:
        raise DanqingError("not_available", feature="depth-guided checkpoint without a depth map")
    return None
