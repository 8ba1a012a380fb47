"""Runs a group of calls in one forward pass. Knows networks and the device; knows no queue, no job and no user."""

from __future__ import annotations

import contextlib
import sys
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from danqing.engine import encoding, feature_cache, memory, offload, unet, vae
from danqing.engine.calls import Conditioning, Denoise, Encode, Row
from danqing.engine.compiled import CompiledNetworks
from danqing.engine.device import CPU, DeviceClass, attending
from danqing.engine.models import Model
from danqing.engine.patching import Patcher
from danqing.engine.scheduler import Kind
from danqing.engine.tiling import circular
from danqing.engine.token_merging import merged_tokens

CONDITIONINGS = 256
"""Prompts whose conditioning is remembered."""


class Runner:
    """The device side of the engine.

    Args:
        device: where the networks are.
        threads: CPU threads, 0 for one per core.
        compiled: the compiled code of models in memory; None draws eagerly.
        row: how networks run on the device.
    """

    def __init__(
        self, device: torch.device, threads: int = 0, compiled: CompiledNetworks | None = None, row: DeviceClass = CPU
    ) -> None:
        self.device = device
        if threads:
            torch.set_num_threads(threads)
        self._row = row
        self._patcher = Patcher()
        self._chunks = encoding.ChunkMemory()
        self.compiled = compiled or CompiledNetworks(None)
        self.kept_elsewhere: list[Callable[[], object]] = []
        """What else `relax` calls."""
        self._conditionings: OrderedDict[tuple[Any, ...], tuple[Conditioning, ...]] = OrderedDict()

    @torch.inference_mode()
    def run(self, kind: Kind, payloads: Sequence[Any]) -> list[Any]:
        """One answer per payload: calls of one kind with the same batch key; a `Denoise` comes as (call, its rows here)."""
        match kind:
            case Kind.ENCODE:
                return self._encode(payloads)
            case Kind.DENOISE:
                return self._denoise(payloads)
            case Kind.DECODE:
                return list(vae.decode(payloads, self.device, self.compiled.vaes.run))
            case Kind.ENCODE_IMAGE:
                return list(vae.encode(payloads, self.device, self.compiled.vaes.run))
            case Kind.ENLARGE:
                from danqing.upscale import networks  # reads torchvision: only those who enlarge pay for it

                return [networks.run(c.path, c.pixels, c.tile, c.overlap, self.device) for c in payloads]

    def remembered(self, call: Encode) -> tuple[Conditioning, ...] | None:
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
        self._chunks.forget(model.key)
        self.compiled.forget(model)

    def relax(self) -> None:
        """Let go of what is kept for speed alone, and hand the memory back to the device."""
        self._conditionings.clear()
        self._chunks.forget()
        self._patcher.forget()
        self.compiled.relax()
        if "danqing.upscale.networks" in sys.modules:
            sys.modules["danqing.upscale.networks"].forget()
        for forget in self.kept_elsewhere:
            forget()
        memory.give_back()

    def alone(self, kind: Kind, payloads: Sequence[Any]) -> AbstractContextManager[None]:
        """While this lasts, only what these calls need of their checkpoints is on the device."""
        calls = [payload[0] if kind is Kind.DENOISE else payload for payload in payloads]
        models = {id(call.model): call.model for call in calls if hasattr(call, "model")}
        return offload.aside(kind, tuple(models.values()), self.device)

    def _denoise(self, payloads: Sequence[tuple[Denoise, list[Row]]]) -> list[list[torch.Tensor]]:
        call = payloads[0][0]
        model: Model = call.model
        rows = [row for _, part in payloads for row in part]
        batch = unet.batch_of(model, rows, self.device)
        out = self._by_compiled(call, batch)
        if out is None:
            tiled = (model.unet,) if call.tiling else ()
            with (
                circular(*tiled),
                merged_tokens(model.unet, call.merging),
                self._patcher.patched(model, call.adapters, "unet"),
            ):
                out = self._eagerly(call, batch, rows)
        out = out.float()
        answers, start = [], 0
        for _, part in payloads:
            answers.append(list(out[start : start + len(part)].unbind(0)))
            start += len(part)
        return answers

    def _eagerly(self, call: Denoise, batch: unet.Batch, rows: list[Row]) -> torch.Tensor:
        slots = [row.features for row in rows]
        if call.caching == "reuse":
            return feature_cache.reused(batch.step, slots)
        with (
            attending(self._row),
            feature_cache.keeping(call.model.unet, slots) if call.caching else contextlib.nullcontext(),
        ):
            return unet.eager(batch)

    def _by_compiled(self, call: Denoise, batch: unet.Batch) -> torch.Tensor | None:
        """The answer of compiled code, where some fits; None where the eager network must run."""
        model: Model = call.model
        if call.tiling or call.merging or call.caching:
            return None
        additions = self._patcher.additions(model, call.adapters)
        run = self.compiled.network(batch, additions, call.adapters)
        if run is None:
            return None
        try:
            return run()
        except RuntimeError as error:
            if memory.is_out_of_memory(error):
                raise
            self.compiled.refuse(batch, additions, error)
            return None

    def _encode(self, calls: Sequence[Encode]) -> list[tuple[Conditioning, ...]]:
        with self._patcher.patched(calls[0].model, calls[0].adapters, "text"):
            answers = [
                tuple(one.on(self.device) for one in row) for row in encoding.encode(calls, self.device, self._chunks)
            ]
        for call, answer in zip(calls, answers, strict=True):
            self._conditionings[_encode_key(call)] = answer
        while len(self._conditionings) > CONDITIONINGS:
            self._conditionings.popitem(last=False)
        return answers


def _encode_key(call: Encode) -> tuple[Any, ...]:
    return call.model.key, call.prompts, call.clip_skip, call.emphasis, call.adapters, call.tiling
