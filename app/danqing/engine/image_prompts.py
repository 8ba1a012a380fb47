"""IP-Adapters, Ye et al. 2023 (https://arxiv.org/abs/2308.06721): a picture as a prompt beside the text.

Every attention to the text gets a second one, to a few tokens that are made of the picture, with keys and values of its own:
softmax(Q K') V + w softmax(Q K_image') V_image.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from danqing.engine.control_files import key_of, misfit, named_failures
from danqing.engine.control_rows import Aid, Step, weights_of
from danqing.engine.image_encoder import ImageEncoder
from danqing.library.controls import Control
from danqing.library.tensors import TensorReader
from danqing.library.weights import Weights

if TYPE_CHECKING:
    from PIL import Image

    from danqing.engine.models import Model

Pair = tuple[torch.Tensor, torch.Tensor]

PROJECTION, LAYERS = "image_proj.", "ip_adapter."


@dataclass(slots=True, eq=False)
class ImagePrompter:
    """An IP-Adapter on a device. `pairs`: weights of keys and values for every attention to the text, in the UNet's order.

    `hidden`, `width`: whether it wants the image encoder's states or its vector, and how wide.
    """

    key: str
    project: Any
    pairs: tuple[Pair, ...]
    hidden: bool
    width: int
    outputs: int = 1

    @torch.no_grad()
    def tokens(self, encoder: ImageEncoder, picture: Image.Image) -> Pair:
        """Tokens (n, dim) of the picture, and those that stand for no picture."""
        found = [
            self.project(one.to(self.pairs[0][0].device, self.pairs[0][0].dtype))[0]
            for one in encoder.seen(picture, self.hidden)
        ]
        return found[0], found[1]


@dataclass(frozen=True, slots=True, eq=False)
class ImageHint:
    """What one unit shows one row. `tokens`, `nothing`: (n, dim), of the picture and of none. `weights`: one."""

    net: ImagePrompter
    tokens: torch.Tensor
    nothing: torch.Tensor
    weights: tuple[float, ...]

    @property
    def key(self) -> Hashable:
        return self.net.key

    def weighted(self, weights: tuple[float, ...]) -> ImageHint:
        """The same picture with another weight."""
        return ImageHint(self.net, self.tokens, self.nothing, weights)

    def sided(self, call: int, *, unconditional: bool) -> ImageHint:
        """The negative prompt sees what stands for no picture."""
        return ImageHint(self.net, self.nothing, self.nothing, self.weights) if unconditional else self

    def join(self, hints: Sequence[Any], step: Step, aid: Aid) -> None:
        """Let the rows attend to their pictures."""
        tokens = torch.stack([hint.tokens for hint in hints]).to(step.x.device, step.x.dtype)
        aid.images.append(ImagePrompts(self.net, tokens, weights_of(hints, step.x)[:, :, None]))


@dataclass(frozen=True, slots=True)
class ImagePrompts:
    """Of all rows: tokens (rows, n, dim) and weights (rows, 1, 1)."""

    net: ImagePrompter
    tokens: torch.Tensor
    weights: torch.Tensor


class _Attending:
    """An attention processor of diffusers: to the text, and to the pictures."""

    def __init__(self, rows: Sequence[tuple[Pair, ImagePrompts]]) -> None:
        self._rows = rows

    def __call__(
        self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, *_: Any, **__: Any
    ) -> torch.Tensor:
        query = attn.to_q(hidden_states)
        found = _attended(attn, query, attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        for (keys, values), prompts in self._rows:
            tokens = prompts.tokens
            seen = _attended(attn, query, functional.linear(tokens, keys), functional.linear(tokens, values))
            found = found + prompts.weights * seen
        out: torch.Tensor = attn.to_out[1](attn.to_out[0](found)) / attn.rescale_output_factor
        return out


def _attended(attn: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    q, k, v = (one.view(*one.shape[:2], attn.heads, -1).transpose(1, 2) for one in (query, key, value))
    return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


@contextmanager
def attending(unet: Any, prompts: Sequence[ImagePrompts]) -> Iterator[None]:
    """Within the context the UNet attends to the pictures of its rows."""
    places = cross_attentions(unet)
    before = [place.processor for place in places]
    for number, place in enumerate(places):
        place.processor = _Attending([(one.net.pairs[number], one) for one in prompts])
    try:
        yield
    finally:
        for place, processor in zip(places, before, strict=True):
            place.processor = processor


def cross_attentions(unet: Any) -> list[Any]:
    """The attentions to the text, in the order in which an IP-Adapter's file counts them."""
    return [module for name, module in unet.named_modules() if name.endswith(".attn2")]


def load_prompter(control: Control, model: Model, weights: Weights) -> ImagePrompter:
    """Read an IP-Adapter.

    Raises:
        DanqingError: `control_misfit`, `control_broken`.
    """
    unet = model.unet
    with named_failures(control), TensorReader(weights) as reader:
        state = {name: reader.get(name) for name in reader.entries}
        numbers = sorted({int(name.split(".")[1]) for name in state if name.startswith(LAYERS)})
        rows = [tuple(state[f"{LAYERS}{number}.to_{part}_ip.weight"] for part in "kv") for number in numbers]
        wanted = [(place.to_q.out_features, place.to_k.in_features) for place in cross_attentions(unet)]
        given = [tuple(keys.shape) for keys, _ in rows]
        if given != wanted:
            wrong = next((pair for pair in zip(given, wanted, strict=False) if pair[0] != pair[1]), None)
            raise misfit(control, model, f"to_k_ip: {wrong}" if wrong else f"{len(given)}, {len(wanted)} attentions")
        project = _projection(
            unet, {n.removeprefix(PROJECTION): v for n, v in state.items() if n.startswith(PROJECTION)}
        )
        pairs = tuple((k.to(unet.device, unet.dtype), v.to(unet.device, unet.dtype)) for k, v in rows)
    vector = state.get(PROJECTION + "proj.weight")
    seen = state.get(PROJECTION + "proj_in.weight", state.get(PROJECTION + "proj.0.weight"))
    width = int((seen if vector is None else vector).shape[1])  # type: ignore[union-attr]
    return ImagePrompter(key_of(control, model), project, pairs, vector is None, width)


def _projection(unet: Any, state: dict[str, torch.Tensor]) -> Any:
    """The network between the image encoder and the tokens, which diffusers tells from the names."""
    found = unet._convert_ip_adapter_image_proj_to_diffusers(state, low_cpu_mem_usage=False)
    return found.to(unet.device, unet.dtype).eval().requires_grad_(False)
