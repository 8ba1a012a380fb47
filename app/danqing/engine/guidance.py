"""Guidance: which rows a step asks the UNet for, and how their answers become one prediction.

Classifier-free guidance, Ho and Salimans 2022 (https://arxiv.org/abs/2207.12598), with weighted parts (AND), steps that skip
the unconditional row, and the double guidance of InstructPix2Pix, Brooks et al. 2022 (https://arxiv.org/abs/2211.09800).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch

from danqing.engine import tiled_denoising
from danqing.engine.calls import Adapters, Call, Conditioning, Denoise, Row
from danqing.engine.colour_fix import Said
from danqing.engine.conditioning import Conditionings, Moment
from danqing.engine.device import placed
from danqing.engine.sampling import Prediction
from danqing.errors import DanqingError
from danqing.request import GenerateRequest

if TYPE_CHECKING:
    from danqing.engine.models import Model

EDIT_CHANNELS = 8
"""Input channels of an instruct-pix2pix UNet."""

TILES_AT_ONCE = 32
"""Rows of tiles in one call: more would grow the memory with the picture again."""

Answer = Generator[Call, Any, Prediction]


class Hints(Protocol):
    """What the control units of a request add to a row."""

    def at(self, call: int, total: int, *, unconditional: bool) -> tuple[Any, ...]:
        """Hints of the units that are active at this denoiser call."""
        ...

    def settled(self, said: torch.Tensor, moment: Said, call: int, total: int) -> torch.Tensor:
        """What the network said, (4, h, w), as the units leave it."""
        ...


@dataclass(frozen=True, slots=True)
class Switch:
    """When another checkpoint takes over, and how to get it with its conditionings."""

    due: Callable[[float, float, int, int], bool]
    """(t, sigma, call, total) to whether it is time."""
    load: Callable[[], Generator[Call, Any, tuple[Model, Conditionings]]]


@dataclass(slots=True)
class Guide:
    """Guides one sampling. `model` and `conditionings` change when a refiner takes over.

    `concat`: (C, h, w), what a model of more than four input channels wants beside the latent. `vector`: the added
    conditioning of SDXL for a pooled embedding.
    """

    request: GenerateRequest
    model: Model
    conditionings: Conditionings
    adapters: Adapters = ()
    merging: float = 0.0
    concat: torch.Tensor | None = None
    empty: Conditioning | None = None
    """The empty prompt's conditioning, for the option pad_cond_uncond."""
    scale: float | None = None
    """The guidance scale, where it is not the request's: DDIM CFG++ counts otherwise."""
    both: bool = False
    """The sampler wants the unconditional prediction too, at any scale."""
    size: tuple[int, int] = (512, 512)
    """Width and height of the pass in pixels."""
    hints: Hints | None = None
    switch: Switch | None = None
    told: dict[str, str | int | float] = field(default_factory=dict)
    """What the infotext says of steps that were guided otherwise."""
    _features: dict[int, list[torch.Tensor]] = field(default_factory=dict)
    """Features kept between steps, by the row's place; -1 is the unconditional one."""

    def predict(self, x: torch.Tensor, t: float, sigma: float, call: int, total: int) -> Answer:
        """The guided prediction for a scaled x (4, h, w) at timestep t; `call` counts the denoiser's calls from 0."""
        if self.request.options.refiner_switch_by_sample_steps:  # the WebUI tells it with or without a refiner
            self.told["Refiner switch by sampling steps"] = "True"
        if self.switch is not None and self.switch.due(t, sigma, call, total):
            self.model, self.conditionings = yield from self.switch.load()
            self.switch = None
            self._features.clear()
        moment = self._padded(self.conditionings.at(call))
        if self._edits:
            return (yield from self._edit(x, t, moment))
        skip = self._skips(sigma, call, total)
        scale = 1.0 if skip else self.request.cfg_scale if self.scale is None else self.scale
        # With scale 1 and one part of weight 1 the unconditional row cancels out.
        alone = skip or (not self.both and scale == 1.0 and len(moment.parts) == 1 and moment.parts[0][1] == 1.0)
        rows = [self._row(x, t, part, call, total, negative=False) for part, _ in moment.parts]
        if not alone:
            rows.append(self._row(x, t, moment.uncond, call, total, negative=True))
        out = yield from self._denoised(*self._with_features(rows, call, alone))
        if self.hints is not None:
            out = [self.hints.settled(said, self._said(row), call, total) for row, said in zip(rows, out, strict=True)]
        uncond: torch.Tensor = out[0] if alone else out[-1]
        guided = uncond
        for (_, weight), part in zip(moment.parts, out, strict=False):
            guided = guided + (part - uncond) * (weight * scale)
        return Prediction(guided, uncond)

    def _skips(self, sigma: float, call: int, total: int) -> bool:
        options, low = self.request.options, self.request.s_min_uncond
        if options.skip_early_cond > 0 and call / max(total, 1) <= options.skip_early_cond:
            self.told["Skip Early CFG"] = options.skip_early_cond
            return True
        if options.cfg_end < 1 and call / max(total, 1) >= options.cfg_end:
            self.told["CFG end"] = options.cfg_end
            return True
        if low > 0 and sigma < low and (call % 2 == 1 or options.s_min_uncond_all):
            self.told["NGMS"] = low
            if options.s_min_uncond_all:
                self.told["NGMS all steps"] = "True"
            return True
        return False

    def _with_features(self, rows: list[Row], call: int, alone: bool) -> tuple[list[Row], str]:
        """The rows with the places of their features, and what is to become of these.

        Raises:
            DanqingError: `not_available`, with control units or tiles: their forwards have more to say than the last layer.
        """
        interval = self.request.options.feature_cache_interval
        if interval <= 1:
            return rows, ""
        if any(row.control for row in rows) or self.request.options.diffusion_tile:
            raise DanqingError("not_available", feature="feature caching with control units or diffusion tiles")
        self.told["Feature cache interval"] = interval
        places = list(range(len(rows))) if alone else [*range(len(rows) - 1), -1]
        fresh = call % interval == 0 or not all(self._features.get(place) for place in places)
        slots = [self._features.setdefault(place, []) for place in places]
        with_slots = [replace(row, features=slot) for row, slot in zip(rows, slots, strict=True)]
        return with_slots, "keep" if fresh else "reuse"

    def _denoised(self, rows: list[Row], caching: str = "") -> Generator[Call, Any, list[torch.Tensor]]:
        """What the network says of each row; of a large one, tile by tile where the request asks for tiles."""
        options = self.request.options
        _, height, width = rows[0].x.shape
        plan = tiled_denoising.plan_of(width, height, options.diffusion_tile, options.diffusion_tile_overlap)
        run = rows if plan is None else tiled_denoising.cut(rows, plan)
        out: list[torch.Tensor] = []
        for start in range(0, len(run), TILES_AT_ONCE):
            part = tuple(run[start : start + TILES_AT_ONCE])
            out += yield Denoise(self.model, part, self.adapters, self.request.tiling, self.merging, caching)
        return out if plan is None else tiled_denoising.joined(out, len(rows), plan)

    def _row(
        self,
        x: torch.Tensor,
        t: float,
        part: Conditioning,
        call: int,
        total: int,
        *,
        negative: bool,
        blank: bool = False,
    ) -> Row:
        if self.concat is not None:
            self.concat = placed(self.concat, x.device)
            x = torch.cat([x, torch.zeros_like(self.concat) if blank else self.concat])
        control = self.hints.at(call, total, unconditional=negative) if self.hints is not None else ()
        return Row(x, t, part.context, self._vector(part, negative), control)

    def _said(self, row: Row) -> Said:
        return Said(row.x[:4], row.t, self.model.sigmas.variant(self.request.options), self.model.prediction)

    def _vector(self, part: Conditioning, negative: bool) -> torch.Tensor | None:
        """SDXL: the pooled text and six numbers (original size, crop, target size); the refiner's five end in a score."""
        if part.pooled is None:
            return None
        (width, height), options = self.size, self.request.options
        numbers: list[float] = [height, width, options.sdxl_crop_top, options.sdxl_crop_left]
        if self.model.family == "sdxl-refiner":
            low, high = options.sdxl_refiner_low_aesthetic_score, options.sdxl_refiner_high_aesthetic_score
            numbers.append(low if negative else high)
        else:
            numbers += [height, width]
        return torch.cat([part.pooled, placed(torch.tensor(numbers), part.pooled.device)])

    @property
    def _edits(self) -> bool:
        return self.model.in_channels == EDIT_CHANNELS and self.request.image_cfg_scale != 1.0

    def _edit(self, x: torch.Tensor, t: float, moment: Moment) -> Answer:
        cond = moment.parts[0][0]
        rows = [
            self._row(x, t, cond, 0, 1, negative=False),
            self._row(x, t, moment.uncond, 0, 1, negative=True),
            self._row(x, t, moment.uncond, 0, 1, negative=True, blank=True),
        ]
        full, image, nothing = yield from self._denoised(rows)
        cfg, image_cfg = self.request.cfg_scale if self.scale is None else self.scale, self.request.image_cfg_scale
        return Prediction(nothing + cfg * (full - image) + image_cfg * (image - nothing), nothing)

    def _padded(self, moment: Moment) -> Moment:
        """Parts of one length, and the option's way of making the negative prompt as long."""
        longest = max(len(part.context) for part, _ in moment.parts)
        parts = tuple((_stretched(part, longest), weight) for part, weight in moment.parts)
        uncond, options = moment.uncond, self.request.options
        if len(uncond.context) == longest:
            return Moment(parts, uncond)
        if options.pad_cond_uncond_v0:
            self.told["Pad conds v0"] = "True"
            uncond = _stretched(uncond, longest)
        elif options.pad_cond_uncond and self.empty is not None:
            self.told["Pad conds"] = "True"
            longest = max(longest, len(uncond.context))
            parts = tuple((_filled(part, self.empty, longest), weight) for part, weight in parts)
            uncond = _filled(uncond, self.empty, longest)
        return Moment(parts, uncond)


def _stretched(part: Conditioning, length: int) -> Conditioning:
    """Cut to `length`, or its last vector repeated up to it."""
    context = part.context
    if len(context) == length:
        return part
    if len(context) > length:
        return Conditioning(context[:length], part.pooled)
    last = context[-1:].expand(length - len(context), -1)
    return Conditioning(torch.cat([context, last]), part.pooled)


def _filled(part: Conditioning, empty: Conditioning, length: int) -> Conditioning:
    """The empty prompt's encoding behind it, in whole chunks, up to `length`."""
    missing = (length - len(part.context)) // len(empty.context)
    if missing <= 0:
        return part
    return Conditioning(torch.cat([part.context, *[empty.context] * missing]), part.pooled)
