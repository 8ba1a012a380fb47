"""Runs a group of calls in one forward pass. Knows networks and the device; knows no queue, no job and no user."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from danqing.engine.calls import Decode, Encode, Row
from danqing.engine.models import Model
from danqing.engine.scheduler import Kind
from danqing.errors import DanqingError

if TYPE_CHECKING:
    import numpy as np

CONDITIONINGS = 256
"""Prompts whose conditioning is remembered."""


class Runner:
    """The device side of the engine.

    Args:
        device: where the networks are.
        threads: CPU threads, 0 for one per core.
    """

    def __init__(self, device: torch.device, threads: int = 0) -> None:
        self.device = device
        if threads:
            torch.set_num_threads(threads)
        self._conditionings: OrderedDict[tuple[Any, ...], torch.Tensor] = OrderedDict()

    @torch.inference_mode()
    def run(self, kind: Kind, payloads: Sequence[Any]) -> list[Any]:
        """One answer per payload: an `Encode`, a tuple of `Row`s, or a `Decode` each, all with the same batch key."""
        if kind is Kind.ENCODE:
            return self._encode(payloads)
        if kind is Kind.DENOISE:
            return self._denoise(payloads)
        return list(self._decode(payloads))

    def remembered(self, call: Encode) -> torch.Tensor | None:
        """The conditioning of a prompt encoded not long ago."""
        key = _encode_key(call)
        found = self._conditionings.get(key)
        if found is not None:
            self._conditionings.move_to_end(key)
        return found

    def forget(self, model: Model) -> None:
        """Drop what is remembered of a model that leaves memory."""
        for key in [key for key in self._conditionings if key[0] == model.key]:
            del self._conditionings[key]

    def _denoise(self, payloads: Sequence[tuple[Model, tuple[Row, ...]]]) -> list[list[torch.Tensor]]:
        model = payloads[0][0]
        rows = [row for _, part in payloads for row in part]
        dtype = model.unet.dtype
        x = torch.stack([row.x for row in rows]).to(self.device, dtype)
        t = torch.tensor([row.t for row in rows], dtype=torch.float32, device=self.device)
        context = torch.stack([row.context for row in rows]).to(self.device, dtype)
        out = model.unet(x, t, encoder_hidden_states=context, return_dict=False)[0].float().cpu()
        answers, start = [], 0
        for _, part in payloads:
            answers.append(list(out[start : start + len(part)].unbind(0)))
            start += len(part)
        return answers

    def _encode(self, calls: Sequence[Encode]) -> list[torch.Tensor]:
        model: Model = calls[0].model
        tokens = torch.tensor([chunk.tokens for call in calls for chunk in call.chunks], device=self.device)
        skip = calls[0].clip_skip
        out = model.text(input_ids=tokens, output_hidden_states=skip > 1)
        hidden = out.last_hidden_state
        if skip > 1:
            layer = min(skip, len(out.hidden_states))
            hidden = model.text.final_layer_norm(out.hidden_states[-layer])
        answers, start = [], 0
        for call in calls:
            answer = _weighted(hidden[start : start + len(call.chunks)].float(), call)
            self._remember(call, answer)
            answers.append(answer)
            start += len(call.chunks)
        return answers

    def _remember(self, call: Encode, answer: torch.Tensor) -> None:
        self._conditionings[_encode_key(call)] = answer
        while len(self._conditionings) > CONDITIONINGS:
            self._conditionings.popitem(last=False)

    def _decode(self, calls: Sequence[Decode]) -> list[np.ndarray | DanqingError]:
        model: Model = calls[0].model
        latents = torch.stack([call.latent for call in calls])
        scaled = (latents / model.vae.config.scaling_factor).to(self.device, model.vae.dtype)
        images = model.vae.decode(scaled, return_dict=False)[0].float().cpu()
        answers: list[np.ndarray | DanqingError] = []
        for image in images:
            if not bool(torch.isfinite(image).all()):
                answers.append(DanqingError("nan_picture", name=model.checkpoint.name))
                continue
            pixels = ((image + 1) / 2).clamp(0, 1) * 255
            answers.append(pixels.permute(1, 2, 0).to(torch.uint8).contiguous().numpy())
        return answers


def _encode_key(call: Encode) -> tuple[Any, ...]:
    return call.model.key, call.chunks, call.clip_skip


def _weighted(hidden: torch.Tensor, call: Encode) -> torch.Tensor:
    """Emphasis: each token's vector times its weight, then the chunk's mean brought back to what it was.

    hidden: (chunks, 77, dim). Returns (77 * chunks, dim).
    """
    if any(weight != 1.0 for chunk in call.chunks for weight in chunk.weights):
        weights = torch.tensor([chunk.weights for chunk in call.chunks], device=hidden.device)
        weighted = hidden * weights[..., None]
        before, after = hidden.mean(dim=(1, 2), keepdim=True), weighted.mean(dim=(1, 2), keepdim=True)
        ratio = before / after
        hidden = weighted * torch.where(torch.isfinite(ratio), ratio, torch.ones_like(ratio))
    return hidden.reshape(-1, hidden.shape[-1])
